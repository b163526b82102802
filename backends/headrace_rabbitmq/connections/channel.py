"""Channels that send and receive many messages at once.

aiormq's own channel makes a task for each delivery, and a future and a frame of its own for each
publish and each ack: half of what a message costs. Here a batch is one write and one future,
and a delivery one call of a function. Everything else, as opening, closing and remote calls, is
aiormq's.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Final, TypeVar

import pamqp.frame
from aiormq import Channel, Connection
from aiormq.abc import ChannelFrame, ConfirmationFrameType, DeliveredMessage
from aiormq.exceptions import ChannelInvalidStateError
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from headrace_rabbitmq.codec import Parcel
from headrace_rabbitmq.frames import Publish

#: Bytes that are written at once, and then waited for: the broker's reading sets the pace.
_WRITE: Final = 256 * 1024

AnyChannel = TypeVar("AnyChannel", bound=Channel)


async def open_channel(connection: Connection, make: Callable[[Connection, int], AnyChannel]) -> AnyChannel:
    """Open a channel of a kind of ours. Raises what aiormq raises."""
    taken = connection.channels
    number = next(number for number in range(1, len(taken) + 2) if number not in taken)
    channel = make(connection, number)
    taken[number] = channel
    await channel.open()
    return channel


class BatchChannel(Channel):
    """A channel that writes prepared bytes."""

    def __init__(self, connection: Connection, number: int, *, publisher_confirms: bool) -> None:
        # No bound on the frames that have come in and are not looked at: prefetch and confirms bound them, and
        # the connection's reader need not stop for each.
        super().__init__(connection, number, publisher_confirms=publisher_confirms, frame_buffer=None)

    async def write(self, payload: bytes) -> None:
        """Send, and wait until the socket has taken it. Raises what aiormq raises if the channel is closed."""
        drained = self.create_future()
        await self.write_queue.put(ChannelFrame(payload=payload, should_close=False, drain_future=drained))
        await drained


class Outcome(Enum):
    """What became of a message that was sent."""

    UNKNOWN = "unknown"  #: no answer yet
    STORED = "stored"  #: confirmed
    RETURNED = "returned"  #: there is no queue for it
    REFUSED = "refused"  #: the queue could not store it


class _Batch:
    """The messages of one call, and what has become of them."""

    def __init__(self, parcels: Sequence[Parcel], outcomes: list[Outcome], done: "asyncio.Future[None]") -> None:
        self.parcels = parcels
        self.outcomes = outcomes
        self.left = len(parcels)
        self.done = done

    def settle(self, at: int, outcome: Outcome) -> None:
        if self.outcomes[at] is Outcome.UNKNOWN:
            self.outcomes[at] = outcome
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class PublishChannel(BatchChannel):
    """Sends batches and hears what became of each message."""

    def __init__(self, connection: Connection, number: int) -> None:
        super().__init__(connection, number, publisher_confirms=True)
        self._sent: OrderedDict[int, tuple[_Batch, int]] = OrderedDict()
        self._writing = asyncio.Lock()
        self._is_cut_short = False  #: whether something that was begun was not written to its end
        self._starts: dict[tuple[str, str], bytes] = {}

    async def publish(self, parcels: Sequence[Parcel], outcomes: list[Outcome]) -> None:
        """Send messages and wait for what becomes of each, which is put in its place of ``outcomes``.

        Raises what aiormq raises if the channel ends before that: what was heard by then is told.
        """
        batch = _Batch(parcels, outcomes, self.create_future())
        async with self._writing:  # their numbers are the order in which they are written
            if self._is_cut_short:
                raise ChannelInvalidStateError("a publish was cut short")
            # Until all of it is written our numbers are ahead of the broker's.
            self._is_cut_short = True
            for payload in self._payloads(batch):
                await self.write(payload)
            self._is_cut_short = False
        await batch.done

    def _payloads(self, batch: _Batch) -> Iterator[bytes]:
        parts: list[bytes] = []
        size = 0
        for at, parcel in enumerate(batch.parcels):
            self.delivery_tag += 1
            self._sent[self.delivery_tag] = batch, at
            for part in self._frames(parcel):
                parts.append(part)
                size += len(part)
            if size >= _WRITE:
                yield b"".join(parts)
                parts, size = [], 0
        if parts:
            yield b"".join(parts)

    def _frames(self, parcel: Parcel) -> Iterator[bytes]:
        start = self._starts.get(parcel[:2])
        if start is None:
            frame = Publish(exchange=parcel.exchange, routing_key=parcel.routing_key, mandatory=True)
            start = pamqp.frame.marshal(frame, self.number)
            if not parcel.exchange:  # few, while there are as many keys for the levels of delays as delays
                self._starts[parcel[:2]] = start
        yield start
        yield pamqp.frame.marshal(ContentHeader(body_size=len(parcel.body), properties=parcel.properties), self.number)
        for begin in range(0, len(parcel.body), self.max_content_size):
            part = ContentBody(parcel.body[begin : begin + self.max_content_size])
            yield pamqp.frame.marshal(part, self.number)

    async def _on_confirm_frame(self, frame: ConfirmationFrameType) -> None:
        outcome = Outcome.STORED if isinstance(frame, commands.Basic.Ack) else Outcome.REFUSED
        last = frame.delivery_tag or 0
        if getattr(frame, "multiple", False):
            while self._sent and next(iter(self._sent)) <= last:
                _, (batch, at) = self._sent.popitem(last=False)
                batch.settle(at, outcome)
        elif last in self._sent:
            batch, at = self._sent.pop(last)
            batch.settle(at, outcome)

    async def _on_return_frame(self, frame: commands.Basic.Return) -> None:
        """A message that has no queue comes back, before its confirm; it has no number, so it is known by its id."""
        header = await self._get_frame()
        assert isinstance(header, ContentHeader)
        returned = await self._read_content(frame, header)
        for batch, at in self._sent.values():
            parcel = batch.parcels[at]
            sent = parcel.exchange, parcel.routing_key, parcel.properties.message_id
            back = frame.exchange, frame.routing_key, returned.header.properties.message_id
            if batch.outcomes[at] is Outcome.UNKNOWN and sent == back:
                batch.outcomes[at] = Outcome.RETURNED
                return


class DeliveryChannel(BatchChannel):
    """Receives deliveries, and hands each to a function as it comes in."""

    def __init__(self, connection: Connection, number: int, on_delivery: Callable[[DeliveredMessage], None]) -> None:
        super().__init__(connection, number, publisher_confirms=False)
        self._on_delivery = on_delivery

    async def _on_deliver_frame(self, frame: commands.Basic.Deliver) -> None:
        header = await self._get_frame()
        assert isinstance(header, ContentHeader)
        self._on_delivery(await self._read_content(frame, header))

    async def ack(self, tags: Iterable[int], upto: int = 0) -> None:
        """Ack all deliveries up to one number, unless that is 0, and others each by itself, in one write."""
        frames = [commands.Basic.Ack(delivery_tag=upto, multiple=True)] if upto else []
        frames += [commands.Basic.Ack(delivery_tag=tag) for tag in tags]
        await self.write(b"".join(pamqp.frame.marshal(frame, self.number) for frame in frames))

    async def requeue_all(self) -> None:
        """Give everything that was delivered here and not acked back to the queue."""
        frame = commands.Basic.Nack(delivery_tag=0, multiple=True, requeue=True)
        await self.write(pamqp.frame.marshal(frame, self.number))
