"""Calls to the server that end: with an answer, or with one of headrace's errors, in bounded time.

Owns when a call is sent again, how many are under way at once, and what confirms a push.
"""

import asyncio
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError

from headrace.errors import BackendUnavailable
from headrace_redis.connections.clients import Client, build, close
from headrace_redis.connections.place import Place
from headrace_redis.errors import FOREIGN, is_cut, is_passing, translate
from headrace_redis.scripts import Script
from headrace_redis.settings import RedisSettings

try:
    from hiredis import pack_command as _hiredis_pack
except ImportError:  # it is faster, and not needed
    _hiredis_pack = None  # type: ignore[assignment]

#: Seconds for which a call is sent again while the server says that it will soon be ready. Longer is
#: the callers' business: they know what else there is to do.
_PATIENCE: Final = 2.0

#: Seconds before a call is sent again, twice as long each time up to the second number.
_PAUSES: Final = (0.02, 0.4)

#: Seconds for which one command waits for ``wake``: few commands from an idle worker, and no connection
#: is silent for so long that a firewall forgets it.
BLOCK_SECONDS: Final = 10.0

#: Of a call's time, how much the replicas have: if they have not made it, the server's word for that must still
#: arrive, and a Cluster's connections may be silent for half of a call's time.
_REPLICAS_SHARE: Final = 0.4

#: Connections for waiting, more than any process has queues.
_WAITING: Final = 10_000


