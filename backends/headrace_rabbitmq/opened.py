"""An opened backend: its connections, where they live, and what each of its queues has there."""

import asyncio
from functools import partial
from typing import Final

from headrace_rabbitmq.connections.link import Link
from headrace_rabbitmq.connections.place import Place
from headrace_rabbitmq.desk import Desk
from headrace_rabbitmq.lane import Lane
from headrace_rabbitmq.loops import CallersLoop, ConnectionLoop, LoopThread
from headrace_rabbitmq.management import Management
from headrace_rabbitmq.settings import RabbitSettings
from headrace_rabbitmq.topology import Topology

#: Seconds that what was begun before somebody took messages gets to end, where it was begun.
_LAST_CALLS: Final = 60.0


class Opened:
    """Made on the event loop that uses it.

    Its connections live on that loop until somebody takes messages, and in a thread from then on.
    """

    def __init__(self, place: Place, settings: RabbitSettings, management: Management | None) -> None:
        self._make_side = partial(_Side, place=place, settings=settings, management=management)
        self._near = self._make_side(CallersLoop())
        self._far: _Side | None = None
        self._retiring: asyncio.Task[None] | None = None

    async def connect(self) -> str:
        """Connect; the broker's version. Raises `BackendError`."""
        return await self._near.connect()

    def lane(self, topology: Topology) -> tuple[ConnectionLoop, Lane]:
        """What a queue has here: shared by all its drivers."""
        side = self._far or self._near
        return side.loop, side.lane(topology)

    def taking(self, topology: Topology) -> tuple[ConnectionLoop, Lane]:
        """The same, where messages may be held for long."""
        if self._far is None:
            self._far = self._make_side(LoopThread("headrace-rabbitmq"))
            self._retiring = asyncio.get_running_loop().create_task(self._retire())
        return self.lane(topology)

    async def _retire(self) -> None:
        await self._near.loop.drain(_LAST_CALLS)
        await self._near.close()

    async def close(self) -> None:
        """Give back what nobody has popped, let calls that are under way end, and disconnect."""
        if self._retiring is not None:
            self._retiring.cancel()
        try:
            if self._far is not None:
                await self._far.close()
        finally:
            await self._near.close()


class _Side:
    """The connections on one event loop.

    One publishes and one consumes: when the broker is short of memory it stops reading
    from those that publish, and acks must go on.
    """

    def __init__(
        self, loop: ConnectionLoop, place: Place, settings: RabbitSettings, management: Management | None
    ) -> None:
        self.loop = loop
        self._management = management
        self._publishing = Link(place, settings, "headrace, publishing")
        self._consuming = Link(place, settings, "headrace, consuming")
        self._lanes: dict[str, Lane] = {}
        self._desk: Desk | None = None
        self._closing: asyncio.Task[None] | None = None

    async def connect(self) -> str:
        async def publishing() -> str:
            await self._publishing.connection()
            return self._publishing.server_version

        return await self.loop.call(publishing())

    def lane(self, topology: Topology) -> Lane:
        found = self._lanes.get(topology.waiting)
        if found is None:
            if self._desk is None:
                self._desk = Desk(self._consuming, self._management)
            found = self._lanes[topology.waiting] = Lane(
                self.loop, self._publishing, self._consuming, self._desk, self._management, topology
            )
        return found

    async def close(self) -> None:
        """Once, whoever asks."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        async def leave() -> None:
            await asyncio.gather(*(lane.feed.close() for lane in self._lanes.values()), return_exceptions=True)
            await self.loop.drain()
            await asyncio.gather(self._publishing.close(), self._consuming.close())

        try:
            await self.loop.call(leave())
        finally:
            await self.loop.stop()
