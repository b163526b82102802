"""A clock that stands still until a test moves it.

Owns the time and the timers set by it. It serves as the clock of the memory backend, which calls
it for seconds; as that of a worker, which sets timers; and as a machine with a boot and a wall
clock. Who else has to hear of a move follows it.
"""

import asyncio
import heapq
import itertools
import math
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol

from headrace.clock import Clock


class Follower(Protocol):
    """Hears of a clock's moves."""

    def clock_moved(self) -> None:
        """The clock was moved; called on the thread that moved it."""

    async def settled(self) -> None:
        """Return when what fell due by it has been done, or after a while."""


class FakeClock(Clock):
    """Time that passes when a test says so, and no other way.

    It starts at the present, in whole seconds so that sums with small numbers stay exact; or
    where you say. The attributes may be set: so a test sets the wall clock back, or boots the
    machine again. Setting `seconds` wakes nobody; `advance` does.
    """

    def __init__(self, seconds: float | None = None, wall_seconds: float | None = None) -> None:
        self.seconds = float(math.floor(time.monotonic())) if seconds is None else seconds
        self.wall_seconds = float(math.floor(time.time())) if wall_seconds is None else wall_seconds
        self.boot_id = "fake clock"
        self._timers: list[_Timer] = []
        self._numbers = itertools.count()
        self._followers: weakref.WeakSet[Follower] = weakref.WeakSet()
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<fake clock at {self.seconds:g} s>"

    def advance(self, seconds: float) -> Awaitable[None]:
        """Let so many seconds pass, in one leap. They have passed when the call returns.

        What fell due is due, timeouts that were crossed have fired, and waiting workers are
        woken. Awaited, it also gives the workers of apps on this clock the time to run what fell due:
        until nothing is due or running any more, or for a second of real time, since a
        handler may be waiting for the test. Raises `ValueError` for a time that would go back.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"advance({seconds!r}): time goes forward, by a number of seconds, 0 or more")
        with self._lock:
            self.seconds += seconds
            self.wall_seconds += seconds
            fallen = []
            while self._timers and self._timers[0].when <= self.seconds:
                fallen.append(heapq.heappop(self._timers))
            followers = list(self._followers)
        for timer in fallen:
            timer.fire()
        for follower in followers:
            follower.clock_moved()
        return _Settling(followers)

    def follow(self, follower: Follower) -> None:
        """Tell ``follower`` of every move, for as long as it lives."""
        with self._lock:
            self._followers.add(follower)

    # As a worker's clock.

    def now(self) -> float:
        return self.seconds

    def call_later(self, seconds: float, callback: Callable[..., object], *arguments: Any) -> "_Timer":
        with self._lock:
            when = self.seconds + seconds
            timer = _Timer(when, next(self._numbers), asyncio.get_running_loop(), lambda: callback(*arguments))
            heapq.heappush(self._timers, timer)
        return timer

    # As a backend's clock, and as a machine's.

    def __call__(self) -> float:
        return self.seconds

    def elapsed(self) -> float:
        """Seconds since some point of this boot."""
        return self.seconds

    def wall(self) -> float:
        """Seconds since the epoch, as far as the machine knows."""
        return self.wall_seconds

    def boot(self) -> str:
        """The name of this run of the machine."""
        return self.boot_id


class _Timer:
    """A call that waits for its time, ordered by it."""

    def __init__(
        self, when: float, number: int, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]
    ) -> None:
        self.when = when
        self._number = number
        self._loop = loop
        self._callback: Callable[[], object] | None = callback

    def __lt__(self, other: "_Timer") -> bool:
        return (self.when, self._number) < (other.when, other._number)

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        """Let its loop call back, as that of a timer does: soon, and not from in here."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class _Settling(Awaitable[None]):
    """Awaited, waits for the followers of a clock; need not be awaited."""

    def __init__(self, followers: list[Follower]) -> None:
        self._followers = followers

    def __await__(self) -> Generator[Any, None, None]:
        return self._settle().__await__()

    async def _settle(self) -> None:
        for follower in self._followers:
            await follower.settled()
