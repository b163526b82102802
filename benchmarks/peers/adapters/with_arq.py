"""arq."""

# Another job queue, which is installed for `peers` alone: the type checkers may not find it.
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, misc, no-any-return"
# pyright: reportMissingImports=false, reportMissingModuleSource=false

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

from peers.base import Adapter, gathered, run_loop


class Arq(Adapter):
    """Options: ``worker``, the arguments of the worker's class."""

    distributions: ClassVar = ("arq", "redis", "uvloop")

    async def open(self) -> None:
        settings = RedisSettings.from_dsn(self.place.url)
        self._pool = await create_pool(settings, default_queue_name=self.place.queue)

    async def close(self) -> None:
        await self._pool.aclose()

    async def _push(self, number: int) -> None:
        await self._pool.enqueue_job("job", number)

    async def push(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            await self._push(number)

    async def push_bulk(self, numbers: Sequence[int]) -> None:
        await gathered(self._push, numbers)

    async def left(self) -> int:
        return await self._pool.zcard(self.place.queue)

    def work(self) -> None:
        run_loop(self.place, self._work)

    async def _work(self) -> None:
        async def job(_: dict[Any, Any], number: int) -> None:
            await self.run_async(number)

        worker = Worker(
            functions=[func(job, name="job", keep_result=0)],
            queue_name=self.place.queue,
            redis_settings=RedisSettings.from_dsn(self.place.url),
            max_jobs=self.place.concurrency,
            log_results=False,
            **self.place.options.get("worker", {}),
        )
        try:
            await worker.async_run()
        except asyncio.CancelledError:  # how it ends on SIGTERM
            pass
        finally:
            await worker.close()
