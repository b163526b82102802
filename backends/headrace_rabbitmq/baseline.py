"""The bare client of the ``rabbitmq`` backend, for the benchmark suite: aiormq and a quorum queue."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from pamqp.commands import Basic

from headrace.plugin import BackendOptions
from headrace.tls import context
from headrace_rabbitmq.connections.place import parse
from headrace_rabbitmq.settings import RabbitSettings

#: Confirms that are awaited together: a broker writes what comes together to its disk together.
_WINDOW: Final = 200

#: Messages that the broker sends ahead of the acks for those before, as multiples of a batch, and at least so many.
_AHEAD: Final = 2
_LEAST_AHEAD: Final = 100

#: How AMQP says that a message is to outlive the broker's process.
_PERSISTENT: Final = 2


class RabbitBaseline:
    """Persistent messages, each confirmed, in a durable quorum queue, as the backend's are."""

    about = "aiormq: basic.publish with confirms; basic.consume; basic.ack of many or of each"
    guarantee = "at least once"
    versions: Mapping[str, str] = {"aiormq": version("aiormq")}

    def __init__(self, options: BackendOptions, queue: str) -> None:
        self._settings = options.read(RabbitSettings)
        self._place = parse(self._settings.url, self._settings.vhost, self._settings.username, self._settings.password)
        self._queue = queue
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    async def open(self) -> None:
        host, port = self._place.hosts[0]
        url = self._place.url(host, port, self._settings.heartbeat)
        words: dict[str, Any] = {"context": context(self._settings)} if self._place.tls else {}
        self._connection = await aiormq.connect(url, **words)
        self._channel = await self._connection.channel(publisher_confirms=True)
        await self._channel.queue_declare(self._queue, durable=True, arguments={"x-queue-type": "quorum"})

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.queue_delete(self._queue)
        if self._connection is not None:
            await self._connection.close()

    async def push(self, body: bytes) -> None:
        properties = Basic.Properties(delivery_mode=_PERSISTENT)
        await self._opened.basic_publish(body, routing_key=self._queue, properties=properties, mandatory=True)

    async def push_many(self, bodies: Sequence[bytes]) -> None:
        for start in range(0, len(bodies), _WINDOW):
            await asyncio.gather(*(self.push(body) for body in bodies[start : start + _WINDOW]))

    async def consume(self, count: int, batch: int, seen: Callable[[bytes], None]) -> None:
        channel = self._opened
        done = asyncio.get_running_loop().create_future()
        came = 0

        async def take(message: DeliveredMessage) -> None:
            nonlocal came
            seen(message.body)
            came += 1
            if came % batch == 0 or came == count:
                assert message.delivery_tag is not None
                await channel.basic_ack(message.delivery_tag, multiple=batch > 1)
            if came == count:
                done.set_result(None)

        await channel.basic_qos(prefetch_count=max(_LEAST_AHEAD, _AHEAD * batch))
        consumer = await channel.basic_consume(self._queue, take)
        await done
        assert consumer.consumer_tag is not None
        await channel.basic_cancel(consumer.consumer_tag)  # answered after all acks were seen

    @property
    def _opened(self) -> AbstractChannel:
        assert self._channel is not None
        return self._channel
