"""The one channel on which everything is declared, counted, purged and deleted.

The broker ends a channel that asks for what it refuses. So nothing else is sent on this one, and
whoever comes next finds another.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from aiormq import Connection, exceptions
from pamqp import commands
from pamqp.base import Frame

from headrace_rabbitmq.connections.channel import BatchChannel
from headrace_rabbitmq.connections.link import Link
from headrace_rabbitmq.errors import Inequivalent, translated
from headrace_rabbitmq.management import Management
from headrace_rabbitmq.topology import HIGHEST, LOWEST, Topology

#: Seconds after which it is asked again whether others have declared a level that we do not know: each
#: question that is answered with no is an error in the broker's log.
_LOOK_AGAIN: Final = 5.0

#: Seconds that the broker gives a queue to end, before it deletes it by force.
_BY_FORCE: Final = 5.0


class Desk:
    """Sends one question at a time. Belongs to the event loop of the backend's thread."""

    def __init__(self, link: Link, management: Management | None) -> None:
        self._link = link
        self._management = management
        self._channel: BatchChannel | None = None
        self._lock = asyncio.Lock()

    async def ask(self, frame: Frame) -> Any:
        """Send a frame and give the broker's answer. Raises `BackendError`, `Inequivalent` among them."""
        with translated(self._link.place):
            async with self._lock:
                try:
                    return await self._ask(frame)
                except exceptions.ChannelPreconditionFailed as error:
                    raise await self._inequivalent(frame, str(error.args[0])) from error

    async def find(self, frame: Frame) -> Any | None:
        """The same, and ``None`` if what it names is not there."""
        with translated(self._link.place):
            async with self._lock:
                try:
                    return await self._ask(frame)
                except exceptions.ChannelNotFoundEntity:
                    return None

    async def _ask(self, frame: Frame) -> Any:
        connection = await self._link.connection()
        if self._channel is None or self._channel.is_closed or self._channel.connection is not connection:
            self._channel = await self._link.channel(_plain)
        try:
            async with asyncio.timeout(self._link.timeout):
                return await self._channel.rpc(frame)
        except TimeoutError:
            self._link.drop()
            raise

    async def _inequivalent(self, frame: Frame, text: str) -> Inequivalent:
        name = getattr(frame, "queue", "") or getattr(frame, "exchange", "")
        wanted = getattr(frame, "arguments", None)
        found = text
        if self._management is not None and isinstance(frame, commands.Queue.Declare):
            arguments = await self._management.arguments(name)
            found = f"{arguments}; {text}" if arguments is not None else text
        return Inequivalent(
            f"{self._link.place} has a queue or exchange {name!r} that headrace did not make: delete or rename it, "
            f"or give the queue another prefix. Wanted: durable, {wanted}. There: {found}"
        )


class Declared:
    """What is known to stand in the broker for one queue."""

    def __init__(self, desk: Desk, topology: Topology) -> None:
        self._desk = desk
        self._topology = topology
        self._lock = asyncio.Lock()
        self._queues: set[str] = set()  #: of ``waiting``, ``failed`` and ``timeout``
        self._level = LOWEST - 1  #: the highest that is there
        self._looked_at = -_LOOK_AGAIN

    async def ensure(self, queue: str, level: int = 0) -> None:
        """Declare ``waiting``, ``failed`` or ``timeout``, and the levels up to this one, unless they are known."""
        if queue in self._queues and level <= self._level:
            return
        async with self._lock:
            if queue not in self._queues:
                is_waiting = queue == self._topology.waiting
                await self._declare(self._topology.declare_waiting() if is_waiting else [self._topology.declare(queue)])
                self._queues.add(queue)
            while self._level < level:
                await self._declare(self._topology.declare_level(self._level + 1))
                self._level += 1

    async def _declare(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            await self._desk.ask(frame)

    def forget(self) -> None:
        """Something is not there any more: declare everything again when it is needed."""
        self._queues.clear()
        self._level = LOWEST - 1
        self._looked_at = -_LOOK_AGAIN

    async def levels(self, *, surely: bool = False) -> range:
        """The levels that are there, those that others have declared among them.

        Of these it knows within some seconds, or ``surely``.
        """
        now = asyncio.get_running_loop().time()
        if surely or now - self._looked_at >= _LOOK_AGAIN:
            self._looked_at = now
            level = self._level
            while level < HIGHEST and await self._desk.find(
                self._topology.declare_level_queue(level + 1, passive=True)
            ):
                level += 1
            self._level = max(self._level, level)
        return range(LOWEST, self._level + 1)

    async def count(self, queue: str) -> int:
        """How many messages of ``waiting``, ``failed`` or ``timeout`` are ready; declares it."""
        answer = await self._desk.ask(self._topology.declare(queue))
        return answer.message_count or 0

    async def count_delayed(self) -> int:
        total = 0
        for level in await self.levels():
            answer = await self._desk.find(self._topology.declare_level_queue(level, passive=True))
            if answer is None:
                self.forget()
                break
            total += answer.message_count or 0
        return total

    async def delete(self, link: Link) -> None:
        """Remove everything of the queue, on a channel of its own: it takes its time, and others need not wait."""
        levels = await self.levels(surely=True)
        self.forget()
        channel = await link.channel(_plain)
        try:
            # One more: whoever declared it may have ended between its exchange and its queue.
            for frame in self._topology.delete(min(levels.stop, HIGHEST)):
                with translated(link.place):
                    async with asyncio.timeout(link.timeout + _BY_FORCE):
                        await channel.rpc(frame)
        finally:
            link.abandon(channel)


def _plain(connection: Connection, number: int) -> BatchChannel:
    return BatchChannel(connection, number, publisher_confirms=False)
