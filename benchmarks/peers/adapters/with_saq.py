"""SAQ on Redis."""

# Another job queue, which is installed for `peers` alone: the type checkers may not find it.
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, misc, no-any-return"
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from collections.abc import Sequence
from typing import Any, ClassVar

from saq import Queue, Worker

from peers.base import Adapter, gathered, run_loop


class Saq(Adapter):
    """Options: ``job``, what each job is given, and ``worker``, the arguments of the worker's class."""

    distributions: ClassVar = ("saq", "redis", "hiredis", "uvloop")

    async def open(self) -> None:
        self._queue = Queue.from_url(self.place.url, name=self.place.queue)
        await self._queue.connect()

    async def close(self) -> None:
        await self._queue.disconnect()

    async def _push(self, number: int) -> None:
        # A job that is done leaves nothing behind.
        await self._queue.enqueue("job", number=number, ttl=-1, **self.place.options.get("job", {}))

    async def push(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            await self._push(number)

    async def push_bulk(self, numbers: Sequence[int]) -> None:
        await gathered(self._push, numbers)

    async def left(self) -> int:
        return await self._queue.count("incomplete")

    def work(self) -> None:
        run_loop(self.place, self._work)

    async def _work(self) -> None:
        async def job(_: Any, *, number: int) -> None:
            await self.run_async(number)

        queue = Queue.from_url(self.place.url, name=self.place.queue)
        await queue.connect()
        worker: Worker[Any] = Worker(
            queue,
            functions=[("job", job)],
            concurrency=self.place.concurrency,
            **self.place.options.get("worker", {}),
        )
        await worker.start()
        await queue.disconnect()
