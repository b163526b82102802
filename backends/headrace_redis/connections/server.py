"""Calls to the server that end: with an answer, or with one of headrace's errors, in bounded time.

Owns when a call is sent again, how many are under way at once, and what confirms a push.
"""

import asyncio
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from redis.exceptions import NoScriptError

from headrace.errors import BackendUnavailable
from headrace_redis.connections.clients import build
from headrace_redis.connections.place import Place
from headrace_redis.errors import FOREIGN, is_cut, is_passing, translate
from headrace_redis.scripts import Script
from headrace_redis.settings import RedisSettings

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
        self._calls = build(place, settings, silence=self._seconds / 2, connections=2 * settings.max_connections)
        self._waits = build(place, settings, silence=self._seconds + BLOCK_SECONDS, connections=_WAITING)
        self._afterwards: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Wait for what is to be done afterwards, and disconnect."""
        while self._afterwards:
            await asyncio.wait(self._afterwards)
        for sender in (self._calls, self._waits):
            await sender.close()

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
                    return await self._calls.execute(evaluate)
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
            async with asyncio.timeout(self._seconds + BLOCK_SECONDS):
                return (await self._waits.pair(("BZPOPMIN", *rung, BLOCK_SECONDS), evaluate, rung[0]))[1]
        except FOREIGN as error:
            if is_passing(error) or isinstance(error, NoScriptError):
                return 0
            raise translate(error, self.place) from error

    async def _replicated(self, evaluate: Sequence[Any], replicas: int) -> Any:
        """Run a script and wait for replicas, on one connection: that is what the server counts by."""
        wait = ("WAIT", replicas, round(self._seconds * _REPLICAS_SHARE * 1000))
        answer, count = await self._calls.pair(evaluate, wait, evaluate[3])
        if count < replicas:
            raise BackendUnavailable(
                f"{self.place} has stored a push, but {count} of {replicas} replicas have confirmed it in time"
            )
        return answer

    async def command(self, *command: Any) -> Any:
        """Send one command, once."""
        try:
            async with asyncio.timeout(self._seconds), self._free:
                return await self._calls.execute(command)
        except FOREIGN as error:
            await self._drop_idle(error)
            raise translate(error, self.place) from error

    async def block(self, rung: Sequence[bytes]) -> bytes | None:
        """Wait until somebody rings one of ``rung``, and tell which; ``None`` after `BLOCK_SECONDS`.

        On a connection of its own.
        """
        try:
            async with asyncio.timeout(self._seconds + BLOCK_SECONDS):
                answer = await self._waits.execute(("BZPOPMIN", *rung, BLOCK_SECONDS))
        except FOREIGN as error:
            if is_passing(error):
                return rung[0]  # look again: that call will tell, and knows how long to be patient
            raise translate(error, self.place) from error
        return bytes(answer[0]) if answer else None

    async def on_every_node(self, *command: Any) -> list[Any]:
        """What the server, or each master of a Cluster, answers to a command that reads, as redis-py understands it."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._calls.on_every_node(command)
        except FOREIGN as error:
            raise translate(error, self.place) from error

    async def _drop_idle(self, error: BaseException) -> None:
        """After silence, trust no connection that was made before it."""
        if isinstance(error, TimeoutError | OSError) or is_cut(error):
            await self._calls.drop_idle()
