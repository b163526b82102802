"""Lending: handing out messages of any channel to whoever moves them to another queue.

What is lent is held by a channel of its own, one for each queue of the broker, and is in its queue again when the
connection ends. As long as it is held it does not fall due. What waits could be popped as well; but a pop looks after
messages that may end their worker, and fetches no more than is run soon, which here is of no use.
"""

import asyncio
import time
from typing import Final

import msgspec
from aiormq.abc import DeliveredMessage

from headrace.driver import ALL_CHANNELS, Channel, Delivery
from headrace.errors import BackendError
from headrace_rabbitmq.codec import due, received
from headrace_rabbitmq.connections.link import Link
from headrace_rabbitmq.desk import Declared
from headrace_rabbitmq.errors import is_missing
from headrace_rabbitmq.frames import QueueDeclare
from headrace_rabbitmq.holding import Hold, Receipt
from headrace_rabbitmq.reading import Reader
from headrace_rabbitmq.topology import Topology, remaining

#: The channels that are lent of.
LENT: Final[frozenset[Channel]] = ALL_CHANNELS - {"reserved"}

#: Seconds for messages that were counted, and do not come: others have taken them, or they fell due. Whoever
#: borrows asks again.
_PATIENCE: Final = 0.2


class _Lender:
    """Lends out of one queue of the broker."""

    def __init__(self, link: Link, declare: QueueDeclare) -> None:
        self._link = link
        self._declare = declare
        self._hold: Hold | None = None
        self._reader: Reader
        self._lock = asyncio.Lock()

    async def take(self, limit: int) -> list[tuple[Receipt, DeliveredMessage]]:
        """At most so many, the oldest first. Raises `BackendError`."""
        async with self._lock:
            hold = self._hold
            if hold is None or hold.is_over:
                hold = Hold(self._link, self._declare.queue)
                self._reader = Reader(hold, self._declare, _PATIENCE)
                await hold.open(self._reader.receive)
                self._hold = hold
            await self._reader.count()
            taken = await self._reader.take(limit, window=limit)  # others of this queue wait for no answer here
            return [(Receipt(hold, each.delivery_tag or 0), each) for each in taken]

    def has_lent(self, receipt: Receipt) -> bool:
        return receipt.hold is self._hold

    def give_up(self) -> None:
        if self._hold is not None:
            self._hold.give_up()


class Lending:
    """What is lent of one queue of ours. Belongs to the event loop of its connections."""

    def __init__(self, link: Link, declared: Declared, topology: Topology) -> None:
        self._link = link
        self._declared = declared
        self._topology = topology
        self._lenders: dict[str, _Lender] = {}

    async def lend(self, channel: Channel, limit: int) -> list[Delivery]:
        """As `headrace.driver.Driver.lend`."""
        if channel == "delayed":
            return await self._lend_delayed(limit)
        queue = {"failed": self._topology.failed, "timeout": self._topology.timeout}.get(
            channel, self._topology.waiting
        )
        await self._declared.ensure(queue)
        taken = await self._lender(self._topology.declare(queue)).take(limit)
        return [_delivery(receipt, each, counts=channel == "waiting") for receipt, each in taken]

    async def _lend_delayed(self, limit: int) -> list[Delivery]:
        """From the longest stay to the shortest, the way that messages go: none is missed on its way."""
        lent: list[Delivery] = []
        for level in reversed(await self._declared.levels()):
            try:
                declare = self._topology.declare_level_queue(level, passive=True)
                taken = await self._lender(declare).take(limit - len(lent))
            except BackendError as error:
                if not is_missing(error):
                    raise
                self._declared.forget()
                break
            lent += [_delayed(receipt, each, level) for receipt, each in taken]
            if len(lent) >= limit:
                break
        return lent

    def _lender(self, declare: QueueDeclare) -> _Lender:
        return self._lenders.setdefault(declare.queue, _Lender(self._link, declare))

    def has_lent(self, receipt: Receipt) -> bool:
        """Whether a receipt is of what was lent here."""
        return any(each.has_lent(receipt) for each in self._lenders.values())

    def give_up(self) -> None:
        """The queue is destroyed: end the receipts of all that was lent."""
        for each in self._lenders.values():
            each.give_up()


def _delivery(receipt: Receipt, delivered: DeliveredMessage, *, counts: bool) -> Delivery:
    """``counts``: whether deliveries do that ended before this one."""
    message, earlier = received(delivered)
    return Delivery(message, receipt, earlier + 1 if counts else 1)


def _delayed(receipt: Receipt, delivered: DeliveredMessage, level: int) -> Delivery:
    """A message of a level's queue, with what remains of its delay.

    The broker tells nobody since when it is there. That is told by the clock of whoever delayed it and by ours, within
    what is left of it at least and at most.
    """
    least, most = remaining(delivered.routing_key or "", level)
    until = due(delivered)
    left = most if until is None else min(most, max(least, until - time.time()))
    return Delivery(msgspec.structs.replace(received(delivered)[0], delay=left), receipt, 1)
