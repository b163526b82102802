"""streaq."""

# Another job queue, which is installed for `peers` alone: the type checkers may not find it.
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, misc, no-any-return"
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from collections.abc import Sequence
from typing import Any, ClassVar

from streaq import Worker

from peers.base import Adapter, Place


class Streaq(Adapter):
    """Options: ``worker``, the arguments of the worker's class, and ``task``, those of the task."""

    distributions: ClassVar = ("streaq", "coredis", "uvloop")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._worker: Worker[None] = Worker(
            redis_url=place.url,
            queue_name=place.queue,
            concurrency=place.concurrency,
            anyio_kwargs={"use_uvloop": place.uvloop},
            **place.options.get("worker", {}),
        )
        # No result is kept.
        self._job: Any = self._worker.task(name="job", ttl=0, silent=True, **place.options.get("task", {}))(
            self.run_async
        )

    async def open(self) -> None:
        await self._worker.__aenter__()

    async def close(self) -> None:
        await self._worker.__aexit__(None, None, None)

    async def push(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            await self._job.enqueue(number)

    async def push_bulk(self, numbers: Sequence[int]) -> None:
        await self._worker.enqueue_many([self._job.enqueue(number) for number in numbers])

    async def left(self) -> int:
        return await self._worker.queue_size()

    def work(self) -> None:
        self._worker.run_sync()
