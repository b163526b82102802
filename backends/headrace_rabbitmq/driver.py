"""The RabbitMQ driver: the contract's verbs, each a call to where the connections live."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from headrace.driver import Channel, Delivery, Driver, Info, Message, Page, RestingChannel, Result
from headrace.errors import BackendError
from headrace_rabbitmq.codec import received
from headrace_rabbitmq.lane import Lane
from headrace_rabbitmq.lending import LENT
from headrace_rabbitmq.loops import ConnectionLoop
from headrace_rabbitmq.opened import Opened
from headrace_rabbitmq.topology import Topology
from headrace_rabbitmq.unpopped import Delivered

#: Items in one call: some 0.1 s of the broker's time.
MAX_BATCH: Final = 1000


class RabbitDriver(Driver):
    """Carries one queue's messages in the queues and exchanges whose names begin with its prefix."""

    def __init__(self, topology: Topology, opened: Callable[[], Opened]) -> None:
        self._topology = topology
        self._opened = opened

    def _lane(self) -> tuple[ConnectionLoop, Lane]:
        return self._opened().lane(self._topology)

    def _taking(self) -> tuple[ConnectionLoop, Lane]:
        return self._opened().taking(self._topology)

    # Coming in.

    async def push(self, messages: Sequence[Message]) -> list[str | BackendError]:
        loop, lane = self._lane()
        errors = await loop.call(lane.publisher.store(messages, is_new=True))
        return [each.id if error is None else error for each, error in zip(messages, errors, strict=True)]

    async def delay(self, messages: Sequence[Message]) -> list[str | BackendError]:
        return await self.push(messages)

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> list[str | BackendError]:
        loop, lane = self._lane()
        errors = await loop.call(lane.store(messages, channel))
        return [each.id if error is None else error for each, error in zip(messages, errors, strict=True)]

    # Handing out.

    async def pop(self, limit: int, wait: float) -> list[Delivery]:
        if limit <= 0:
            return []
        _, lane = self._taking()
        popped = await lane.intake.pop(min(limit, MAX_BATCH), wait)
        deliveries = [_delivery(each) for each in popped]
        if any(each.count > 1 or each.message.deaths for each in deliveries):
            await lane.intake.withdraw(popped)
        return deliveries

    async def wait_ready(self, seconds: float) -> bool:
        _, lane = self._taking()
        return await lane.intake.wait_ready(seconds)

    async def lend(self, channel: Channel, limit: int) -> list[Delivery]:
        if channel not in LENT:
            raise NotImplementedError("what is reserved is in the hands of workers")
        if limit <= 0:
            return []
        loop, lane = self._taking()
        return await loop.call(lane.lend(channel, min(limit, MAX_BATCH)))

    # Settling.

    async def ack(self, receipts: Sequence[Any]) -> list[Result]:
        loop, lane = self._lane()
        return await loop.call(lane.ack(receipts))

    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> list[Result]:
        loop, lane = self._lane()
        return await loop.call(lane.move(pairs))

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> list[Result]:
        loop, lane = self._lane()
        return await loop.call(lane.move(pairs, channel))

    async def extend(self, receipts: Sequence[Any], seconds: float) -> list[Result]:
        """Never called: leases are connections here."""
        raise NotImplementedError

    # Moving and deleting.

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        loop, lane = self._lane()
        return await loop.call(lane.resting(channel).reload(limit, ids))

    async def flush(self, channel: Channel) -> int:
        if channel == "reserved":
            raise ValueError("what is reserved is in a worker's hands, and cannot be deleted")
        loop, lane = self._lane()
        return await loop.call(lane.flush(channel))

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        if channel == "reserved":
            raise ValueError("what is reserved is in a worker's hands, and cannot be deleted")
        loop, lane = self._lane()
        return await loop.call(lane.resting(_resting(channel)).forget(ids))

    async def destroy(self) -> None:
        loop, lane = self._lane()
        await loop.call(lane.destroy())

    # Looking.

    async def info(self) -> Info:
        loop, lane = self._lane()
        return await loop.call(lane.info())

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        """As `headrace_rabbitmq.resting` tells; the cursor is a number of messages, so what is removed shifts pages."""
        resting = _resting(channel)
        if limit <= 0:
            return Page([], None)
        loop, lane = self._lane()
        return await loop.call(lane.resting(resting).peek(limit, int(cursor or 0), ids))


def _delivery(delivered: Delivered) -> Delivery:
    message, earlier = received(delivered.message)
    return Delivery(message, delivered.receipt, earlier + 1)


def _resting(channel: Channel) -> RestingChannel:
    if channel == "failed" or channel == "timeout":
        return channel
    raise NotImplementedError(
        f"RabbitMQ shows messages only to whoever takes them, and those of {channel!r} are not ours"
    )
