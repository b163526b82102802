"""The Redis backend: what it can do, its server while open, and what may go wrong later."""

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from headrace.driver import ALL_CHANNELS, CONTRACT, Backend, Capabilities
from headrace.errors import BackendError, BackendUnavailable, ConfigError
from headrace.tls import context
from headrace_redis.connections.place import Place
from headrace_redis.connections.server import Server
from headrace_redis.connections.tls import trouble
from headrace_redis.driver import MAX_BATCH, RedisDriver
from headrace_redis.errors import is_passing
from headrace_redis.opened import Opened
from headrace_redis.settings import RedisSettings

CAPABILITIES: Final = Capabilities(
    contract=CONTRACT,
    durable=True,
    shared=True,
    ordered=True,
    leases="timed",
    counts="exact",
    max_batch=MAX_BATCH,
    max_delay=float(10 * 365 * 24 * 3600),  # ten years; times stay exact for two centuries
    max_body=64 * 2**20,  # Redis takes 512 MiB, but copies it several times on its way through a script
    idempotent=True,
    unique=True,
    peek=ALL_CHANNELS,
    cancel=True,
    selective=ALL_CHANNELS - {"reserved"},
    wait_ready=True,
    store=True,
)

#: Scripts with flags came with this version: without them a full server could not be drained.
_OLDEST: Final = (7, 0)

#: A part of a key in braces: all keys that share it are on one node of a Cluster.
_HASH_TAG: Final = re.compile(r"[^{]*\{[^}]+\}")


class RedisBackend(Backend):
    """Queues on the server or servers that ``place`` means."""

    def __init__(self, place: Place, settings: RedisSettings) -> None:
        self._place = place
        self._settings = settings
        self._open: Opened | None = None
        self._server_version = ""

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def place(self) -> str:
        return self._place.where

    @property
    def versions(self) -> Mapping[str, str]:
        found = {"redis-py": version("redis")}
        try:
            found["hiredis"] = version("hiredis")
        except PackageNotFoundError:
            found["hiredis"] = "not installed: answers are read more slowly"
        if self._server_version:
            found["server"] = self._server_version
        return found

    def clone(self) -> "RedisBackend":
        return RedisBackend(self._place, self._settings)

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> RedisDriver:
        if self._place.kind == "cluster" and not _HASH_TAG.match(prefix):
            raise ConfigError(
                f"the prefix {prefix!r} would spread one queue over several nodes of {self._place}: "
                f"put braces in it, as in prefix = {'{' + prefix.replace('{', '').replace('}', '') + '}'!r}"
            )
        return RedisDriver(self._opened, prefix, lease_seconds)

    def _opened(self) -> Opened:
        if self._open is None:
            raise BackendUnavailable(f"{self._place} is not open")
        return self._open

    async def open(self) -> None:
        if self._place.tls:
            context(self._settings)
        server = Server(self._place, self._settings)
        try:
            for each in await server.on_every_node("INFO"):
                self._server_version = _check_server(each, self._place)
        except BaseException as error:
            await server.close()
            if isinstance(error, BackendUnavailable) and (reason := await self._why(error)):
                raise reason from error
            raise
        self._open = Opened(server)

    async def _why(self, error: BackendUnavailable) -> BackendError | None:
        """What kept us from a server that did not so much as answer, if that can be found out."""
        answered = error.__cause__ is not None and is_passing(error.__cause__)
        return None if answered else await trouble(self._place, self._settings)

    async def close(self) -> None:
        if self._open is not None:
            try:
                await self._open.close()  # what it gives back, it gives back by its drivers
            finally:
                self._open = None

    async def check(self) -> list[str]:
        warnings: dict[str, None] = {}
        for info in await self._opened().server.on_every_node("INFO"):
            warnings.update(dict.fromkeys(_memory_warnings(info, self._place)))
        for setting in await self._saving():
            warnings.update(dict.fromkeys(_disk_warnings(setting, self._place)))
        return list(warnings)

    async def _saving(self) -> list[dict[str, str]]:
        """How each server keeps its data; nothing of those that do not tell, as hosted ones do not."""
        try:
            answers = await self._opened().server.on_every_node("CONFIG", "GET", "save", "appendonly", "appendfsync")
        except BackendError:
            return []
        return [{_text(key): _text(value) for key, value in _items(answer)} for answer in answers]


def _check_server(info: Mapping[str, Any], place: Place) -> str:
    """The version of a server, for people. Raises `BackendError` if it cannot be used."""
    valkey = info.get("valkey_version")
    shown = f"valkey {valkey}" if valkey else f"redis {info.get('redis_version')}"
    if tuple(map(int, str(valkey or info["redis_version"]).split(".")[:2])) < _OLDEST:
        raise BackendError(f"{place} is {shown}; headrace needs {'.'.join(map(str, _OLDEST))} or later")
    clustered = bool(int(info.get("cluster_enabled", 0)))
    if clustered and place.kind != "cluster":
        raise BackendError(
            f"{place} is part of a Cluster: the url must begin with redis+cluster:// or rediss+cluster://"
        )
    return shown


def _memory_warnings(info: Mapping[str, Any], place: Place) -> list[str]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return []
    return [
        f"{place} deletes messages when its memory is full: its maxmemory-policy is {policy}, and must be noeviction"
    ]


def _disk_warnings(setting: Mapping[str, str], place: Place) -> list[str]:
    if setting.get("appendonly") == "yes":
        if setting.get("appendfsync") == "no":
            return [f"{place} leaves it to the system when to write to disk: set appendfsync to everysec or always"]
        return []
    if setting.get("save"):
        return [f"{place} saves to disk only now and then: a crash loses what came in since; set appendonly to yes"]
    return [f"{place} keeps nothing on disk: its restart loses every message; set appendonly to yes"]


def _items(answer: Any) -> list[tuple[Any, Any]]:
    return list(answer.items() if isinstance(answer, Mapping) else zip(answer[::2], answer[1::2], strict=True))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
