"""One worker process, as `headrace.supervisor` starts it: ``python -m headrace.worker_process``.

Owns a process' life around a `Worker`: its signals, its exit status, and that it ends when
its parent does. All that it is to do stands in one `Order` on its command line, so that
``ps`` shows what it is for.
"""

import asyncio
import contextlib
import enum
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
from headrace.errors import BackendError, CapabilityError, ConfigError, HeadraceError, JobError
from headrace.logs import log_to_stderr
from headrace.worker import Worker

logger = logging.getLogger("headrace")

#: Seconds beyond its ``shutdown_timeout`` in which a worker cancels handlers, sends its last
#: moves and closes. A process that is not gone after that is ended, whatever holds it.
STOP_SECONDS: Final = 15.0
#: Seconds that a process has, once its worker has ended, for the application's threads and
#: exit hooks. A handler's thread that never returns would keep it for ever.
LEAVE_SECONDS: Final = 3.0
#: Characters of the longest problem that is told: it must fit into a socket's buffer, since nobody reads yet.
_LONGEST_PROBLEM: Final = 4 * 1024


class Ending(enum.Enum):
    """How a worker process ends in good order."""

    EMPTY = "empty"  #: with ``until_empty``: nothing was left to do
    REPLACE = "replace"  #: it has done its share, and there may be more to do
    WRONG = "wrong"  #: it cannot work with this configuration, or on this backend as it is


class Farewell(msgspec.Struct, frozen=True):
    """The last thing that a process tells its parent on the line. One that does not tell it has crashed.

    The exit status says nothing: a handler can end its process with any.
    """

    ending: Ending
    problem: str = ""  #: with `Ending.WRONG`: what is wrong


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one process is to do."""

    queues: list[str]
    config: str | None = None
    concurrency: int | None = None
    max_messages: int | None = None
    until_empty: bool = False
    log_level: str = "info"


def main(arguments: list[str]) -> int:
    """Carry out the order in ``arguments``: the line's file descriptor, and an `Order` as JSON."""
    line = socket.socket(fileno=int(arguments[0]))
    # Processes that handlers start must not hold it: when we are gone, it is closed.
    line.set_inheritable(False)
    order = msgspec.json.decode(arguments[1], type=Order)
    watch = _Watch(line)
    log_to_stderr(order.log_level)
    try:
        app = Headrace.load(order.config)
        worker = app.worker(*order.queues, concurrency=order.concurrency, max_messages=order.max_messages)
        farewell = Farewell(asyncio.run(_work(worker, order, watch)))
    except (ConfigError, CapabilityError, JobError, BackendError) as error:
        logger.debug("refused", exc_info=True)
        farewell = Farewell(Ending.WRONG, str(error)[:_LONGEST_PROBLEM])
    except HeadraceError as error:
        logger.error("%s", error)
        return 1
    with contextlib.suppress(OSError):  # nobody is left to be told
        line.sendall(msgspec.json.encode(farewell))
    _in_thread(lambda: _end_after(LEAVE_SECONDS, 0))
    return 0


async def _work(worker: Worker, order: Order, watch: "_Watch") -> Ending:
    loop = asyncio.get_running_loop()
    told = False

    def stop() -> None:
        nonlocal told
        told = True
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    watch.attend(lambda: loop.call_soon_threadsafe(stop), worker.shutdown_timeout + STOP_SECONDS)
    await worker.run(until_empty=order.until_empty)
    spent = worker.overrun or 0 < worker.max_messages <= worker.handled
    return Ending.EMPTY if order.until_empty and not told and not spent else Ending.REPLACE


class _Watch:
    """Ends this process when its parent is gone, however that ended.

    The parent never writes on the line, so that reading from it lasts as long as the parent
    does. It is read by a thread: a handler may block the event loop, or an import the start.
    """

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._stop: Callable[[], object] | None = None
        self._seconds = 0.0
        _in_thread(self._wait)

    def attend(self, stop: Callable[[], object], seconds: float) -> None:
        """From now on, to lose the parent means to ``stop``, and the end ``seconds`` later at the latest."""
        self._stop, self._seconds = stop, seconds

    def _wait(self) -> None:
        try:
            while self._line.recv(1):
                pass
        except OSError:
            pass
        if self._stop is not None:
            logger.error("the supervisor is gone; stopping")
            self._stop()
        _end_after(self._seconds, 1)


def _end_after(seconds: float, status: int) -> None:
    time.sleep(seconds)
    logging.shutdown()
    os._exit(status)


def _in_thread(function: Callable[[], object]) -> None:
    threading.Thread(target=function, name="headrace-process", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
