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

from headrace.driver import NO_HEADERS, Message, Page
from headrace.errors import BackendError
from headrace_rabbitmq.codec import received
from headrace_rabbitmq.connections.link import Link
from headrace_rabbitmq.desk import Declared
from headrace_rabbitmq.errors import FOREIGN
from headrace_rabbitmq.holding import Hold
from headrace_rabbitmq.publishing import Publisher
from headrace_rabbitmq.reading import WINDOW, Reader
from headrace_rabbitmq.topology import Topology

#: Seconds for what was given back to be seen again, and between two looks.
_BACK: Final = 1.0
_LOOK: Final = 0.005


class Resting:
    """The verbs on one resting channel. Belongs to the event loop of its connections."""

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
            while taken := await reader.take(min(left, WINDOW)):
                moved += await self._move(reader, taken)
                left -= len(taken)
            return moved

    async def forget(self, ids: Collection[str]) -> int:
        """Delete messages."""
        async with self._reading() as (reader, count):
            chosen = await _chosen(reader, count, ids)
            await reader.remove(chosen)
            return len(chosen)

    async def _move(self, reader: Reader, taken: Sequence[DeliveredMessage]) -> int:
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
    async def _reading(self) -> AsyncIterator[tuple[Reader, int]]:
        """A reader, and how many messages there are. What it has not removed goes back afterwards."""
        async with self._lock:
            await self._declared.ensure(self._queue)
            hold = Hold(self._link, self._queue)
            reader = Reader(hold, self._topology.declare(self._queue), self._link.timeout)
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


async def _chosen(reader: Reader, count: int, ids: Collection[str]) -> list[DeliveredMessage]:
    """Those of these ids, the oldest first."""
    wanted = set(ids)
    return [each for each in await reader.take(count) if received(each)[0].id in wanted]


def _afresh(message: Message) -> Message:
    return Message(id=message.id, name=message.name, body=message.body, headers=message.headers or NO_HEADERS)
