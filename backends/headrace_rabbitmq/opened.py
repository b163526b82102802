"""An opened backend: its thread, its two connections, and what each of its queues has there."""

import asyncio

from headrace_rabbitmq.connections.link import Link
from headrace_rabbitmq.connections.place import Place
from headrace_rabbitmq.desk import Desk
from headrace_rabbitmq.lane import Lane
from headrace_rabbitmq.management import Management
from headrace_rabbitmq.settings import RabbitSettings
from headrace_rabbitmq.thread import LoopThread
from headrace_rabbitmq.topology import Topology


class Opened:
    """Made on the event loop that uses it.

    One connection publishes and one consumes: when the broker is short of memory it stops reading
    from those that publish, and acks must go on.
    """

    def __init__(self, place: Place, settings: RabbitSettings, management: Management | None) -> None:
        self.thread = LoopThread("headrace-rabbitmq")
        self._management = management
        self._publishing = Link(place, settings, "headrace, publishing")
        self._consuming = Link(place, settings, "headrace, consuming")
        self._lanes: dict[str, Lane] = {}
        self._desk: Desk | None = None

    async def connect(self) -> str:
        """Connect; the broker's version. Raises `BackendError`."""

        async def both() -> str:
            await asyncio.gather(self._publishing.connection(), self._consuming.connection())
            return self._publishing.server_version

        return await self.thread.call(both())

    def lane(self, topology: Topology) -> Lane:
        """What a queue has here: shared by all its drivers."""
        found = self._lanes.get(topology.waiting)
        if found is None:
            if self._desk is None:
                self._desk = Desk(self._consuming, self._management)
            found = self._lanes[topology.waiting] = Lane(
                self.thread, self._publishing, self._consuming, self._desk, self._management, topology
            )
        return found

    async def close(self) -> None:
        """Give back what nobody has popped, let calls that are under way end, disconnect, and end the thread."""

        async def leave() -> None:
            await asyncio.gather(*(lane.feed.close() for lane in self._lanes.values()), return_exceptions=True)
            await self.thread.drain()
            await asyncio.gather(self._publishing.close(), self._consuming.close())

        try:
            await self.thread.call(leave())
        finally:
            await self.thread.stop()
