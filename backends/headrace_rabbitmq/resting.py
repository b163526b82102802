"""Reading ``failed`` and ``timeout``: AMQP shows a message only to whoever takes it.

So a reader takes what it looks at, on a channel of its own, and gives back what it does not
move or delete. Meanwhile others do not see that, and counts are lower; given back, it stands at the
head again, in its order. Should the reader die, all of it comes back by itself.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiormq.abc import DeliveredMessage
from pamqp import commands

from headrace.driver import NO_HEADERS, Message, Page
from headrace.errors import BackendError
from headrace_rabbitmq.codec import received
from headrace_rabbitmq.connections.link import Link
from headrace_rabbitmq.desk import Declared
from headrace_rabbitmq.errors import FOREIGN
from headrace_rabbitmq.frames import Consume
from headrace_rabbitmq.holding import Hold, Receipt, settle
from headrace_rabbitmq.publishing import Publisher
from headrace_rabbitmq.topology import Topology

#: Messages that are taken, or moved, at a time: no answer stands behind more than that.
_WINDOW: Final = 250

#: Seconds without a message after which the broker is asked for a sign of life, and whether there are more.
_QUIET: Final = 0.2

#: Seconds for what was given back to be seen again, and between two looks.
_BACK: Final = 1.0
_LOOK: Final = 0.005

#: By whose order the broker gives back what several consumers of a channel were given.
_TAG: Final = "headrace-reader-{:09}"


class _Reader:
    """Takes messages of one queue, the oldest first."""

    def __init__(self, link: Link, hold: Hold, topology: Topology, queue: str) -> None:
        self._link = link
        self._hold = hold
        self._topology = topology
        self._queue = queue
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
        answer = await self._hold.ask(self._topology.declare(self._queue))
        return answer.message_count or 0

    async def take(self, wanted: int) -> list[DeliveredMessage]:
        """At most so many, and fewer only if there are no more."""
        taken: list[DeliveredMessage] = []
        while window := min(wanted - len(taken), self.left, _WINDOW):
            part = await self._take(window)
            taken += part
            self.left = self.left - len(part) if part else 0
        return taken

    async def take_in_order(self, wanted: int, count: int) -> list[DeliveredMessage]:
        """At least so many of ``count`` that there are, and all that were ever given back.

        Those stand first, and what is given back once more stands behind the others of them.
        """
        taken = await self.take(wanted)
        while taken and len(taken) < count and received(taken[-1])[1]:
            more = await self.take(min(_WINDOW, count - len(taken)))
            if not more:
                break
            taken += more
        return taken

    async def _take(self, wanted: int) -> list[DeliveredMessage]:
        self._consumers += 1
        tag = _TAG.format(self._consumers)
        await self._hold.consume(Consume(queue=self._queue, consumer_tag=tag), wanted)
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
        deadline = loop.time() + self._link.timeout
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


class Resting:
    """The verbs on one resting channel. Belongs to the event loop of the backend's thread."""

    def __init__(self, link: Link, declared: Declared, topology: Topology, publisher: Publisher, queue: str) -> None:
        self._link = link
        self._declared = declared
        self._topology = topology
        self._publisher = publisher
        self._queue = queue
        self._lock = asyncio.Lock()

    async def peek(self, limit: int, start: int, ids: Collection[str] | None) -> Page:
        """Show messages from the one at ``start`` on; the cursor is where the next page starts."""
        async with self._reading() as (reader, count):
            taken = await reader.take_in_order(count if ids is not None else min(count, start + limit), count)
            found = [received(each)[0] for each in taken]
            if ids is not None:
                wanted = set(ids)
                found = [each for each in found if each.id in wanted]
                count = len(found)
        shown = found[start : start + limit]
        end = start + len(shown)
        return Page(shown, str(end) if shown and end < count else None)

    async def reload(self, limit: int | None, ids: Collection[str] | None) -> int:
        """Move messages to ``waiting``, at most as many as there were when it began."""
        async with self._reading() as (reader, count):
            if ids is not None:
                chosen = await _chosen(reader, count, ids)
                return await self._move(reader, chosen[:limit])
            left = count if limit is None else min(count, limit)
            moved = 0
            while taken := await reader.take(min(left, _WINDOW)):
                moved += await self._move(reader, taken)
                left -= len(taken)
            return moved

    async def forget(self, ids: Collection[str]) -> int:
        """Delete messages."""
        async with self._reading() as (reader, count):
            chosen = await _chosen(reader, count, ids)
            await reader.remove(chosen)
            return len(chosen)

    async def _move(self, reader: _Reader, taken: Sequence[DeliveredMessage]) -> int:
        if not taken:
            return 0
        results = await self._publisher.store([_afresh(received(each)[0]) for each in taken])
        stored = [each for each, result in zip(taken, results, strict=True) if result is None]
        await reader.remove(stored)
        errors = [each for each in results if each is not None]
        if errors:
            raise errors[0]
        return len(stored)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[tuple[_Reader, int]]:
        """A reader, and how many messages there are. What it has not removed goes back afterwards."""
        async with self._lock:
            await self._declared.ensure(self._queue)
            hold = Hold(self._link, self._queue)
            reader = _Reader(self._link, hold, self._topology, self._queue)
            await hold.open(reader.receive)
            try:
                yield reader, await reader.count()
                held = hold.held
                if held:
                    await self._return(hold, held)
            finally:
                hold.give_up()

    async def _return(self, hold: Hold, held: int) -> None:
        """Give back what is held, and wait until it can be seen again: whoever asks next shall find it."""
        with contextlib.suppress(BackendError, TimeoutError, *FOREIGN):
            await hold.channel.requeue_all()
            async with asyncio.timeout(_BACK):
                while await self._declared.count(self._queue) < held:  # noqa: ASYNC110 - the broker tells nobody
                    await asyncio.sleep(_LOOK)


async def _chosen(reader: _Reader, count: int, ids: Collection[str]) -> list[DeliveredMessage]:
    """Those of these ids, the oldest first."""
    wanted = set(ids)
    return [each for each in await reader.take(count) if received(each)[0].id in wanted]


def _afresh(message: Message) -> Message:
    return Message(id=message.id, name=message.name, body=message.body, headers=message.headers or NO_HEADERS)
