"""Noticing that a queue has something to hand out: own pushes, other processes', and time.

Own commits are told of, with the queue that they concern. Of other connections' the kernel
tells, where it can (`notice`); elsewhere a timer has us look every few milliseconds. SQLite
is then asked for a number that changes with each of them (``PRAGMA data_version``), as the
kernel tells of our own too. There is one watch or poller, whatever the number of queues, and
none while nobody waits. Time is a timer for each queue that somebody waits for, set for its
next due message or ending lease.

Only what may bring a queue's next such moment nearer is told of: a push, a message given
back or reloaded, a lease made shorter. A pop cannot: it takes what was due, of which all had
been told, and they look again before they wait on.

Only reads; whoever is woken has to try for himself.
"""

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Final

from headrace_sqlite import notice
from headrace_sqlite.clock import MICROSECONDS, Clock
from headrace_sqlite.statements import NEXT

#: The longest timer, in seconds. The loop's clock stands still while the machine sleeps,
#: and the file's does not: this is by how much a delay may then be late.
_LONGEST: Final = 10.0


class _Waited:
    """A queue that somebody waits for."""

    __slots__ = ("sleepers", "timer")

    def __init__(self) -> None:
        self.sleepers: set[asyncio.Future[None]] = set()
        self.timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        for sleeper in self.sleepers:
            if not sleeper.done():
                sleeper.set_result(None)


class Watch:
    """Wakes those who wait for a queue of one file."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, log: Path, poll_seconds: float) -> None:
        self._connection = connection
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._loop = asyncio.get_running_loop()
        self._waited: dict[int, _Waited] = {}
        self._notice = notice.open_notice(log)
        self._listening = False
        self._poller: asyncio.TimerHandle | None = None
        self._version = 0

    def close(self) -> None:
        """Let go of the kernel's watch. Who still waits is woken, to find out."""
        for waited in self._waited.values():
            waited.wake()
        self._stop_listening()
        if self._notice is not None:
            os.close(self._notice)
            self._notice = None

    def is_ready(self, queue: int) -> bool:
        """Whether a pop would find something. Raises `sqlite3.Error`."""
        return self._next(queue) == 0.0

    def _next(self, queue: int) -> float:
        """Seconds until the queue has something to hand out; 0 if it has, and `_LONGEST` if that is far."""
        at: int | None
        (at,) = self._connection.execute(NEXT, {"queue": queue}).fetchone()
        if at is None:
            return _LONGEST
        return min(max(at - self._clock.now(), 0) / MICROSECONDS, _LONGEST)

    async def wait(self, queue: int, seconds: float) -> None:
        """Return when the queue may have something, or after ``seconds``. Raises `sqlite3.Error`."""
        sleeper = self._loop.create_future()
        waited = self._waited.setdefault(queue, _Waited())
        waited.sleepers.add(sleeper)
        timeout = self._loop.call_later(seconds, _resolve, sleeper)
        try:
            self._listen()
            # Looking comes after listening has begun, and nothing runs between looking and
            # sleeping: there is no moment at which a change goes unnoticed.
            self._look(queue, waited)
            await sleeper
        finally:
            timeout.cancel()
            waited.sleepers.discard(sleeper)
            if not waited.sleepers:
                if waited.timer is not None:
                    waited.timer.cancel()
                self._waited.pop(queue, None)
            if not self._waited:
                self._stop_listening()

    def _listen(self) -> None:
        if self._listening:
            return
        self._version = self._data_version()
        self._listening = True
        if self._notice is None:
            self._poller = self._loop.call_later(self._poll_seconds, self._poll)
        else:
            notice.clear(self._notice)
            self._loop.add_reader(self._notice, self._noticed, self._notice)

    def _stop_listening(self) -> None:
        if not self._listening:
            return
        self._listening = False
        if self._notice is not None:
            self._loop.remove_reader(self._notice)
        elif self._poller is not None:
            self._poller.cancel()
            self._poller = None

    def _noticed(self, descriptor: int) -> None:
        notice.clear(descriptor)
        self._look_if_changed()

    def _look(self, queue: int, waited: _Waited) -> None:
        if waited.timer is not None:
            waited.timer.cancel()
            waited.timer = None
        pause = self._next(queue)
        if pause == 0.0:
            waited.wake()
        else:
            waited.timer = self._loop.call_later(pause, self._look_again, queue)

    def _look_again(self, queue: int) -> None:
        waited = self._waited.get(queue)
        if waited is not None:
            waited.timer = None
            try:
                self._look(queue, waited)
            except sqlite3.Error:
                waited.wake()  # so that the waiting meet the error themselves, and report it

    def look(self, queue: int) -> None:
        """We have committed something that the queue may hand out sooner than what it had."""
        if queue in self._waited:
            self._look_again(queue)

    def _look_if_changed(self) -> None:
        """Look for all who wait, if others have committed something since the last time."""
        try:
            version = self._data_version()
        except sqlite3.Error:
            version = -1
        if version != self._version:
            self._version = version
            for queue in list(self._waited):
                self._look_again(queue)

    def _data_version(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _poll(self) -> None:
        self._poller = self._loop.call_later(self._poll_seconds, self._poll)
        self._look_if_changed()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
