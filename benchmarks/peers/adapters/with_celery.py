"""Celery, on Redis or RabbitMQ: one process with the pool `solo`, its fastest for short jobs."""

# Another job queue, which is installed for `peers` alone: the type checkers may not find it.
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, misc, no-any-return"
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from collections.abc import Sequence
from typing import ClassVar

import celery

from peers.base import Adapter, Place

#: Messages that kombu sends to Redis at once.
BATCH = 100


class Celery(Adapter):
    """Options: ``late`` acks, ``prefetch``, and ``transport``, the options of kombu's transport."""

    distributions: ClassVar = ("celery", "kombu", "redis", "amqp")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        late = place.options.get("late", False)
        self._app = celery.Celery("peers", broker=place.url)
        self._app.conf.update(
            task_default_queue=place.queue,
            task_acks_late=late,
            task_reject_on_worker_lost=late,
            task_ignore_result=True,
            worker_concurrency=place.concurrency,
            worker_prefetch_multiplier=place.options["prefetch"],
            worker_enable_remote_control=False,
            worker_send_task_events=False,
            broker_transport_options=place.options.get("transport", {}),
            broker_connection_retry_on_startup=True,
        )

        def job(number: int) -> None:
            self.run(number)

        self._job = self._app.task(job, name="job")

    async def open(self) -> None:
        # One producer for all pushes, as a program that pushes much would hold it.
        self._producer = self._app.amqp.producer_pool.acquire(block=True)

    async def close(self) -> None:
        self._producer.release()
        self._app.close()

    async def push(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._job.apply_async((number,), producer=self._producer)

    async def push_bulk(self, numbers: Sequence[int]) -> None:
        # Where the transport has no batches, as for RabbitMQ, each message is sent at once.
        with self._producer.batch(BATCH):
            await self.push(numbers)

    async def left(self) -> int | None:
        if not self.place.url.startswith("redis"):
            return None
        from redis import Redis

        with Redis.from_url(self.place.url) as client:
            return client.llen(self.place.queue) + client.hlen("unacked")

    def work(self) -> None:
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR")
        self._app.worker_main(["worker", "--pool", "solo", *quiet])
