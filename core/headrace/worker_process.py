"""One worker process, as a supervisor starts it: ``python -m headrace.worker_process``.

Owns a process' life around a `Worker`: its signals, its exit status, what it says to its parent
and hears from it (see `headrace.orders`), and that it ends when its parent does.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from headrace.app import Headrace
from headrace.ending import end_tasks
from headrace.errors import BackendError, CapabilityError, ConfigError, HeadraceError, JobError
from headrace.logs import log_to_stderr, log_what_nobody_catches
from headrace.orders import DRAIN, GO, HURRY, STOP_SECONDS, Ending, Farewell, LastTaken, Order, Ready, Sign, Starting
from headrace.stalls import LOOK_SECONDS
from headrace.worker import Worker

logger = logging.getLogger("headrace")

#: Seconds that a process has, once its worker has ended, for what is left of the application: tasks
#: to be cancelled, threads, exit hooks. A handler that never returns would keep it for ever.
LEAVE_SECONDS: Final = 3.0
#: Seconds between two reports of what a process does that is not ready. They cost next to nothing, and a start is
#: short.
_START_LOOK_SECONDS: Final = 1.0
#: Characters of the longest problem that is told: it must fit into a socket's buffer, since nobody reads yet.
_LONGEST_PROBLEM: Final = 4 * 1024


def main(arguments: list[str]) -> int:
    """Carry out the order in ``arguments``: the line's file descriptor, and an `Order` as JSON."""
    line = socket.socket(fileno=int(arguments[0]))
    # Processes that handlers start must not hold it: when we are gone, it is closed.
    line.set_inheritable(False)
    order = msgspec.json.decode(arguments[1], type=Order)
    watch = _Watch(line)
    log_to_stderr(order.log_level, order.log_format, worker=f"{socket.gethostname()}:{os.getpid()}")
    log_what_nobody_catches()
    try:
        worker = _ProcessWorker(Headrace.load(order.config), order, line)
    except Exception as error:
        return _leave(line, _farewell_after(error, at_work=False))
    _in_thread(worker.tell_start)
    return asyncio.run(_work(worker, order, watch, line))


def _farewell_after(error: Exception, *, at_work: bool) -> Farewell | None:
    """What is said after an error has ended the worker; nothing if that is a crash, which is logged."""
    match error:
        case ConfigError() | CapabilityError() | JobError() | BackendError():
            logger.debug("refused", exc_info=error)
            ending = Ending.FAILED if isinstance(error, BackendError) else Ending.WRONG
            return Farewell(ending, str(error)[:_LONGEST_PROBLEM])
        case HeadraceError():
            logger.error("%s", error)
            return None
    if at_work:
        logger.error("an error of headrace's own, or of the lifespan, ends this process", exc_info=error)
        return None
    # The application's own: its lifespan, say. Where it comes from is half of the story.
    logger.error("this process cannot start", exc_info=error)
    return Farewell(Ending.BROKEN, f"{type(error).__name__}: {error}"[:_LONGEST_PROBLEM])


def _leave(line: socket.socket, farewell: Farewell | None) -> int:
    """Say how this process ends, and see to it that it does, whatever is left in it; its exit status."""
    status = 1 if farewell is None else 0
    # First, as nobody may read what is said.
    _in_thread(lambda: _end_after(LEAVE_SECONDS, status))
    if farewell is not None:
        _say(line, farewell)
    return status


