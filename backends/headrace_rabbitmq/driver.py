"""The RabbitMQ driver: the contract's verbs, each a call that crosses over to the backend's thread."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from headrace.driver import Channel, Delivery, Driver, Info, Message, Page, RestingChannel, Result
from headrace.errors import BackendError
from headrace_rabbitmq.codec import received
from headrace_rabbitmq.lane import Lane
from headrace_rabbitmq.lending import LENT
from headrace_rabbitmq.thread import LoopThread
from headrace_rabbitmq.unpopped import Delivered

#: Items in one call: some 0.1 s of the broker's time.
MAX_BATCH: Final = 1000


class RabbitDriver(Driver):
    """Carries one queue's messages in the queues and exchanges whose names begin with its prefix."""

    def __init__(self, lane: Callable[[], tuple[LoopThread, Lane]]) -> None:
        self._lane = lane

    # Coming in.

    async def push(self, messages: Sequence[Message]) -> list[str | BackendError]:
        thread, lane = self._lane()
        errors = await thread.call(lane.publisher.store(messages, is_new=True))
        return [each.id if error is None else error for each, error in zip(messages, errors, strict=True)]

    async def delay(self, messages: Sequence[Message]) -> list[str | BackendError]:
        return await self.push(messages)

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> list[str | BackendError]:
        thread, lane = self._lane()
        errors = await thread.call(lane.store(messages, channel))
        return [each.id if error is None else error for each, error in zip(messages, errors, strict=True)]

    # Handing out.

    async def pop(self, limit: int, wait: float) -> list[Delivery]:
        if limit <= 0:
            return []
        _, lane = self._lane()
        popped = await lane.intake.pop(min(limit, MAX_BATCH), wait)
        deliveries = [_delivery(each) for each in popped]
        if any(each.count > 1 or each.message.deaths for each in deliveries):
            await lane.intake.withdraw(popped)
        return deliveries

    async def wait_ready(self, seconds: float) -> bool:
        _, lane = self._lane()
        return await lane.intake.wait_ready(seconds)

    async def lend(self, channel: Channel, limit: int) -> list[Delivery]:
        if channel not in LENT:
            raise NotImplementedError("what is reserved is in the hands of workers")
        thread, lane = self._lane()
        return await thread.call(lane.lend(channel, min(limit, MAX_BATCH))) if limit > 0 else []

    # Settling.

    async def ack(self, receipts: Sequence[Any]) -> list[Result]:
        thread, lane = self._lane()
        return await thread.call(lane.ack(receipts))

    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> list[Result]:
        thread, lane = self._lane()
        return await thread.call(lane.move(pairs))

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> list[Result]:
        thread, lane = self._lane()
        return await thread.call(lane.move(pairs, channel))

    async def extend(self, receipts: Sequence[Any], seconds: float) -> list[Result]:
        """Never called: leases are connections here."""
        raise NotImplementedError

    # Moving and deleting.

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        thread, lane = self._lane()
        return await thread.call(lane.resting(channel).reload(limit, ids))

    async def flush(self, channel: Channel) -> int:
        if channel == "reserved":
            raise ValueError("what is reserved is in a worker's hands, and cannot be deleted")
        thread, lane = self._lane()
        return await thread.call(lane.flush(channel))

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        if channel == "reserved":
            raise ValueError("what is reserved is in a worker's hands, and cannot be deleted")
        thread, lane = self._lane()
        return await thread.call(lane.resting(_resting(channel)).forget(ids))

    async def destroy(self) -> None:
        thread, lane = self._lane()
        await thread.call(lane.destroy())

    # Looking.

    async def info(self) -> Info:
        thread, lane = self._lane()
        return await thread.call(lane.info())

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        """As `headrace_rabbitmq.resting` tells; the cursor is a number of messages, so what is removed shifts pages."""
        resting = _resting(channel)
        if limit <= 0:
            return Page([], None)
        thread, lane = self._lane()
        return await thread.call(lane.resting(resting).peek(limit, int(cursor or 0), ids))


def _delivery(delivered: Delivered) -> Delivery:
    message, earlier = received(delivered.message)
    return Delivery(message, delivered.receipt, earlier + 1)


def _resting(channel: Channel) -> RestingChannel:
    if channel == "failed" or channel == "timeout":
        return channel
    raise NotImplementedError(
        f"RabbitMQ shows messages only to whoever takes them, and those of {channel!r} are not ours"
    )
