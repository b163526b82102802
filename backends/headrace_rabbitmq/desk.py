"""The channels on which everything is declared, counted, purged and deleted.

The broker ends a channel that asks for what it refuses. So nothing else is sent on these, and each
has one question at a time; whoever comes after a refusal finds another.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any, Final

from aiormq import Connection, exceptions
from pamqp import commands
from pamqp.base import Frame

from headrace.errors import BackendError, BackendUnavailable
from headrace_rabbitmq.connections.channel import BatchChannel
from headrace_rabbitmq.connections.link import Link
from headrace_rabbitmq.errors import is_missing, translated
from headrace_rabbitmq.frames import QueuePurge
from headrace_rabbitmq.management import Management
from headrace_rabbitmq.topology import HIGHEST, LOWEST, Topology

#: Questions at a time. Whoever uses fifty queues begins with some hundred, each of which takes its time on a busy
#: machine; more at a time gain little, as the broker makes one queue after the other.
_AT_ONCE: Final = 8

#: Seconds after which it is asked again whether others have declared a level that we do not know: each
#: question that is answered with no is an error in the broker's log.
_LOOK_AGAIN: Final = 5.0

#: Seconds that a queue which is being deleted gets, before it is declared anew.
_PAUSE: Final = 0.05

#: What the broker says of a queue or exchange that is there, and was declared otherwise.
_OTHERWISE: Final = "inequivalent arg"

#: Seconds that the broker gives a queue to end, before it deletes it by force.
_BY_FORCE: Final = 5.0


class Desk:
    """Sends some questions at a time. Belongs to the event loop of its connections."""

    def __init__(self, link: Link, management: Management | None) -> None:
        self._link = link
        self._management = management
        self._idle: list[BatchChannel] = []
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def ask(self, frame: Frame) -> Any:
        """Send a frame and give the broker's answer. Raises `BackendError`."""
        with translated(self._link.place):
            try:
                return await self._ask(frame)
            except exceptions.ChannelPreconditionFailed as error:
                raise await self._refused(frame, str(error.args[0])) from error

    async def find(self, frame: Frame) -> Any | None:
        """The same, and ``None`` if what it names is not there."""
        with translated(self._link.place):
            try:
                return await self._ask(frame)
            except exceptions.ChannelNotFoundEntity:
                return None

    async def _ask(self, frame: Frame) -> Any:
        async with self._turns:
            channel = await self._channel()
            try:
                async with asyncio.timeout(self._link.timeout):
                    answer = await channel.rpc(frame)
            except TimeoutError:
                self._link.abandon(channel)
                self._link.doubt()
                raise
            self._idle.append(channel)  # but not one on which something went wrong
            return answer

    async def _channel(self) -> BatchChannel:
        connection = await self._link.connection()
        while self._idle:
            channel = self._idle.pop()
            if channel.connection is connection and not channel.is_closed:
                return channel
        return await self._link.channel(_plain)

    async def _refused(self, frame: Frame, text: str) -> BackendError:
        """Why a queue or exchange could not be declared, with both sets of arguments as far as they are known."""
        place = self._link.place
        if _OTHERWISE not in text or not isinstance(frame, commands.Queue.Declare | commands.Exchange.Declare):
            return BackendError(f"{place} refuses to make what a queue needs: {text}")
        theirs: object = None
        if isinstance(frame, commands.Queue.Declare):
            kind, name, ours = "queue", frame.queue, f"durable, {frame.arguments}"
            if self._management is not None:
                theirs = await self._management.arguments(name)
        else:
            kind, name, ours = "exchange", frame.exchange, f"durable, {frame.exchange_type}"
        return BackendError(
            f"{place} has another {kind} {name!r} than headrace declares: delete or rename it, or give the queue "
            f"another prefix. Ours: {ours}. There: {text if theirs is None else f'{theirs}; {text}'}"
        )


class _Known:
    """What stands in the broker, as far as it was declared or found since something was last missing there."""

    def __init__(self) -> None:
        self.queues: set[str] = set()  #: of ``waiting``, ``failed`` and ``timeout``
        self.level = LOWEST - 1  #: the highest that is there
        self.looked_at = -_LOOK_AGAIN


