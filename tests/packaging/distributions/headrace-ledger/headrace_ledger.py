"""A backend as a stranger writes it: from the contract alone, in one file, with no option of the contract.

Its messages live in this process. What it shows is the contract, not how to keep messages.
"""

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headrace.driver import (
    Backend,
    Capabilities,
    Channel,
    Delivery,
    Driver,
    Info,
    Message,
    RestingChannel,
    Result,
    Settled,
)
from headrace.errors import BackendError
from headrace.plugin import BackendOptions, hookimpl


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """The options of a ``[backends.NAME]`` table."""

    title: str = "ledger"
    max_batch: int = 100


@dataclass(slots=True)
class Line:
    """One message and where it stands. Delayed is what is due later, reserved what has a receipt."""

    message: Message
    due: float  #: when it may be popped; for a reserved one, when its lease ends
    channel: RestingChannel | None = None
    receipt: int = 0
    count: int = 0

    def stands_in(self, now: float) -> Channel:
        if self.channel:
            return self.channel
        if self.due <= now:
            return "waiting"
        return "reserved" if self.receipt else "delayed"


@dataclass(slots=True)
class Book:
    """Every queue's lines. Several event loops use it at once, so each use holds the lock."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    queues: dict[str, dict[str, Line]] = field(default_factory=dict)
    receipts: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    sleepers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=set)

    def wake(self) -> None:
        for loop, event in self.sleepers:
            loop.call_soon_threadsafe(event.set)


class LedgerDriver(Driver):
    def __init__(self, book: Book, prefix: str, lease_seconds: float) -> None:
        self._book = book
        self._prefix = prefix
        self._lease_seconds = lease_seconds

    async def push(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        with self._book.lock:
            now = time.monotonic()
            for message in messages:
                self._lines.setdefault(message.id, Line(message, now + message.delay))
            self._book.wake()
        return [message.id for message in messages]

    async def delay(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        return await self.push(messages)

    async def pop(self, limit: int, wait: float) -> Sequence[Delivery]:
        deadline = time.monotonic() + wait
        sleeper = (asyncio.get_running_loop(), asyncio.Event())
        with self._book.lock:
            self._book.sleepers.add(sleeper)
        try:
            while True:
                sleeper[1].clear()
                found, due = self._take(limit)
                rest = min(deadline, due) - time.monotonic()
                # Nothing is awaited between taking and returning: a cancelled pop has taken nothing.
                if found or time.monotonic() >= deadline:
                    return found
                try:
                    await asyncio.wait_for(sleeper[1].wait(), max(rest, 0.0))
                except TimeoutError:
                    continue
        finally:
            with self._book.lock:
                self._book.sleepers.discard(sleeper)

    async def ack(self, receipts: Sequence[Any]) -> Sequence[Result]:
        return [self._settle(receipt, None) for receipt in receipts]

    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> Sequence[Result]:
        now = time.monotonic()
        return [self._settle(receipt, Line(message, now + message.delay)) for receipt, message in pairs]

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> Sequence[Result]:
        return [self._settle(receipt, Line(message, 0.0, channel)) for receipt, message in pairs]

    async def extend(self, receipts: Sequence[Any], seconds: float) -> Sequence[Result]:
        with self._book.lock:
            now = time.monotonic()
            lines = [self._held(receipt, now) for receipt in receipts]
            for line in filter(None, lines):
                line.due = now + seconds
        return [Settled.DONE if line else Settled.STALE for line in lines]

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        with self._book.lock:
            now = time.monotonic()
            chosen = [line for line in self._lines.values() if line.channel == channel][:limit]
            for line in chosen:
                message = msgspec.structs.replace(line.message, attempt=0, deaths=0, note=None)
                self._lines[message.id] = Line(message, now)
            self._book.wake()
        return len(chosen)

    async def flush(self, channel: Channel) -> int:
        with self._book.lock:
            now = time.monotonic()
            chosen = [key for key, line in self._lines.items() if line.stands_in(now) == channel]
            for key in chosen:
                del self._lines[key]
        return len(chosen)

    async def destroy(self) -> None:
        with self._book.lock:
            self._lines.clear()

    async def info(self) -> Info:
        with self._book.lock:
            now = time.monotonic()
            standing = [(line.stands_in(now), line) for line in self._lines.values()]
        found = [channel for channel, _ in standing]
        oldest = min((line.due for channel, line in standing if channel == "waiting"), default=None)
        return Info(
            waiting=found.count("waiting"),
            reserved=found.count("reserved"),
            delayed=found.count("delayed"),
            failed=found.count("failed"),
            timeout=found.count("timeout"),
            oldest_seconds=None if oldest is None else now - oldest,
        )

    @property
    def _lines(self) -> dict[str, Line]:
        return self._book.queues.setdefault(self._prefix, {})

    def _take(self, limit: int) -> tuple[list[Delivery], float]:
        """What is due, reserved; and when something else falls due."""
        with self._book.lock:
            now = time.monotonic()
            moving = sorted((line for line in self._lines.values() if not line.channel), key=lambda line: line.due)
            chosen = [line for line in moving if line.due <= now][:limit]
            for line in chosen:
                line.due = now + self._lease_seconds
                line.receipt = next(self._book.receipts)
                line.count += 1
            next_due = moving[0].due if moving else math.inf
            return [Delivery(line.message, (line.message.id, line.receipt), line.count) for line in chosen], next_due

    def _held(self, receipt: tuple[str, int], now: float) -> Line | None:
        """The line that a receipt proves, unless its lease has ended."""
        line = self._lines.get(receipt[0])
        return line if line and line.receipt == receipt[1] and line.stands_in(now) == "reserved" else None

    def _settle(self, receipt: tuple[str, int], successor: Line | None) -> Result:
        with self._book.lock:
            if self._held(receipt, time.monotonic()) is None:
                return Settled.STALE
            if successor is None:
                del self._lines[receipt[0]]
            else:
                self._lines[receipt[0]] = successor
                self._book.wake()
            return Settled.DONE


class LedgerBackend(Backend):
    def __init__(self, settings: LedgerSettings, book: Book) -> None:
        self.settings = settings
        self._book = book

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            contract=1,
            durable=False,
            shared=False,
            ordered=False,
            leases="timed",
            counts="exact",
            max_batch=self.settings.max_batch,
            idempotent=True,
        )

    @property
    def place(self) -> str:
        return f"the book {self.settings.title!r} of this process"

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """The book stays, for the clones."""

    def clone(self) -> "LedgerBackend":
        return LedgerBackend(self.settings, self._book)

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> LedgerDriver:
        return LedgerDriver(self._book, prefix, lease_seconds)


@hookimpl
def headrace_backend(options: BackendOptions) -> Backend:
    settings = options.read(LedgerSettings)
    if settings.max_batch < 1:
        raise options.error("max_batch", "must be 1 or more")
    return LedgerBackend(settings, Book())
