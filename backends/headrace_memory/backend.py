"""The memory backend: a store, shared with its clones, and what it can do."""

import time
from collections.abc import Callable
from typing import Final

from headrace.driver import ALL_CHANNELS, CONTRACT, Backend, Capabilities
from headrace_memory.driver import MemoryDriver
from headrace_memory.store import Store

#: Everything but outliving the process or being seen from another one. A batch of this
#: size holds the lock, and the event loop, for some ten milliseconds.
CAPABILITIES: Final = Capabilities(
    contract=CONTRACT,
    durable=False,
    shared=False,
    ordered=True,
    leases="timed",
    counts="exact",
    max_batch=10_000,
    idempotent=True,
    unique=True,
    peek=ALL_CHANNELS,
    cancel=True,
    selective=ALL_CHANNELS - {"reserved"},
    wait_ready=True,
    store=True,
)


class MemoryBackend(Backend):
    """Queues in this process's memory. ``clock`` gives monotonic seconds; tests pass their own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, store: Store | None = None) -> None:
        self._clock = clock
        self._store = Store(clock) if store is None else store

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def place(self) -> str:
        return "this process's memory"

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """The messages stay, for the clones, until the last of them is gone."""

    def clone(self) -> "MemoryBackend":
        return MemoryBackend(self._clock, store=self._store)

    def with_clock(self, clock: Callable[[], float]) -> "MemoryBackend":
        """A backend with an empty store of its own, whose time is that of ``clock``."""
        return MemoryBackend(clock)

    def clock_moved(self) -> None:
        """Wake all who wait for something to fall due: the clock was moved. Callable from any thread."""
        self._store.wake()

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> MemoryDriver:
        return MemoryDriver(self._store, prefix, lease_seconds)
