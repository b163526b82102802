"""The bare client of the ``redis`` backend, for the benchmark suite: redis-py, a list, and what is held."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

from redis.asyncio import Redis

from headrace.plugin import BackendOptions
from headrace_redis.connections import tls
from headrace_redis.connections.place import parse
from headrace_redis.settings import RedisSettings

#: Messages of one LPUSH: more make the server wait for one client's bytes.
_CHUNK: Final = 1000

#: Seconds for which a message that was taken stays reserved.
_LEASE: Final = 30.0

#: Seconds between two looks at an empty list.
_LOOK_EVERY: Final = 0.005

#: Takes the oldest messages and notes until when they are held: the least that loses none.
#: KEYS: 1 the list, 2 the sorted set of what is held. ARGV: 1 how many, 2 until when.
_TAKE: Final = """
local batch = redis.call('RPOP', KEYS[1], ARGV[1])
if not batch then return {} end
local pairs = {}
for at, each in ipairs(batch) do pairs[2 * at - 1], pairs[2 * at] = ARGV[2], each end
redis.call('ZADD', KEYS[2], unpack(pairs))
return batch
"""

#: What the backend sends when it works or waits, and not what its scripts call, which Redis counts beside them.
_SENT: Final = re.compile(r"cmdstat_(evalsha|eval|bzpopmin|wait)\Z")


class RedisBaseline:
    """LPUSH, a script that moves a batch to a sorted set, and ZREM."""

    about = "redis-py: LPUSH; a script of RPOP and ZADD to take; ZREM to ack"
    guarantee = "at least once"
    versions: Mapping[str, str] = {"redis-py": version("redis")}

    def __init__(self, options: BackendOptions, queue: str) -> None:
        """Raises `ConfigError` for Sentinels and a Cluster, with which it does not deal."""
        settings = options.read(RedisSettings)
        if parse(settings.url).kind != "single":
            raise options.error("url", "the bare client takes one server, and neither Sentinels nor a Cluster")
        self._settings = settings
        self._waiting, self._held = f"{{{queue}}}:bare", f"{{{queue}}}:bare-held"
        self._client: Any = None

    def _connect(self) -> Any:
        settings = self._settings
        given: dict[str, Any] = {"username": settings.username, "password": settings.password}
        words = {name: value for name, value in given.items() if value is not None}
        if parse(settings.url).tls:
            words |= tls.options(settings)
        return Redis.from_url(settings.url, protocol=settings.protocol, **words)

    async def open(self) -> None:
        self._client = self._connect()
        await self._client.ping()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.delete(self._waiting, self._held)
            await self._client.aclose()

    async def push(self, body: bytes) -> None:
        await self._client.lpush(self._waiting, body)

    async def push_many(self, bodies: Sequence[bytes]) -> None:
        for start in range(0, len(bodies), _CHUNK):
            await self._client.lpush(self._waiting, *bodies[start : start + _CHUNK])

    async def consume(self, count: int, batch: int, seen: Callable[[bytes], None]) -> None:
        client = self._client
        take = client.register_script(_TAKE)
        keys = [self._waiting, self._held]
        while count > 0:
            bodies = await take(keys=keys, args=[min(batch, count), time.time() + _LEASE])
            if not bodies:
                await asyncio.sleep(_LOOK_EVERY)
                continue
            for body in bodies:
                seen(body)
            await client.zrem(self._held, *bodies)
            count -= len(bodies)

    async def commands(self) -> int:
        """How many commands the server has had from clients; those that scripts call are not counted."""
        async with self._connect() as client:
            stats: Mapping[str, Mapping[str, int]] = await client.info("commandstats")
        return sum(each["calls"] for name, each in stats.items() if _SENT.match(name))
