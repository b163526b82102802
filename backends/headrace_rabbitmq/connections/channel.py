"""Channels that send and receive many messages at once.

aiormq's own channel makes a task for each delivery, and a future and a frame of its own for each
publish and each ack: half of what a message costs. Here a batch is one write and one future,
and a delivery one call of a function. Everything else, as opening, closing and remote calls, is
aiormq's.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
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
from headrace_rabbitmq.connections.pulse import READ
from headrace_rabbitmq.frames import Publish

#: Bytes that are written at once, and then waited for: the broker's reading sets the pace.
_WRITE: Final = 256 * 1024

#: Bytes of a write that is not waited for where an answer is.
_LITTLE: Final = 4 * 1024

#: Bytes of a frame, by RabbitMQ's default, where the broker sets no limit: aiormq would take that for no bytes at all.
_FRAME: Final = 128 * 1024

#: How the broker closes a channel on which something was sent to an exchange that is not there.
_NOT_FOUND: Final = 404

#: Channels of a connection, by the protocol, where the broker sets no lower limit.
_NUMBERS: Final = 65535

AnyChannel = TypeVar("AnyChannel", bound=Channel)


async def open_channel(connection: Connection, make: Callable[[Connection, int], AnyChannel]) -> AnyChannel:
    """Open a channel of a kind of ours. Raises what aiormq raises.

    Numbers take turns. aiormq calls one free as soon as the broker has closed the channel, and has
    not answered that then: a channel that was opened with that number at once would not be answered.
    """
    taken = connection.channels
    for _ in range(len(taken) + 1):
        connection.last_channel = connection.last_channel % (connection.connection_tune.channel_max or _NUMBERS) + 1
        if connection.last_channel not in taken:
            break
    channel = make(connection, connection.last_channel)
    taken[channel.number] = channel
    await channel.open()
    return channel


def largest_content(connection: Connection) -> int:
    """Bytes of a frame on this connection, but for what every frame has around it."""
    return (connection.connection_tune.frame_max or _FRAME) - Channel.CONTENT_FRAME_SIZE


class BatchChannel(Channel):
    """A channel that writes prepared bytes."""

    def __init__(self, connection: Connection, number: int, *, publisher_confirms: bool) -> None:
        # No bound on the frames that have come in and are not looked at: prefetch and confirms bound them, and
        # the connection's reader need not stop for each.
        super().__init__(connection, number, publisher_confirms=publisher_confirms, frame_buffer=None)
        self.max_content_size = largest_content(connection)

    async def write(self, payload: bytes, *, is_answered: bool = False) -> None:
        """Send, and wait until the socket has taken it, unless it is little and an answer is waited for.

        Raises what aiormq raises if the channel is closed. Then nothing is sent: the broker would end the connection
        for it.
        """
        if self.is_closed:
            raise ChannelInvalidStateError(f"channel {self.number} is closed")
        drained = None if is_answered and len(payload) <= _LITTLE else self.create_future()
        await self.write_queue.put(ChannelFrame(payload=payload, should_close=False, drain_future=drained))
        if drained is not None:
            await drained


class Outcome(Enum):
    """What became of a message that was sent."""

    UNSENT = "unsent"  #: nothing of it was written
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
        self.moved = 0.0  #: when something of it was last written, or answered

    def settle(self, at: int, outcome: Outcome, now: float) -> None:
        self.moved = now
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
        self._is_cut_short = False  #: what was begun was not written to its end: our numbers are ahead of the broker's
        self._starts: dict[tuple[str, str], bytes] = {}

    @property
    def is_usable(self) -> bool:
        return not self.is_closed and not self._is_cut_short

    async def publish(self, parcels: Sequence[Parcel], outcomes: list[Outcome], patience: float) -> None:
        """Send messages and wait for what becomes of each, which is put in its place of ``outcomes``.

        Nothing is sent if others take longer than ``patience`` to be written before. Raises `TimeoutError` when
        for so long nothing more of these was written or answered, and what aiormq raises if the channel ends:
        what was heard by then is told.
        """
        try:
            # Their numbers are the order in which they are written.
            async with asyncio.timeout(patience if self._writing.locked() else None):
                await self._writing.acquire()
        except TimeoutError:
            return
        if not self.is_usable:
            self._writing.release()
            return
        batch = _Batch(parcels, outcomes, self.create_future())
        async with _patience(batch, patience):
            try:
                for payload in self._payloads(batch):
                    await self.write(payload, is_answered=True)
                    batch.moved = self.loop.time()
            except BaseException:
                self._is_cut_short = True
                raise
            finally:
                self._writing.release()
            await batch.done

    def _payloads(self, batch: _Batch) -> Iterator[bytes]:
        parts: list[bytes] = []
        size = 0
        for at, parcel in enumerate(batch.parcels):
            self.delivery_tag += 1
            self._sent[self.delivery_tag] = batch, at
            batch.outcomes[at] = Outcome.UNKNOWN
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
        last, now = frame.delivery_tag or 0, self.loop.time()
        if getattr(frame, "multiple", False):
            while self._sent and next(iter(self._sent)) <= last:
                _, (batch, at) = self._sent.popitem(last=False)
                batch.settle(at, outcome, now)
        elif last in self._sent:
            batch, at = self._sent.pop(last)
            batch.settle(at, outcome, now)

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

    async def _on_close_frame(self, frame: commands.Channel.Close) -> None:
        """The broker looks at messages in turn: from the first on whose exchange it misses it has taken none."""
        if frame.reply_code == _NOT_FOUND:
            is_missed = False
            for batch, at in self._sent.values():
                exchange = batch.parcels[at].exchange
                is_missed = is_missed or (bool(exchange) and f"'{exchange}'" in (frame.reply_text or ""))
                if is_missed and batch.outcomes[at] is Outcome.UNKNOWN:
                    batch.outcomes[at] = Outcome.RETURNED
        await super()._on_close_frame(frame)


@asynccontextmanager
async def _patience(batch: _Batch, seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` out of what runs in here when a batch has not moved for so long.

    A loop that was held up looks late: what was answered meanwhile is read first.
    """
    loop = asyncio.get_running_loop()
    batch.moved = loop.time()
    timers: list[asyncio.TimerHandle] = []  #: at most one
    async with asyncio.timeout(None) as limit:

        def look(due: float) -> None:
            now = loop.time()
            if batch.moved + seconds > now:
                look_at(batch.moved + seconds)
            elif now - due > READ:
                timers[:] = [loop.call_later(READ, look, math.inf)]
            else:
                limit.reschedule(now)

        def look_at(due: float) -> None:
            timers[:] = [loop.call_at(due, look, due)]

        look_at(batch.moved + seconds)
        try:
            yield
        finally:
            timers[-1].cancel()


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
