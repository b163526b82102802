"""Commands on their way to a server, or to the right one of a Cluster, and its answers on their way back.

Owns how a client's connections are used. Limits no time, and sends nothing twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import AskError, MovedError, ResponseError

try:
    from hiredis import pack_command as _hiredis_pack
except ImportError:  # it is faster, and not needed
    _hiredis_pack = None  # type: ignore[assignment]

Command: TypeAlias = Sequence[Any]


class Sender(ABC):
    """One client. Every method raises what redis-py raises; the server's errors, too."""

    @abstractmethod
    async def execute(self, command: Command) -> Any:
        """Send one command."""

    @abstractmethod
    async def pair(self, one: Command, other: Command, key: bytes) -> list[Any]:
        """Send two commands at once, on one connection to the server that has ``key``."""

    @abstractmethod
    async def on_every_node(self, command: Command) -> list[Any]:
        """What each server that has data answers, as redis-py understands it."""

    @abstractmethod
    async def drop_idle(self) -> None:
        """Make idle connections anew when they are next used."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""


class PlainSender(Sender):
    """To one server, or to the one that Sentinels name at the time of connecting.

    It keeps connections from one call to the next: to borrow one from redis-py's pool and to give
    it back takes longer than to send a call, and most of that would pass before its answer is used.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._pool = client.connection_pool
        self._idle: list[Any] = []

    async def execute(self, command: Command) -> Any:
        connection = await self._take()
        try:
            await connection.send_packed_command(_packed(connection, command))
            return await connection.read_response()
        finally:
            self._idle.append(connection)

    async def pair(self, one: Command, other: Command, key: bytes) -> list[Any]:
        connection = await self._take()
        try:
            return _checked(await _answers(connection, one, other))
        finally:
            self._idle.append(connection)

    async def on_every_node(self, command: Command) -> list[Any]:
        return [await self._client.execute_command(*command)]  # type: ignore[no-untyped-call]

    async def _take(self) -> Any:
        """A connection that is connected; redis-py disconnects it when a call on it goes wrong."""
        if not self._idle:
            return await self._pool.get_connection()  # type: ignore[no-untyped-call]
        connection = self._idle.pop()
        try:
            # Sentinels have named another master to a connection that was made since.
            master = getattr(self._pool, "master_address", None)
            if master is not None and master != (connection.host, connection.port):
                await connection.disconnect()
            await self._pool.ensure_connection(connection)
        except BaseException:
            self._idle.append(connection)
            raise
        return connection

    async def drop_idle(self) -> None:
        idle, self._idle = self._idle, []  # nobody is to be given one that is about to go
        try:
            for connection in idle:
                await connection.disconnect(nowait=True)
        finally:
            self._idle += idle

    async def close(self) -> None:
        await self._client.aclose()
        manager = getattr(self._pool, "sentinel_manager", None)
        for sentinel in manager.sentinels if manager is not None else ():
            await sentinel.aclose()


class ClusterSender(Sender):
    """To the nodes of a Cluster, each by the key of a command."""

    def __init__(self, client: RedisCluster) -> None:
        self._client = client

    async def execute(self, command: Command) -> Any:
        # Before it knows the Cluster it would send the first commands to any node.
        await self._client.initialize()
        return await self._client.execute_command(*command)

    async def pair(self, one: Command, other: Command, key: bytes) -> list[Any]:
        # Its pipelines refuse scripts.
        await self._client.initialize()
        node = self._client.get_node_from_key(key.decode())
        assert node is not None  # None is for replicas; a slot without a master raises
        connection = node.acquire_connection()
        try:
            await node.disconnect_if_needed(connection)
            answers = await _answers(connection, one, other)
        finally:
            node.release(connection)
        if any(isinstance(answer, MovedError | AskError) for answer in answers):
            await self.execute(("EXISTS", key))  # an ordinary command finds the node, and remembers it
        return _checked(answers)

    async def on_every_node(self, command: Command) -> list[Any]:
        await self._client.initialize()
        return [await node.execute_command(*command) for node in self._client.get_primaries()]

    async def drop_idle(self) -> None:
        """It does this itself."""

    async def close(self) -> None:
        await self._client.aclose()
        # It leaves its connections open when it was about to look at the Cluster anew.
        for nodes in ("nodes_cache", "startup_nodes"):
            await self._client.nodes_manager.aclose(nodes)


async def _answers(connection: Any, *commands: Command) -> list[Any]:
    """What the server answers to commands that are sent together; its errors are among the answers."""
    await connection.send_packed_command(_packed(connection, *commands))
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers


def _checked(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _packed(connection: Any, *commands: Command) -> Any:
    """Commands as bytes: made by hiredis, which redis-py's asyncio connections do not ask for that, if it is there."""
    if _hiredis_pack is None:
        return connection.pack_commands(commands)
    return b"".join([_hiredis_pack(tuple(command)) for command in commands])