class Declared:
    """What is known to stand in the broker for one queue."""

    def __init__(self, desk: Desk, topology: Topology) -> None:
        self._desk = desk
        self._topology = topology
        self._lock = asyncio.Lock()
        self._known = _Known()

    async def ensure(self, queue: str, level: int = 0) -> None:
        """Declare ``waiting``, ``failed`` or ``timeout``, and the levels up to this one, unless they are known.

        Heals by itself, once, if something that it builds on goes while it does so.
        """
        if queue in self._known.queues and level <= self._known.level:
            return
        async with self._lock:
            try:
                await self._make(self._known, queue, level)
            except BackendError as error:
                if not is_missing(error):
                    raise
                self.forget()
                await asyncio.sleep(_PAUSE)
                await self._make(self._known, queue, level)

    async def _make(self, known: "_Known", queue: str, level: int) -> None:
        if queue not in known.queues:
            is_waiting = queue == self._topology.waiting
            await self._declare(self._topology.declare_waiting() if is_waiting else [self._topology.declare(queue)])
            known.queues.add(queue)
        while known.level < level:
            await self._declare(self._topology.declare_level(known.level + 1))
            known.level += 1

    async def _declare(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            await self._desk.ask(frame)

    def forget(self) -> None:
        """Something is not there any more: declare everything again when it is needed.

        What is being declared at this moment may have stood on it, so that counts as unknown, too.
        """
        self._known = _Known()

    async def levels(self, *, surely: bool = False) -> range:
        """The levels that are there, those that others have declared among them.

        Of these it knows within some seconds, or ``surely``.
        """
        now = asyncio.get_running_loop().time()
        known = self._known
        if surely or now - known.looked_at >= _LOOK_AGAIN:
            known.looked_at = now
            level = known.level
            while level < HIGHEST and await self._desk.find(
                self._topology.declare_level_queue(level + 1, passive=True)
            ):
                level += 1
            known.level = max(known.level, level)
        return range(LOWEST, known.level + 1)

    async def count(self, queue: str) -> int:
        """How many messages of ``waiting``, ``failed`` or ``timeout`` are ready; declares it."""
        answer = await self._desk.ask(self._topology.declare(queue))
        return answer.message_count or 0

    async def count_delayed(self) -> int:
        total = 0
        for level in reversed(await self.levels()):  # the way that messages go: none is missed on its way
            answer = await self._desk.find(self._topology.declare_level_queue(level, passive=True))
            if answer is None:
                self.forget()
                break
            total += answer.message_count or 0
        return total

    async def delete(self, link: Link) -> None:
        """Remove everything of the queue, on a channel of its own: it takes its time, and others need not wait.

        Done again for a moment if it fails: a broker that has just come back may break over a queue of which it
        has not found all. What is gone already is no error.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + link.timeout
        while True:
            try:
                levels = await self.levels(surely=True)
                self.forget()
                await self._settle(levels)
                # One more: whoever declared it may have ended between its exchange and its queue.
                return await self._delete(link, min(levels.stop, HIGHEST))
            except BackendUnavailable:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(_PAUSE)

    async def _delete(self, link: Link, highest: int) -> None:
        channel = await link.channel(_plain)
        try:
            for frame in self._topology.delete(highest):
                with translated(link.place):
                    async with asyncio.timeout(link.timeout + _BY_FORCE):
                        await channel.rpc(frame)
        finally:
            link.abandon(channel)

    async def _settle(self, levels: range) -> None:
        """Wait until each queue that dead-letters has a leader, as far as it comes to have one.

        RabbitMQ 3.10 starts what dead-letters when there is a leader; should its queue be deleted in that very moment,
        it falls, and with it the dead-lettering of all queues of that node until the node is started again.
        """
        queues = [self._topology.waiting, *map(self._topology.level, levels)]
        with contextlib.suppress(BackendUnavailable):  # a queue that never has one is deleted by force
            for queue in queues:
                await self._desk.find(QueuePurge(queue=queue))  # which a leader must answer


def _plain(connection: Connection, number: int) -> BatchChannel:
    return BatchChannel(connection, number, publisher_confirms=False)