class _ProcessWorker(Worker):
    """A worker that tells when it is ready, and takes nothing before it is told to."""

    may_be_cancelled = False  # it is told to end by its parent, or by a signal

    def __init__(self, app: Headrace, order: Order, line: socket.socket) -> None:
        super().__init__(app, order.queues, concurrency=order.concurrency, max_messages=order.max_messages)
        self.ended_by_parent = False
        self.is_ready = False
        self._line = line
        self._may_go = asyncio.Event()
        self._made = time.monotonic()
        self._began = 0.0
        self._lead = 0.0  #: seconds before its end at which a successor is asked for

    async def run(self, *, until_empty: bool = False) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.hear, b"")
        return await super().run(until_empty=until_empty)

    def tell_start(self) -> None:
        """Say every second what this one does until it is ready, which may be to block the event loop."""
        while not self.is_ready:
            self._mention(self._start())
            time.sleep(_START_LOOK_SECONDS)

    def _start(self) -> Starting:
        """What is to be known of a start that does not come to its end."""
        if not self.consumers:
            return Starting("imports its jobs and plugins")
        # In this order they are opened; the driver is what one has then.
        for consumer in self.consumers:
            if not hasattr(consumer, "driver"):
                backend = consumer.settings.backend
                if consumer.pops.error is None:
                    return Starting(f"opens the backend {backend!r}")
                return Starting(f"waits for the backend {backend!r}", waits=True)
        lifespan = self.app.config.lifespan
        return Starting("checks its jobs" if lifespan is None else f"is in the lifespan {lifespan}")

    async def until_wanted(self) -> None:
        self.is_ready = True
        # What this one has taken to get ready, twice as long to be safe, and what a sign may be late.
        self._lead = 2 * (time.monotonic() - self._made + LOOK_SECONDS)
        _say(self._line, Ready())
        waits = [self.loop.create_task(each) for each in (self._may_go.wait(), self._stop.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(waits)
        self._began = time.monotonic()

    def show_sign(self, silent: float, problem: str) -> None:
        self._mention(Sign(round(silent, 3), problem, self._nearly_done()))

    def started_last(self) -> None:
        self._mention(LastTaken())

    def _mention(self, report: Starting | Sign | LastTaken) -> None:
        """As `_say`, but a parent that does not read holds up neither the leases nor the jobs."""
        with contextlib.suppress(OSError):
            self._line.send(_line_of(report), socket.MSG_DONTWAIT)

    def _nearly_done(self) -> bool:
        """Whether, at the pace so far, the last of ``max_messages`` starts about when a successor can be ready."""
        if not self.max_messages or not self.started:
            return False
        pace = self.started / (time.monotonic() - self._began)
        return self.max_messages - self.started <= pace * self._lead

    def hear(self, word: bytes) -> None:
        """What the parent said; nothing: it is gone, or a signal came."""
        if word == GO:
            self._may_go.set()
            return
        self.ended_by_parent = True
        # One that is not ready may wait for its backend, and has nothing to end.
        if word == DRAIN and self.is_ready:
            self._may_go.set()
            self.drain()
            return
        self.stop()
        if word == HURRY:
            self.stop()


async def _work(worker: _ProcessWorker, order: Order, watch: "_Watch", line: socket.socket) -> int:
    """Let the worker work, and take leave; the exit status.

    Here, and not once `asyncio.run` has returned: that waits for tasks which ignore their
    cancellation, and for threads, as long as they like.
    """
    loop = asyncio.get_running_loop()
    limit = worker.shutdown_timeout + STOP_SECONDS

    def hear(word: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: this process is about to leave
            loop.call_soon_threadsafe(worker.hear, word)

    watch.attend(hear, limit)
    farewell: Farewell | None = None
    try:
        await worker.run(until_empty=order.until_empty)
        spent = worker.ended_by_parent or worker.overrun or 0 < worker.max_messages <= worker.handled
        farewell = Farewell(Ending.EMPTY if order.until_empty and not spent else Ending.REPLACE)
    except Exception as error:
        farewell = _farewell_after(error, at_work=worker.is_ready)
    finally:
        status = _leave(line, farewell)
    return status


class _Watch:
    """Passes on what the parent says, and ends this process when the parent is gone, however that ended.

    Reading from the line lasts as long as the parent does. It is read by a thread: a handler
    may block the event loop, or an import the start.
    """

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._hear: Callable[[bytes], object] | None = None
        self._early = bytearray()
        self._lock = threading.Lock()
        self._seconds = 0.0
        _in_thread(self._listen)

    def attend(self, hear: Callable[[bytes], object], seconds: float) -> None:
        """From now on, pass each word on to ``hear``, those that came before first.

        To lose the parent is an empty word, and the end ``seconds`` later at the latest.
        """
        with self._lock:
            self._hear, self._seconds = hear, seconds
            for number in self._early:
                hear(bytes((number,)))

    def _listen(self) -> None:
        try:
            while word := self._line.recv(1):
                with self._lock:
                    if self._hear is None:
                        self._early += word
                    else:
                        self._hear(word)
        except OSError:
            pass
        with self._lock:
            hear = self._hear
        if hear is not None:
            logger.error("the supervisor is gone; stopping")
            hear(b"")
        _end_after(self._seconds, 1)


def _say(line: socket.socket, report: Ready | Farewell) -> None:
    with contextlib.suppress(OSError):  # nobody is left to be told
        line.sendall(_line_of(report))


def _line_of(report: Starting | Ready | Sign | LastTaken | Farewell) -> bytes:
    return msgspec.json.encode(report) + b"\n"


def _end_after(seconds: float, status: int) -> None:
    time.sleep(seconds)
    logging.shutdown()
    os._exit(status)


def _in_thread(function: Callable[[], object]) -> None:
    threading.Thread(target=function, name="headrace-process", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
