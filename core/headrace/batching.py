"""Coalescing of calls: what comes in while a call is in flight goes out with the next.

So a batch is as large as the backend is slow, an idle backend is called at once, and there
is no timer. The idea is go-cloud's ``pubsub/batcher``. Ours adds one thing: as long as each
turn of the event loop brings more items, and the batch has room, it waits for the next
turn. A lone item is so sent a turn later; a busy loop, where calls are what costs, makes few.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Hands items to a batch call, one call at a time, in the order they came.

    ``call`` owns retries and errors: it must not raise. Belongs to one event loop.
    """

    def __init__(self, call: Callable[[Sequence[Item]], Awaitable[None]], size: int) -> None:
        self._call = call
        self._size = size
        self._waiting: list[Item] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return self._task is None

    def add(self, item: Item) -> None:
        """Send ``item`` with the next call. Returns at once."""
        self._waiting.append(item)
        if self._task is None:
            # In a context of its own, not that of the handler which happened to end first; and not by the loop's task
            # factory, which may start a task at once: it could have ended before it is noted.
            self._task = asyncio.Task(self._run(), loop=asyncio.get_running_loop(), context=contextvars.Context())

    async def drain(self) -> None:
        """Wait until nothing waits and nothing is in flight."""
        while self._task is not None:
            await asyncio.wait((self._task,))

    def abandon(self) -> list[Item]:
        """Stop calling; what was waiting. What is in flight has taken effect or has not."""
        waiting, self._waiting = self._waiting, []
        if self._task is not None:
            self._task.cancel()
        return waiting

    async def _run(self) -> None:
        try:
            while self._waiting:
                seen = 0
                while seen < len(self._waiting) < self._size:
                    seen = len(self._waiting)
                    await asyncio.sleep(0)
                batch = self._waiting[: self._size]
                del self._waiting[: self._size]
                await self._call(batch)
        finally:
            # No await lies between the loop's last look and this, so no item falls between.
            self._task = None
