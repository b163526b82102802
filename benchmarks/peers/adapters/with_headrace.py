"""headrace itself, by the same protocol as the others."""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

from headrace import Headrace, Job
from peers.base import Adapter, Place, run_loop, sigterm


class Noop(Job):
    """The job."""

    number: int

    async def handle(self) -> None:
        await _adapter.run_async(self.number)


#: The adapter of this process, of which the job knows.
_adapter: Adapter


class HeadraceAdapter(Adapter):
    """Options: ``backend``, ``place`` (the backend's option that takes the URL), ``backend_options``, ``lease``."""

    distributions: ClassVar = ("headrace", "redis", "hiredis", "aiormq")

    #: It splits into batches itself, and has several under way.
    bulk: ClassVar = 10_000

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        global _adapter
        _adapter = self
        backend, options = place.options["backend"], place.options
        queue: dict[str, Any] = {"prefix": f"{{{place.queue}}}", "concurrent": {"limit": place.concurrency}}
        if "lease" in options:
            queue["lease_seconds"] = options["lease"]
        self._app = Headrace(
            {
                "backend": backend,
                "backends": {backend: {options["place"]: place.url, **options.get("backend_options", {})}},
                "queues": {"default": queue},
            }
        )

    async def open(self) -> None:
        await self._app.__aenter__()
        self._queue = self._app.queue()

    async def close(self) -> None:
        await self._app.__aexit__(None, None, None)

    async def push(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            await self._queue.push(Noop(number=number))

    async def push_bulk(self, numbers: Sequence[int]) -> None:
        await self._queue.push_many([Noop(number=number) for number in numbers])

    async def left(self) -> int:
        info = await self._queue.info()
        return sum(count or 0 for count in (info.waiting, info.reserved, info.delayed, info.failed, info.timeout))

    def work(self) -> None:
        run_loop(self.place, self._work)

    async def _work(self) -> None:
        worker = self._app.worker()
        ends = asyncio.create_task(sigterm())
        ends.add_done_callback(lambda _: worker.stop())
        await worker.run()
