"""Backends and harnesses that are wrong in one thing each: the memory backend, but for that."""

import asyncio
import dataclasses
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.conformance import Harness
from headrace.driver import Backend, Capabilities, Delivery, Driver
from headrace.errors import BackendUnavailable
from headrace_memory.backend import MemoryBackend
from headrace_memory.driver import MemoryDriver
from headrace_memory.store import Store


class OddBackend(MemoryBackend):
    """Its drivers are of some other kind, and it claims some other things."""

    def __init__(self, kind: type[MemoryDriver], held_in: Store | None = None, /, **claims: Any) -> None:
        super().__init__(store=held_in)
        self._kind = kind
        self._claims = claims

    @property
    def capabilities(self) -> Capabilities:
        return dataclasses.replace(super().capabilities, **self._claims)

    def clone(self) -> "OddBackend":
        return OddBackend(self._kind, self._store, **self._claims)

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> MemoryDriver:
        return self._kind(self._store, prefix, lease_seconds)


class OddHarness(Harness):
    """Makes an `OddBackend`."""

    def __init__(self, kind: type[MemoryDriver] = MemoryDriver, **claims: Any) -> None:
        self.kind = kind
        self.claims = claims

    def backend(self) -> Backend:
        return OddBackend(self.kind, **self.claims)


def answering(verb: str, answer: Any) -> type[MemoryDriver]:
    """A driver one verb of which gives always the same."""

    async def give(self: Driver, *arguments: Any, **options: Any) -> Any:
        return answer

    return type("AnsweringDriver", (MemoryDriver,), {verb: give})


class ForeignDriver(MemoryDriver):
    """Lets a client library's exception out."""

    async def push(self, messages: Sequence[Any]) -> list[str]:
        raise ConnectionResetError("the line is dead")


class SilentDriver(MemoryDriver):
    """Waits for ever where it should answer."""

    async def push(self, messages: Sequence[Any]) -> list[str]:
        await asyncio.get_running_loop().create_future()
        return []


class BlockingDriver(MemoryDriver):
    """Blocks its thread where it should answer, until `let_go` is set."""

    let_go = threading.Event()

    async def push(self, messages: Sequence[Any]) -> list[str]:
        self.let_go.wait()
        return await super().push(messages)


class UntidyDriver(MemoryDriver):
    """Cannot be cleaned up."""

    tried = 0

    async def destroy(self) -> None:
        UntidyDriver.tried += 1
        raise BackendUnavailable("the queue cannot be removed")


class HastyDriver(MemoryDriver):
    """Hands out the latest message first."""

    async def pop(self, limit: int, wait: float) -> list[Delivery]:
        deliveries = await super().pop(1000, wait)
        for delivery in deliveries[:-limit]:
            await self.retry([(delivery.receipt, delivery.message)])
        return deliveries[-limit:]


class TalkativeDriver(MemoryDriver):
    """Logs what it hands out."""

    async def pop(self, limit: int, wait: float) -> list[Delivery]:
        deliveries = await super().pop(limit, wait)
        logging.getLogger("misfits").info("handed out: %s", deliveries)
        return deliveries


class SharingDriver(MemoryDriver):
    """Hands out what it has handed out before."""

    async def pop(self, limit: int, wait: float) -> list[Delivery]:
        deliveries = await super().pop(limit, wait)
        return deliveries + deliveries


class ClosedHarness(Harness):
    """Its server cannot be reached."""

    def backend(self) -> Backend:
        raise ConnectionRefusedError("no server at 127.0.0.1")


class SilentHarness(Harness):
    """Does not say how its backend is made."""


class OnceHarness(OddHarness):
    """Raises when it is asked for the first time, for whatever case."""

    asked = 0

    def backend(self) -> Backend:
        type(self).asked += 1
        if type(self).asked == 1:
            raise RuntimeError("the server is not up yet")
        return super().backend()


class UnpicklableHarness(OddHarness):
    """Keeps what stays in its process."""

    def __init__(self) -> None:
        super().__init__()
        self.server = threading.Lock()


class DyingHarness(OddHarness):
    """Its backend ends every process but the one that made the harness."""

    def __init__(self) -> None:
        super().__init__()
        self.home = os.getpid()

    def backend(self) -> Backend:
        if os.getpid() != self.home:
            os._exit(7)
        return super().backend()


class LitteringHarness(OddHarness):
    """Its backend leaves a file when it is built."""

    def backend(self) -> Backend:
        Path(self.folder / "left.db").touch()
        return super().backend()
