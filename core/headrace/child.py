"""A worker process as its supervisor sees it: started, spoken to, listened to, ended.

Owns the process and the parent's end of the line (see `headrace.orders`). When a process is
needed, and what follows from its end, is decided in `headrace.place`.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from headrace.orders import DRAIN, GO, Farewell, LastTaken, Order, Ready, Sign, Starting

_reports: Final = msgspec.json.Decoder(Starting | Ready | Sign | LastTaken | Farewell)

#: What a process does. ``waiting``: it is ready, and has to wait for its turn.
State = Literal["starting", "waiting", "working", "stalled", "draining"]


class Child:
    """One worker process. Belongs to the event loop that started it."""

    def __init__(self, process: Process, line: socket.socket, name: str) -> None:
        self.process = process
        self.name = name  #: the queues that it serves
        self.started = time.monotonic()
        self.started_at = datetime.now(UTC)
        self.ready = asyncio.Event()
        self.due = asyncio.Event()  #: it has taken the last of its ``max_messages``, or soon will have
        self.last_taken = asyncio.Event()  #: it has
        self.stalled = asyncio.Event()  #: set while it is
        self.problem = ""  #: what is wrong, while it is
        self.doing = "has not said what it does"  #: while it starts
        self.late = False  #: its start takes so long that this was told
        self.start_seconds: float | None = None  #: how long its start took, without what it waited for its backend
        self.farewell: Farewell | None = None  #: once it has ended; ``None`` then: it crashed
        self.turned: float | None = None  #: when its event loop turned, as far as is known; ``None`` before `GO`
        self.news: Callable[[], None] = _nobody  #: called when its state may have changed
        self._draining = False
        self._held_up = self.started  #: when it was last known to wait for its backend
        self._line = line
        self._said = bytearray()
        asyncio.get_running_loop().add_reader(line, self._hear)

    @classmethod
    async def start(cls, order: Order, stderr: int | None) -> "Child":
        """Start a process, never by a bare fork: nothing of this one's memory or descriptors goes along."""
        ours, theirs = socket.socketpair()
        try:
            # -P: the working directory is no place to import from, as it is none for the `headrace` script.
            # A session of its own: Ctrl-C on the terminal reaches the supervisor alone, which passes it on.
            # No standard input: several processes that read one terminal would only take from one another.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "headrace.worker_process", str(theirs.fileno())),
                msgspec.json.encode(order).decode(),
                stdin=DEVNULL,
                stderr=stderr,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        return cls(process, ours, ",".join(order.queues))

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    @property
    def state(self) -> State:
        if self.stalled.is_set():
            return "stalled"
        if self._draining or self.last_taken.is_set():
            return "draining"
        if not self.ready.is_set():
            return "starting"
        return "waiting" if self.turned is None else "working"

    @property
    def starting_for(self) -> float | None:
        """Seconds that its start takes by now, reckoned anew while it waits for its backend; ``None`` once ready."""
        return None if self.ready.is_set() else time.monotonic() - self._held_up

    @property
    def silent(self) -> float | None:
        """Seconds since its last sign of life; ``None`` for one that has not begun to work."""
        return None if self.turned is None or not self.ready.is_set() else time.monotonic() - self.turned

    def is_stalled(self, problem: str) -> None:
        """It was found to be stuck, by itself or by us; ``problem`` is how."""
        self.problem = problem
        if not self.stalled.is_set():
            self.stalled.set()
            self.news()

    def say(self, word: bytes) -> None:
        """Send `GO`, `DRAIN` or `HURRY`; to one that has ended, nothing."""
        if word == GO:
            self.turned = time.monotonic()
        elif word == DRAIN:
            self._draining = True
        with contextlib.suppress(OSError):
            self._line.send(word)

    def signal(self, number: signal.Signals) -> None:
        # Not by `send_signal`: that looks whether the process has ended, and so may take the exit
        # status away from asyncio, which waits for it in a thread.
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def ended(self) -> int:
        """Wait for its end; the exit status. What it said last has been heard then."""
        status = await self.process.wait()
        # It has ended, so all that it said is here; what it forked may hold the line open.
        self._hear()
        return status

    def close(self) -> None:
        """Let go of the process; one that still runs is killed."""
        self.signal(signal.SIGKILL)
        asyncio.get_running_loop().remove_reader(self._line)
        self._line.close()

    def _hear(self) -> None:
        try:
            while part := self._line.recv(65536):
                self._said += part
            asyncio.get_running_loop().remove_reader(self._line)
        except BlockingIOError:
            pass
        except OSError:
            asyncio.get_running_loop().remove_reader(self._line)
        *lines, rest = self._said.split(b"\n")
        self._said = rest
        for line in lines:
            # What a handler wrote on a descriptor that is not its own is no report.
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                self._heed(_reports.decode(line))

    def _heed(self, report: Starting | Ready | Sign | LastTaken | Farewell) -> None:
        match report:
            case Starting():
                self.doing = report.doing
                if report.waits:
                    self._held_up = time.monotonic()
                return  # its state is the same
            case Ready():
                self.start_seconds = self.starting_for
                self.ready.set()
                if self.turned is not None:
                    # It was told to go before, and begins only now.
                    self.turned = time.monotonic()
            case Sign():
                self.turned = time.monotonic() - report.silent
                if report.nearly_done:
                    self.due.set()
                if report.problem:
                    self.is_stalled(report.problem)
                else:
                    self.stalled.clear()
            case LastTaken():
                self.due.set()
                self.last_taken.set()
            case Farewell():
                self.farewell = report
        self.news()


def _nobody() -> None:
    """Whom a process' news are told before it has an owner."""


def describe_status(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
