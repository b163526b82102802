"""The bare client of the ``memory`` backend, for the benchmark suite: Python's own queue."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from headrace.plugin import BackendOptions


class MemoryBaseline:
    """An `asyncio.Queue`. What was taken is gone: nothing is held, and nothing acked."""

    about = "asyncio.Queue: put, get"
    guarantee = "at most once"
    versions: Mapping[str, str] = {}

    def __init__(self, options: BackendOptions, queue: str) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Forget what is left."""
        self._queue = asyncio.Queue()

    async def push(self, body: bytes) -> None:
        await self._queue.put(body)

    async def push_many(self, bodies: Sequence[bytes]) -> None:
        for body in bodies:
            self._queue.put_nowait(body)

    async def consume(self, count: int, batch: int, seen: Callable[[bytes], None]) -> None:
        for _ in range(count):
            seen(await self._queue.get())
