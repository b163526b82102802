"""Taking messages out of a queue that nobody consumes: all that were there, and then no more."""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Final

from aiormq.abc import DeliveredMessage
from pamqp import commands

from headrace_rabbitmq.codec import received
from headrace_rabbitmq.frames import Consume, QueueDeclare
from headrace_rabbitmq.holding import Hold, Receipt, settle

#: Messages that are taken at a time: no answer stands behind more than that.
WINDOW: Final = 250

#: Seconds without a message after which the broker is asked for a sign of life, and whether there are more.
_QUIET: Final = 0.2

#: By whose order the broker gives back what several consumers of a channel were given.
_TAG: Final = "headrace-reader-{:09}"


class Reader:
    """Takes messages of one queue, the oldest first.

    ``declare`` makes the queue, or tells how many messages it has. ``patience``: seconds for messages that were
    counted, and do not come.
    """

    def __init__(self, hold: Hold, declare: QueueDeclare, patience: float) -> None:
        self._hold = hold
        self._declare = declare
        self._patience = patience
        self._consumers = 0
        self._came: list[DeliveredMessage] = []
        self._arrival = asyncio.Event()
        self.left = 0  #: how many there were when it began, but for those that it has taken

    async def count(self) -> int:
        """How many there are to be taken. Raises `BackendError`."""
        self.left = await self._ready()
        return self.left

    def receive(self, delivered: DeliveredMessage) -> None:
        self._came.append(delivered)
        self._arrival.set()

    async def _ready(self) -> int:
        answer = await self._hold.ask(self._declare)
        return answer.message_count or 0

    async def take(self, wanted: int, window: int = WINDOW) -> list[DeliveredMessage]:
        """At most so many, and fewer only if there are no more; ``window`` of them at a time."""
        taken: list[DeliveredMessage] = []
        while size := min(wanted - len(taken), self.left, window):
            part = await self._take(size)
            taken += part
            self.left = self.left - len(part) if part else 0
        return taken

    async def take_in_order(self, wanted: int, count: int) -> list[DeliveredMessage]:
        """At least so many of ``count`` that there are, and all that were ever given back.

        Those stand first, and what is given back once more stands behind the others of them.
        """
        taken = await self.take(wanted)
        while taken and len(taken) < count and received(taken[-1])[1]:
            more = await self.take(min(WINDOW, count - len(taken)))
            if not more:
                break
            taken += more
        return taken

    async def _take(self, wanted: int) -> list[DeliveredMessage]:
        self._consumers += 1
        tag = _TAG.format(self._consumers)
        await self._hold.consume(Consume(queue=self._declare.queue, consumer_tag=tag), wanted)
        while len(self._came) < wanted and await self._comes_more():
            pass
        await self._hold.ask(commands.Basic.Cancel(consumer_tag=tag))
        taken, self._came = self._came, []
        return taken

    async def _comes_more(self) -> bool:
        """Wait for another message; false if none comes though the broker answers, and those counted are elsewhere.

        A large one takes its time, a busy broker too, and a cluster may send messages by another way than its
        answers. What another reader has taken comes when that gives it back, or never.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        while True:
            self._arrival.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_QUIET):
                    await self._arrival.wait()
                    return True
            before = len(self._came)
            await self._ready()
            if len(self._came) > before:
                return True
            if loop.time() > deadline:
                return False

    async def remove(self, delivered: Collection[DeliveredMessage]) -> None:
        await settle([Receipt(self._hold, each.delivery_tag or 0) for each in delivered])