class Server:
    """The connections of one opened backend. Belongs to the event loop that opens it."""

    def __init__(self, place: Place, settings: RedisSettings) -> None:
        self.place = place
        self._settings = settings
        self._seconds = settings.timeout_seconds
        self._free = asyncio.Semaphore(settings.max_connections)
        # Half of a Cluster's connections are made while the others are being given up.
        self._calls = build(place, settings, silence=None, connections=2 * settings.max_connections)
        self._waits = build(place, settings, silence=self._seconds + BLOCK_SECONDS, connections=_WAITING)
        self._afterwards: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Wait for what is to be done afterwards, and disconnect."""
        while self._afterwards:
            await asyncio.wait(self._afterwards)
        for client in (self._calls, self._waits):
            await close(client)

    def afterwards(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Let something be done that nobody need wait for but `close`. It must not raise."""
        task = asyncio.create_task(work)
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)
        return task

    async def run(
        self,
        script: Script,
        keys: Sequence[bytes],
        arguments: Sequence[Any],
        *,
        repeatable: bool = False,
        confirmed: bool = False,
    ) -> Any:
        """Run a script. ``repeatable``: twice is as good as once, so that a broken connection need not end it.

        ``confirmed``: wait for the replicas that the settings ask for.
        """
        replicas = self._settings.wait_replicas if confirmed else 0
        evaluate: tuple[Any, ...] = ("EVALSHA", script.digest, len(keys), *keys, *arguments)
        until = time.monotonic() + _PATIENCE
        pause = _PAUSES[0]
        while True:
            try:
                async with asyncio.timeout(self._seconds), self._free:
                    if replicas:
                        return await self._replicated(evaluate, replicas)
                    return await _execute(self._calls, evaluate)
            except NoScriptError:
                evaluate = ("EVAL", script.text, *evaluate[2:])
                continue
            except FOREIGN as error:
                await self._drop_idle(error)
                again = is_passing(error) or (repeatable and is_cut(error))
                if not again or time.monotonic() + pause > until:
                    raise translate(error, self.place) from error
            # Jitter: those who lost one server do not come back as one.
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(2 * pause, _PAUSES[1])

    async def run_when_rung(
        self, rung: Sequence[bytes], script: Script, keys: Sequence[bytes], arguments: Sequence[Any]
    ) -> Any:
        """Run a script when somebody rings one of ``rung``, or after `BLOCK_SECONDS`, on a connection of its own.

        Returns 0 when the server could not do so at present, and it is to be run in the ordinary way.
        """
        evaluate = ("EVALSHA", script.digest, len(keys), *keys, *arguments)
        try:
            return (await self._pair(self._waits, ("BZPOPMIN", *rung, BLOCK_SECONDS), evaluate, rung[0]))[1]
        except FOREIGN as error:
            if is_passing(error) or isinstance(error, NoScriptError):
                return 0
            raise translate(error, self.place) from error

    async def _replicated(self, evaluate: Sequence[Any], replicas: int) -> Any:
        """Run a script and wait for replicas, on one connection: that is what the server counts by."""
        wait = ("WAIT", replicas, round(self._seconds * _REPLICAS_SHARE * 1000))
        answer, count = await self._pair(self._calls, evaluate, wait, evaluate[3])
        if count < replicas:
            raise BackendUnavailable(
                f"{self.place} has stored a push, but {count} of {replicas} replicas have confirmed it in time"
            )
        return answer

    async def _pair(self, client: Client, one: Sequence[Any], other: Sequence[Any], key: bytes) -> list[Any]:
        """Send two commands at once, on one connection to the server that has ``key``."""
        if isinstance(client, RedisCluster):
            # Its pipelines refuse scripts.
            await client.initialize()
            node = client.get_node_from_key(key.decode())
            assert node is not None  # None is for replicas; a slot without a master raises
            connection = node.acquire_connection()
            try:
                await node.disconnect_if_needed(connection)
                answers = await _answers(connection, one, other)
            finally:
                node.release(connection)
            if any(isinstance(answer, MovedError | AskError) for answer in answers):
                await _execute(client, ("EXISTS", key))  # an ordinary command finds the node, and remembers it
        else:
            # Its pipelines would do, but take as long as the rest of the way to the server and back.
            pool = client.connection_pool
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                answers = await _answers(connection, one, other)
            finally:
                await pool.release(connection)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def command(self, *command: Any) -> Any:
        """Send one command, once."""
        try:
            async with asyncio.timeout(self._seconds), self._free:
                return await _execute(self._calls, command)
        except FOREIGN as error:
            await self._drop_idle(error)
            raise translate(error, self.place) from error

    async def block(self, key: bytes) -> bool:
        """Wait until somebody rings ``key``; false after `BLOCK_SECONDS`. On a connection of its own."""
        try:
            return bool(await _execute(self._waits, ("BZPOPMIN", key, BLOCK_SECONDS)))
        except FOREIGN as error:
            if is_passing(error):
                return True  # look again: that call will tell, and knows how long to be patient
            raise translate(error, self.place) from error

    async def on_every_node(self, *command: Any) -> list[Any]:
        """What the server, or each master of a Cluster, answers to a command that reads, as redis-py understands it."""
        try:
            async with asyncio.timeout(self._seconds):
                if not isinstance(self._calls, RedisCluster):
                    return [await self._calls.execute_command(*command)]  # type: ignore[no-untyped-call]
                await self._calls.initialize()
                return [await node.execute_command(*command) for node in self._calls.get_primaries()]
        except FOREIGN as error:
            raise translate(error, self.place) from error

    async def _drop_idle(self, error: BaseException) -> None:
        """After silence, trust no connection that was made before it. A Cluster's client does this itself."""
        if isinstance(error, TimeoutError | OSError) or is_cut(error):
            pool = getattr(self._calls, "connection_pool", None)
            if pool is not None:
                # Under its lock, so that nobody is given a connection that is about to go.
                async with pool._get_pool_lock():
                    await pool.disconnect(inuse_connections=False)


async def _answers(connection: Any, *commands: Sequence[Any]) -> list[Any]:
    """What the server answers to commands that are sent together; its errors are among the answers."""
    await connection.send_packed_command(_packed(connection, *commands))
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers


async def _execute(client: Client, command: Sequence[Any]) -> Any:
    if isinstance(client, RedisCluster):
        # Before it knows the Cluster it would send the first commands to any node.
        await client.initialize()
        return await client.execute_command(*command)
    # As its `execute_command` does, but for the callbacks and measurements, which take a third of the time.
    pool = client.connection_pool
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        await connection.send_packed_command(_packed(connection, command))
        return await connection.read_response()
    finally:
        await pool.release(connection)


def _packed(connection: Any, *commands: Sequence[Any]) -> Any:
    """Commands as bytes: made by hiredis, which redis-py's asyncio connections do not ask for that, if it is there."""
    if _hiredis_pack is None:
        return connection.pack_commands(commands)
    return b"".join([_hiredis_pack(tuple(command)) for command in commands])
