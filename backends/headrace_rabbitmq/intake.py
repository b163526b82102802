"""How callers get deliveries of one queue: out of a buffer, or by sleeping until something is in it.

Lives on the callers' event loop. What fills the buffer, and empties it of what nobody takes, is
`headrace_rabbitmq.feed`, where the connections live.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from headrace.errors import BackendError
from headrace_rabbitmq.feed import Feed
from headrace_rabbitmq.loops import ConnectionLoop
from headrace_rabbitmq.unpopped import Delivered

T = TypeVar("T")

#: Seconds without a word of the broker after which an idle call asks it for one: a connection can break in silence.
_SILENCE: Final = 5.0


class Intake:
    """One queue's deliveries, for all who pop them."""

    def __init__(self, connections: ConnectionLoop, feed: Feed) -> None:
        self._connections = connections
        self._feed = feed
        self._buffer = feed.buffer
        self._sleepers: set[asyncio.Future[None]] = set()
        self._is_told = False  #: whether it was told of deliveries that the sleepers have not heard of
        feed.on_arrival = self._arrived
        feed.on_failure = lambda error: connections.tell(self._fail, error)

    async def pop(self, limit: int, wait: float) -> list[Delivered]:
        """Take at most ``limit`` deliveries, waiting for the first. Cancelled, it takes nothing."""
        taken = self._buffer.take(limit)
        if not taken:
            taken = await self._come(limit, wait, lambda: self._buffer.take(limit))
        if taken and len(taken) < limit and not self._feed.suffices(limit - len(taken)):
            self._connections.post(self._feed.grow, limit - len(taken))
        self._feed.touched = time.monotonic()
        return taken

    async def withdraw(self, popped: Sequence[Delivered]) -> None:
        """Hold nothing but what was just popped: something among that ended workers before, and may end this one.

        What lay here would have that counted as a death of its own. Raises `BackendError`. Then, or
        cancelled, it takes the popped back.
        """
        try:
            await self._connections.call(self._feed.withdraw())
        except BaseException:
            self._connections.post(self._feed.put_back, popped)  # unless it is over, too
            raise

    async def wait_ready(self, seconds: float) -> bool:
        """Wait until there is something to take."""
        found = bool(self._buffer) or await self._come(1, seconds, lambda: bool(self._buffer))
        self._feed.touched = time.monotonic()
        return found

    async def _come(self, limit: int, wait: float, look: Callable[[], T]) -> T:
        """What ``look`` finds once there is something in the buffer, or when the time is over."""
        if wait <= 0:
            await self._connections.call(self._feed.look(limit))
            return look()
        found = await self._sleep(limit, wait, look)
        if not found and time.monotonic() - self._feed.heard > _SILENCE:
            await self._connections.call(self._feed.look(limit))
            found = look()
        return found

    async def _sleep(self, limit: int, wait: float, look: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        caller = object()
        self._connections.post(self._feed.begin, caller, limit)
        try:
            while True:
                sleeper: asyncio.Future[None] = loop.create_future()
                timer = loop.call_at(deadline, _wake, sleeper)
                self._sleepers.add(sleeper)
                try:
                    # Only now that it would be woken: nothing comes in between.
                    if found := look():
                        return found
                    await sleeper
                finally:
                    timer.cancel()
                    self._sleepers.discard(sleeper)
                if loop.time() >= deadline:
                    return look()
                self._connections.post(self._feed.adjust)  # another may take what came
        finally:
            self._feed.touched = time.monotonic()
            self._connections.post(self._feed.finish, caller)

    def _arrived(self) -> None:
        """Where the connections live: something is in the buffer."""
        if self._sleepers and not self._is_told:
            self._is_told = True
            self._connections.tell(self._wake_all)

    def _wake_all(self) -> None:
        self._is_told = False
        for sleeper in self._sleepers:
            _wake(sleeper)

    def _fail(self, error: BackendError) -> None:
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_exception(error)


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)
