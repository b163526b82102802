"""The threads that wait for the disk, so that the event loop need not.

Owns them, and what happens when there are none to be had: a script that only pushed closes
its backend while the interpreter is on its way out, and from then on no executor takes
work. It is then done on the spot: nothing else is left that the loop would have to do.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")

#: Syncing the log, and what uses the second connection, must not wait for each other.
_THREADS: Final = 2


class Threads:
    """Runs blocking work beside the event loop that made it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="headrace-sqlite")

    def begin(self, work: Callable[[], T]) -> Future[T]:
        """Have ``work`` done in a thread, or here and now if the interpreter starts none any more."""
        try:
            return self._executor.submit(work)
        except RuntimeError:
            future: Future[T] = Future()
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)
            return future

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """The same, to be awaited."""
        return asyncio.wrap_future(self.begin(work), loop=self._loop)

    def close(self) -> None:
        """End the threads. Nothing may be under way."""
        self._executor.shutdown()
