"""The clock that workers time handlers by. Delays and leases follow the backend's time, not this."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is yet to come."""

    def cancel(self) -> None:
        """Let it not come; no error if it has."""


class Clock(ABC):
    """Seconds that pass, and calls when they have passed. Tests bring their own."""

    @abstractmethod
    def now(self) -> float:
        """Seconds; only differences mean anything."""

    @abstractmethod
    def call_later(self, seconds: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        """Call back on the running event loop when so many seconds have passed."""


class MonotonicClock(Clock):
    """The machine's own time."""

    def now(self) -> float:
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback, *arguments)
