"""Dramatiq, on Redis or RabbitMQ: its worker in this process, with the default middleware."""

# Another job queue, which is installed for `peers` alone: the type checkers may not find it.
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, misc, no-any-return"
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from collections.abc import Sequence
from typing import ClassVar

import dramatiq
from dramatiq.broker import Broker
from dramatiq.worker import Worker

from peers.base import Adapter, Place, block_sigterm


class Dramatiq(Adapter):
    """Options: ``broker``, the arguments of the broker's class. The prefetch is an environment variable of theirs."""

    distributions: ClassVar = ("dramatiq", "redis", "pika")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._broker = _broker(place)
        dramatiq.set_broker(self._broker)
        self._job = dramatiq.actor(self.run, actor_name="job", queue_name=place.queue, broker=self._broker)

    async def close(self) -> None:
        self._broker.close()

    async def push(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._job.send(number)

    async def left(self) -> int | None:
        if not self.place.url.startswith("redis"):
            return None
        client = self._broker.client
        return client.hlen(f"dramatiq:{self.place.queue}.msgs")

    def work(self) -> None:
        wait = block_sigterm()
        worker = Worker(self._broker, worker_threads=self.place.concurrency)
        worker.start()
        wait()
        worker.stop()


def _broker(place: Place) -> Broker:
    options = place.options.get("broker", {})
    if place.url.startswith("redis"):
        from dramatiq.brokers.redis import RedisBroker

        return RedisBroker(url=place.url, **options)
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    return RabbitmqBroker(url=place.url, **options)
