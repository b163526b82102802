"""Everything that one queue has where its connections live, and the verbs as they run there."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from headrace.driver import Channel, Delivery, Info, Message, RestingChannel, Result, Settled
from headrace.errors import BackendError
from headrace_rabbitmq.connections.link import Link
from headrace_rabbitmq.desk import Declared, Desk
from headrace_rabbitmq.feed import Feed
from headrace_rabbitmq.frames import QueuePurge
from headrace_rabbitmq.holding import Receipt, settle
from headrace_rabbitmq.intake import Intake
from headrace_rabbitmq.lending import Lending
from headrace_rabbitmq.loops import ConnectionLoop
from headrace_rabbitmq.management import Management
from headrace_rabbitmq.publishing import Publisher
from headrace_rabbitmq.resting import Resting
from headrace_rabbitmq.topology import Topology


class Lane:
    """One queue. All but `intake` belongs to the event loop of its connections."""

    def __init__(
        self,
        connections: ConnectionLoop,
        publishing: Link,
        consuming: Link,
        desk: Desk,
        management: Management | None,
        topology: Topology,
    ) -> None:
        self._consuming = consuming
        self._desk = desk
        self._management = management
        self._topology = topology
        self._declared = Declared(desk, topology)
        self.publisher = Publisher(publishing, self._declared, topology)
        self.feed = Feed(consuming, self._declared, topology, self.publisher)
        self.intake = Intake(connections, self.feed)
        self._resting: dict[RestingChannel, Resting] = {}
        self._lending = Lending(consuming, self._declared, topology)

    def resting(self, channel: RestingChannel) -> Resting:
        if channel not in self._resting:
            queue = self._queue(channel)
            self._resting[channel] = Resting(self._consuming, self._declared, self._topology, self.publisher, queue)
        return self._resting[channel]

    def _queue(self, channel: RestingChannel) -> str:
        return self._topology.failed if channel == "failed" else self._topology.timeout

    # Moving here from another queue, and away from here.

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> list[BackendError | None]:
        """Publish messages to a resting channel; what kept each from being stored."""
        return await self.publisher.store(messages, self._queue(channel), is_new=True)

    async def lend(self, channel: Channel, limit: int) -> list[Delivery]:
        return await self._lending.lend(channel, limit)

    # Settling.

    async def ack(self, receipts: Sequence[Any]) -> list[Result]:
        results: list[Result] = [Settled.STALE] * len(receipts)
        claimed: list[Receipt] = []
        for at, receipt in enumerate(receipts):
            if self._claim(receipt) or self._claim_lent(receipt):
                results[at] = Settled.DONE
                claimed.append(receipt)
        await settle(claimed)
        return results

    async def move(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel | None = None) -> list[Result]:
        """Publish and confirm each message, to a resting channel or by its delay, and only then ack its delivery."""
        results: list[Result] = [Settled.STALE] * len(pairs)
        places = [at for at, (receipt, _) in enumerate(pairs) if self._claim(receipt)]
        if not places:
            return results
        queue = self._queue(channel) if channel is not None else ""
        moved: list[Receipt] = []
        try:
            errors = await self.publisher.store([pairs[at][1] for at in places], queue)
            for at, error in zip(places, errors, strict=True):
                results[at] = Settled.DONE if error is None else error
                if error is None:
                    moved.append(pairs[at][0])
        finally:
            done = set(moved)
            for receipt in (pairs[at][0] for at in places):
                if receipt not in done:
                    receipt.release()
        # What is not acked comes again, beside what was published: a duplicate, and no loss.
        with contextlib.suppress(BackendError):
            await settle(moved)
        return results

    def _claim(self, receipt: Any) -> bool:
        if not isinstance(receipt, Receipt) or not receipt.hold.is_of(self._consuming, self._topology.waiting):
            return False
        return receipt.claim()

    def _claim_lent(self, receipt: Any) -> bool:
        return isinstance(receipt, Receipt) and self._lending.has_lent(receipt) and receipt.claim()

    # Looking and removing.

    async def info(self) -> Info:
        # First where messages come from, then where they go: one on its way is counted twice, and never missed.
        count = self._declared.count
        delayed = await self._declared.count_delayed()
        waiting = await count(self._topology.waiting)
        failed, timeout = await count(self._topology.failed), await count(self._topology.timeout)
        unpopped = len(self.feed.buffer)
        reserved = await self._management.reserved(self._topology.waiting) if self._management is not None else None
        if reserved is not None:
            reserved = max(0, reserved - unpopped)
        return Info(waiting + unpopped, reserved, delayed, failed, timeout, None)

    async def flush(self, channel: Channel) -> int:
        if channel == "waiting":
            return await self.feed.flush()
        if channel == "delayed":
            levels = await self._declared.levels(surely=True)
            return await self._purge(self._topology.level(number) for number in reversed(levels))
        return await self._purge([self._queue("failed" if channel == "failed" else "timeout")])

    async def _purge(self, queues: Iterable[str]) -> int:
        deleted = 0
        for queue in queues:
            answer = await self._desk.find(QueuePurge(queue=queue))
            deleted += answer.message_count or 0 if answer is not None else 0
        return deleted

    async def destroy(self) -> None:
        await self.feed.give_up()
        self._lending.give_up()
        await self._declared.delete(self._consuming)  # which an alarm does not block
