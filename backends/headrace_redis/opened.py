"""An opened backend: its server, and the waiting of each of its queues, which all its drivers share."""

from collections.abc import Callable

from headrace_redis.connections.server import Server
from headrace_redis.standing import StandingPop
from headrace_redis.wake import Wake


class Opened:
    """Belongs to the event loop that it was made on."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._wakes: dict[bytes, Wake] = {}
        self._pops: dict[tuple[bytes, int], StandingPop] = {}

    def wake(self, key: bytes) -> Wake:
        """The waiting for a queue's ``wake`` key."""
        if key not in self._wakes:
            self._wakes[key] = Wake(self.server, key)
        return self._wakes[key]

    def pop(self, key: bytes, lease: int, make: Callable[[], StandingPop]) -> StandingPop:
        """The standing pop of a queue, for leases of one length."""
        if (key, lease) not in self._pops:
            self._pops[key, lease] = make()
        return self._pops[key, lease]

    async def end_left_pops(self, key: bytes) -> None:
        """End what stands ready for a queue with nobody there, so that what it took is seen where it belongs."""
        for (each, _), pop in tuple(self._pops.items()):
            if each == key and pop.is_left:
                await pop.end_left()

    async def close(self) -> None:
        """End all waiting, then disconnect."""
        for pop in self._pops.values():
            await pop.close()
        for wake in self._wakes.values():
            await wake.close()
        await self.server.close()
