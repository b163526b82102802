"""Where Kubernetes and its like ask how a supervisor is: a port that speaks HTTP, or a file.

Owns both, and the words of ``--health``. What is told stands in `headrace.health`.
"""

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace.errors import ConfigError
from headrace.health import Health

logger = logging.getLogger("headrace")

#: ``8099``, ``127.0.0.1:8099``, ``[::1]:8099``; what has a slash is a file.
_ADDRESS: Final = re.compile(r"(?:(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\]):)?(?P<port>\d{1,5})")
#: Where a port alone is opened: whoever is to reach it from elsewhere has to be named.
_LOOPBACK: Final = "127.0.0.1"
#: Bytes of the longest request that is read, and seconds for it to come and for its answer to go.
_LONGEST_REQUEST: Final = 8 * 1024
_REQUEST_SECONDS: Final = 5.0
#: Seconds between two writes of a file where nothing changes: a probe tells by its age that nobody writes any more.
_WRITE_EVERY: Final = 5.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where HTTP is spoken."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_place(text: str) -> Address | Path:
    """What ``--health`` says; raises `ConfigError` for what is neither a port nor a file."""
    found = _ADDRESS.fullmatch(text)
    if found is not None and int(found["port"]) < 2**16:
        return Address((found["host"] or _LOOPBACK).strip("[]"), int(found["port"]))
    if "/" in text:
        return Path(text)
    allowed = "a port such as 8099 or 127.0.0.1:8099, or a file such as /run/headrace.json"
    raise ConfigError(f"--health: found {text!r}; allowed: {allowed}")


class HealthFile:
    """A file that holds the newest `Health` as one line of JSON. It is there while the supervisor is."""

    every = _WRITE_EVERY

    def __init__(self, path: Path) -> None:
        """Raises `ConfigError` if it cannot be written."""
        self._path = path.absolute()
        self._draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        self._failing = False
        try:
            self._draft.touch()
        except OSError as error:
            raise ConfigError(f"--health: {path} cannot be written: {error.strerror}") from error

    def show(self, health: Health) -> None:
        try:
            self._draft.write_bytes(health.as_json() + b"\n")
            # At once, so that nobody reads half of it.
            self._draft.replace(self._path)
        except OSError as error:
            if not self._failing:
                logger.error("--health: %s cannot be written: %s", self._path, error.strerror)
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        for path in (self._path, self._draft):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def answering(address: Address, health: Callable[[], Health]) -> AsyncIterator[None]:
    """Answer ``GET /live`` and ``GET /ready`` by 200 or 503, and how things are as JSON.

    Raises `ConfigError` if the port cannot be had.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(_response(request, health))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whatever ends a probe early is the probe's own business.
            pass
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, address.host, address.port, limit=_LONGEST_REQUEST)
    except OSError as error:
        raise ConfigError(f"--health: {address} cannot be used: {error.strerror or error}") from error
    logger.info("health is told at http://%s/live and /ready", address)
    try:
        yield
    finally:
        server.close()


def _response(request: bytes, health: Callable[[], Health]) -> bytes:
    method, _, rest = request.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    body = b""
    if method not in (b"GET", b"HEAD"):
        status = "405 Method Not Allowed"
    elif path not in (b"/live", b"/ready"):
        status = "404 Not Found"
    else:
        now = health()
        status = "200 OK" if (now.live if path == b"/live" else now.ready) else "503 Service Unavailable"
        body = now.as_json()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == b"HEAD" else body)
