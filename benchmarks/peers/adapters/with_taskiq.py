"""Taskiq, on a list or a stream of Redis, or on RabbitMQ: the receiver of its worker, in this process."""

# Another job queue, which is installed for `peers` alone: the type checkers may not find it.
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, misc, no-any-return"
# pyright: reportMissingImports=false, reportMissingModuleSource=false

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

from taskiq import AsyncBroker
from taskiq.api import run_receiver_task

from peers.base import Adapter, Place, gathered, run_loop, sigterm


class Taskiq(Adapter):
    """Options: ``kind`` ("list", "stream", "rabbitmq"), and ``broker``, the arguments of the broker's class."""

    distributions: ClassVar = ("taskiq", "taskiq-redis", "taskiq-aio-pika", "redis", "aio-pika", "uvloop")

    def _registered(self, broker: AsyncBroker) -> Any:
        async def job(number: int) -> None:
            await self.run_async(number)

        return broker.register_task(job, task_name="job")

    async def open(self) -> None:
        self._broker = _broker(self.place)
        self._job = self._registered(self._broker)
        await self._broker.startup()

    async def close(self) -> None:
        await self._broker.shutdown()

    async def push(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            await self._job.kiq(number)

    async def push_bulk(self, numbers: Sequence[int]) -> None:
        await gathered(self._job.kiq, numbers)

    async def left(self) -> int | None:
        kind, queue = self.place.options["kind"], self.place.queue
        if kind == "rabbitmq":
            return None
        from redis.asyncio import Redis

        async with Redis.from_url(self.place.url) as client:
            if kind == "list":
                return await client.llen(queue)
            (group,) = await client.xinfo_groups(queue)
            return group["pending"] + group["lag"]

    def work(self) -> None:
        run_loop(self.place, self._work)

    async def _work(self) -> None:
        broker = _broker(self.place)
        broker.is_worker_process = True
        self._registered(broker)
        await broker.startup()
        receiver = asyncio.create_task(run_receiver_task(broker, max_async_tasks=self.place.concurrency))
        await sigterm()
        receiver.cancel()
        await asyncio.gather(receiver, return_exceptions=True)
        await broker.shutdown()


def _broker(place: Place) -> AsyncBroker:
    kind, options = place.options["kind"], place.options.get("broker", {})
    if kind == "list":
        from taskiq_redis import ListQueueBroker

        return ListQueueBroker(place.url, queue_name=place.queue, **options)
    if kind == "stream":
        from taskiq_redis import RedisStreamBroker

        # From the stream's beginning: by default a group gets only what is pushed after it was made.
        return RedisStreamBroker(place.url, queue_name=place.queue, consumer_id="0", **options)
    from taskiq_aio_pika import AioPikaBroker, Queue

    return AioPikaBroker(
        place.url,
        task_queues=[Queue(name=place.queue)],
        dead_letter_queue=Queue(name=f"{place.queue}.dead"),
        **options,
    )
