"""Waking those who wait, on whatever event loop they do so.

Owns the futures of waiting pops, and how one thread reaches another's loop. Knows nothing
of messages: who is woken looks for himself, and may find nothing.
"""

import asyncio


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Bell:
    """Rung by whoever changes a queue. Every method is called with the store's lock held, but for `sleep`."""

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        self._listeners: set[asyncio.Future[None]] = set()

    def listen(self) -> asyncio.Future[None]:
        """A future that the next `ring` resolves. Pass it to `sleep`, and give it back to `leave`."""
        future = asyncio.get_running_loop().create_future()
        self._listeners.add(future)
        return future

    def leave(self, future: asyncio.Future[None]) -> None:
        self._listeners.discard(future)

    def ring(self) -> None:
        """Wake all who listen. A future belongs to its loop, and is touched by that loop's thread alone."""
        if not self._listeners:
            return
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for future in self._listeners:
            loop = future.get_loop()
            if loop is here:
                _resolve(future)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, future)
        self._listeners.clear()


async def sleep(future: asyncio.Future[None], seconds: float) -> None:
    """Wait for the bell, at most so many seconds."""
    timer = future.get_loop().call_later(seconds, _resolve, future)
    try:
        await future
    finally:
        timer.cancel()
