"""What one channel has been given and has not acked: the deliveries that its receipts stand for.

Owns which of them are valid. A channel is a lease: when it ends, by whatever cause, all of them are over.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiormq.abc import DeliveredMessage
from pamqp import commands
from pamqp.base import Frame

from headrace.errors import BackendError, BackendUnavailable
from headrace_rabbitmq.connections.channel import DeliveryChannel
from headrace_rabbitmq.connections.link import Link
from headrace_rabbitmq.errors import translated


class Receipt(NamedTuple):
    """Proof of one delivery, for as long as its channel lives."""

    hold: "Hold"
    tag: int

    def claim(self) -> bool:
        """Take it upon oneself to settle the delivery; false if it is over, or another has done so."""
        return self.hold.claim(self.tag)

    def release(self) -> None:
        """The delivery could not be settled; whoever has its receipt may try again."""
        self.hold.release(self.tag)


class Hold:
    """Belongs to the event loop of its connections, but for `Receipt`, which anybody may have."""

    def __init__(self, link: Link, queue: str) -> None:
        self._link = link
        self._queue = queue
        self.channel: DeliveryChannel
        self._acking = asyncio.Lock()
        self._unacked: dict[int, bool] = {}  #: numbers in rising order; whether somebody is about to settle it
        self._on_settled: Callable[[int], object]
        self._on_end: Callable[[BaseException | None], object]
        self.is_over = False

    async def open(
        self,
        on_delivery: Callable[[DeliveredMessage], object],
        *,
        on_settled: Callable[[int], object] = lambda tag: None,
        on_cancel: Callable[[], object] = lambda: None,
        on_end: Callable[[BaseException | None], object] = lambda error: None,
    ) -> None:
        """Open the channel. Raises `BackendError`.

        ``on_cancel``: the broker ended a consumer. ``on_end``: the channel has ended, by whatever cause; called once.
        """

        def receive(message: DeliveredMessage) -> None:
            if not self.is_over:  # what comes on a channel that was given up goes back with it
                self._unacked[message.delivery_tag or 0] = False
                on_delivery(message)

        def end(closing: "asyncio.Future[Any]") -> None:
            self._end(None if closing.cancelled() else closing.exception())

        self._on_end = on_end
        self._on_settled = on_settled
        self.channel = await self._link.channel(lambda connection, number: DeliveryChannel(connection, number, receive))
        self.channel.on_consumer_cancel_callbacks.add(lambda _: on_cancel())
        self.channel.closing.add_done_callback(end)

    def is_of(self, link: Link, queue: str) -> bool:
        return self._link is link and self._queue == queue

    @property
    def held(self) -> int:
        """How many deliveries are not acked."""
        return len(self._unacked)

    def claim(self, tag: int) -> bool:
        if self._unacked.get(tag, True):
            return False
        self._unacked[tag] = True
        return True

    def release(self, tag: int) -> None:
        if tag in self._unacked:
            self._unacked[tag] = False

    async def settle(self, tags: Collection[int]) -> None:
        """Ack what was claimed. Raises `BackendError` if the broker may not have heard of it.

        One frame acks all up to a number. It is used as far as none below that is still held.
        """
        async with self._acking:
            acked = {tag for tag in tags if tag in self._unacked}
            if len(acked) < len(tags):
                raise BackendUnavailable(f"{self._link.place} ended the channel before it heard of all acks")
            upto = 0
            for tag in self._unacked:
                if tag not in acked:
                    break
                upto = tag
            for tag in acked:
                del self._unacked[tag]
                self._on_settled(tag)
            try:
                with translated(self._link.place):
                    async with asyncio.timeout(self._link.timeout):
                        await self.channel.ack(sorted(tag for tag in acked if tag > upto), upto)
            except BackendError:
                self.give_up()  # else what the broker did not hear of would be held until the connection ends
                raise

    @asynccontextmanager
    async def without_acks(self) -> AsyncIterator[None]:
        """Let no ack go out in here: it would give a consumer credit."""
        async with self._acking:
            yield

    async def ask(self, frame: Frame) -> Any:
        """Send a frame and give the answer. All that was delivered before it has come in by then.

        Raises `BackendError`. After silence the channel is given up: at once, or, if the question was only
        how much there is, when the answer has not come for long. Deliveries are worth more than that.
        """
        asking = asyncio.create_task(self.channel.rpc(frame))
        asking.add_done_callback(_heard)
        with translated(self._link.place):
            try:
                async with asyncio.timeout(self._link.timeout):
                    return await asyncio.shield(asking)
            except TimeoutError:
                patience = self._link.patience if isinstance(frame, commands.Queue.Declare) else 0.0
                asyncio.get_running_loop().call_later(patience, self._give_up_unless, asking)
                self._link.doubt()
                raise

    def _give_up_unless(self, asking: "asyncio.Task[Any]") -> None:
        if not asking.done():
            self.give_up()

    async def consume(self, consume: commands.Basic.Consume, prefetch: int) -> None:
        """Begin a consumer that is given so many messages beyond what is held already. Raises `BackendError`."""
        await self.ask(commands.Basic.Qos(prefetch_count=prefetch))
        assert consume.consumer_tag is not None
        self.channel.consumers[consume.consumer_tag] = _received_elsewhere
        await self.ask(consume)

    def give_up(self) -> None:
        """End the channel; what it holds goes back to the queue, and counts as not settled."""
        self._end(None)
        self._link.abandon(self.channel)

    def _end(self, error: BaseException | None) -> None:
        if not self.is_over:
            self.is_over = True
            self._unacked.clear()
            self._on_end(error)


async def _received_elsewhere(message: DeliveredMessage) -> None:
    """What aiormq would call; it has to know which consumers there are, to answer when the broker ends one."""


def _heard(task: "asyncio.Task[Any]") -> None:
    """Whoever waited for it may have gone."""
    if not task.cancelled():
        task.exception()


async def settle(receipts: Collection[Receipt]) -> None:
    """Ack deliveries that were claimed, whatever channels they came on. Raises `BackendError`."""
    by_hold: dict[Hold, list[int]] = {}
    for hold, tag in receipts:
        by_hold.setdefault(hold, []).append(tag)
    errors: list[BackendError] = []
    for hold, tags in by_hold.items():
        try:
            await hold.settle(tags)
        except BackendError as error:
            errors.append(error)
    if errors:
        raise errors[0]
