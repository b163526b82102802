"""TLS: what redis-py is told of it, and whether it is what keeps us from a server.

Where one side speaks TLS and the other does not, redis-py tells of a connection that broke or
of silence, and of what went wrong with a Sentinel it tells nothing. So after an opening that
failed a connection of our own asks.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

from headrace.errors import BackendError
from headrace.tls import TlsSettings, context
from headrace_redis.connections.place import Place
from headrace_redis.errors import is_distrust, translate
from headrace_redis.settings import RedisSettings

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

#: Seconds for each question: the opening that failed has been patient already.
_SECONDS: Final = 1.0

#: What any server answers, if only that it wants a password: text that begins with one of two signs.
_QUESTION: Final = b"PING\r\n"
_ANSWERS: Final = (b"+", b"-")


def options(settings: RedisSettings) -> dict[str, Any]:
    """The settings in redis-py's words."""
    return {
        "ssl_ca_certs": _text(settings.tls_ca),
        "ssl_certfile": _text(settings.tls_certificate),
        "ssl_keyfile": _text(settings.tls_key),
        "ssl_cert_reqs": "required" if settings.tls_verify else "none",
        "ssl_check_hostname": settings.tls_verify,
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


async def trouble(place: Place, settings: RedisSettings) -> BackendError | None:
    """Why a server that could not be opened cannot be spoken to in this way; ``None`` if TLS is not the reason."""
    ask = _ask_in_tls if place.tls else _ask_in_clear
    found = await asyncio.gather(*(ask(place, settings, host, port) for host, port in place.hosts))
    return next((each for each in found if each is not None), None)


async def _ask_in_tls(place: Place, settings: RedisSettings, host: str, port: int) -> BackendError | None:
    try:
        async with _connection(host, port, context(settings)) as (reader, _):
            # Nothing is sent: what had not been read of it would turn the server's reason into a reset.
            await reader.read(1)
    except OSError as error:  # silence and what ssl raises are among them
        if is_distrust(error):
            return translate(error, place)
        if await _speaks_in_clear(host, port):
            return BackendError(f"{place} does not speak TLS: the url must begin with redis instead of rediss")
    return None


async def _ask_in_clear(place: Place, settings: RedisSettings, host: str, port: int) -> BackendError | None:
    anyone = context(TlsSettings(tls_verify=False))
    try:
        async with _connection(host, port, anyone):
            return BackendError(f"{place} speaks TLS: the url must begin with rediss instead of redis")
    except OSError:
        return None


async def _speaks_in_clear(host: str, port: int) -> bool:
    try:
        async with _connection(host, port, None) as (reader, writer):
            writer.write(_QUESTION)
            return await reader.read(1) in _ANSWERS
    except OSError:
        return False


@asynccontextmanager
async def _connection(host: str, port: int, secured: ssl.SSLContext | None) -> AsyncIterator[Streams]:
    async with asyncio.timeout(_SECONDS):
        reader, writer = await asyncio.open_connection(host, port, ssl=secured)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
