"""FastStream on RabbitMQ."""

# Another job queue, which is installed for `peers` alone: the type checkers may not find it.
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, misc, no-any-return"
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from collections.abc import Sequence
from typing import ClassVar

from faststream import FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

from peers.base import Adapter, Place, gathered, run_loop


class FastStreamAdapter(Adapter):
    """Options: ``prefetch``."""

    distributions: ClassVar = ("faststream", "aio-pika", "uvloop")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        # Its queues and messages are transient by default.
        self._queue = RabbitQueue(place.queue, durable=True)

    def _broker(self) -> RabbitBroker:
        channel = Channel(prefetch_count=self.place.options["prefetch"])
        return RabbitBroker(self.place.url, default_channel=channel, logger=None)

    async def open(self) -> None:
        self._publisher = self._broker()
        await self._publisher.connect()
        await self._publisher.declare_queue(self._queue)

    async def close(self) -> None:
        await self._publisher.stop()

    async def _push(self, number: int) -> None:
        await self._publisher.publish(number, queue=self._queue, persist=True)

    async def push(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            await self._push(number)

    async def push_bulk(self, numbers: Sequence[int]) -> None:
        await gathered(self._push, numbers)

    def work(self) -> None:
        run_loop(self.place, self._work)

    async def _work(self) -> None:
        broker = self._broker()

        async def job(number: int) -> None:
            await self.run_async(number)

        broker.subscriber(self._queue)(job)
        await FastStream(broker, logger=None).run()
