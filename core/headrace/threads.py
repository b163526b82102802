"""The threads in which run what is no ``async def``: handlers, their middleware, ``failed()``.

An executor's own way back to an event loop wakes it for each call that has ended. With handlers
that take no time that is most of what they cost; so here the loop is woken once, and takes all
that has ended by the time it comes.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")


class Threads:
    """At most so many, started when they are needed."""

    def __init__(self, most: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(most, thread_name_prefix=name)
        self._way_back: _WayBack | None = None

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Have ``work`` done in a thread, for what it returns or raises. Cancelled before it has begun, it is not."""
        loop = asyncio.get_running_loop()
        way_back = self._way_back
        if way_back is None or way_back.loop is not loop:
            way_back = self._way_back = _WayBack(loop)
        future: asyncio.Future[T] = loop.create_future()
        self._executor.submit(_do, work, future, way_back)
        return future

    def close(self, *, wait: bool = False) -> None:
        """End the threads, each when it has done what it does; what has not begun never will. ``wait`` for that."""
        self._executor.shutdown(wait=wait, cancel_futures=True)


class _WayBack:
    """From the threads to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._ended: deque[_Ended] = deque()
        self._is_told = False  #: that the loop was woken, and has not come yet

    def tell(self, ended: "_Ended") -> None:
        """In a thread: this is done."""
        self._ended.append(ended)
        if not self._is_told:
            self._is_told = True
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                self.loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._is_told = False  # before it looks: whoever comes too late for that wakes it again
        while self._ended:
            future, result, error = self._ended.popleft()
            if future.done():  # whoever waited was cancelled
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


#: A call that was made: who waits for it, what it returned, what it raised.
_Ended: TypeAlias = tuple["asyncio.Future[Any]", Any, BaseException | None]


def _do(work: Callable[[], T], future: "asyncio.Future[T]", way_back: _WayBack) -> None:
    if future.cancelled():
        return
    try:
        way_back.tell((future, work(), None))
    except StopIteration as raised:  # which no future takes
        error = RuntimeError("what ran in a thread raised StopIteration")
        error.__cause__ = raised
        way_back.tell((future, None, error))
    except BaseException as raised:
        way_back.tell((future, None, raised))
