"""What may take the place of every backend: the one door that `headrace.testing` comes in by.

Owns which stand-in counts now, for the whole process: pushes come from any thread and loop, so
nothing narrower would catch them all. What a stand-in does is its own business; outside tests
there is none, and a push asks once and goes on.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio

    from headrace.app import Headrace
    from headrace.config import QueueSettings
    from headrace.driver import Driver, Message
    from headrace.job import Job

T = TypeVar("T")


class StandIn(ABC):
    """Takes the place of all backends of all apps. Its methods are called on any thread."""

    @abstractmethod
    def app(self) -> "Headrace":
        """The app that a bare push goes to where none was entered."""

    @abstractmethod
    def driver(self, app: "Headrace", settings: "QueueSettings") -> "Driver":
        """What carries a queue's messages instead of its backend; usable on any loop, without opening anything."""

    @abstractmethod
    async def pushed(self, app: "Headrace", settings: "QueueSettings", stored: "Sequence[tuple[Message, Job]]") -> None:
        """Told of what a push has stored, in the task that pushed. What it raises, the push raises."""

    @abstractmethod
    def call(
        self,
        make_app: "Callable[[asyncio.AbstractEventLoop], Headrace]",
        action: "Callable[[Headrace], Awaitable[T]]",
    ) -> T:
        """Do a blocking call, as `SyncPortal.call` would with its thread; ``make_app`` makes the app for a loop."""


_standing: list[StandIn] = []
_changing = threading.Lock()


def stand_in() -> StandIn | None:
    """The one put in last, if any."""
    # A slice is one step, which a thread that takes one out cannot come between.
    last = _standing[-1:]
    return last[0] if last else None


def put_in(one: StandIn) -> None:
    """Let a stand-in take every backend's place, until it is taken out or another is put in."""
    with _changing:
        _standing.append(one)


def take_out(one: StandIn) -> None:
    """Undo one `put_in`; whichever was put in before counts again."""
    with _changing:
        for position in range(len(_standing) - 1, -1, -1):
            if _standing[position] is one:
                del _standing[position]
                return
