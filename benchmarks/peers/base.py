"""What an adapter is: a library's producer and worker, with one job that marks a ledger.

`peers.child` runs an adapter as a process of its own; what goes on between the two processes
stands there. Adapters know nothing of measuring.
"""

# uvloop is installed with the libraries that recommend it.
# mypy: disable-error-code="import-not-found"
# pyright: reportMissingImports=false

import abc
import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from peers.ledger import Ledger

#: Pushes under way at once, where a library has no call for many: what its users would write.
AT_ONCE: Final = 100


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one process works, and how."""

    url: str  #: of the broker; for SQLite the path of the file
    queue: str  #: the name of the queue
    concurrency: int  #: jobs that one worker runs at once
    uvloop: bool  #: whether asyncio runs on uvloop
    options: dict[str, Any] = field(default_factory=dict)  #: as the adapter understands them
    ledger: str = ""  #: the path of the ledger; producers need none
    worker: int = 0  #: the number of this worker
    seconds: float = 0.0  #: that a job sleeps


class Adapter(abc.ABC):
    """One library. A process makes one, to produce or to work."""

    #: The distributions whose versions a report names.
    distributions: ClassVar[Sequence[str]]

    #: Jobs of one `push_bulk`: as many as suit those that have a call for it.
    bulk: ClassVar[int] = 1000

    def __init__(self, place: Place) -> None:
        self.place: Final = place
        self._ledger: Final = Ledger(Path(place.ledger)) if place.ledger else None

    # The job.

    def run(self, number: int) -> None:
        """The job, for libraries whose jobs are plain functions."""
        assert self._ledger is not None
        self._ledger.start(number, self.place.worker)
        if self.place.seconds:
            time.sleep(self.place.seconds)
        self._ledger.end(number)

    async def run_async(self, number: int) -> None:
        """The job, for libraries whose jobs are coroutines."""
        assert self._ledger is not None
        self._ledger.start(number, self.place.worker)
        if self.place.seconds:
            await asyncio.sleep(self.place.seconds)
        self._ledger.end(number)

    # The producer.

    async def open(self) -> None:  # noqa: B027 - some connect when they push
        """Connect, and declare what has to be there."""

    async def close(self) -> None:  # noqa: B027 - and some hold nothing
        """Let go of everything. What was pushed is on its way when this returns."""

    @abc.abstractmethod
    async def push(self, numbers: Sequence[int]) -> None:
        """Push one job after the other, each when the one before it is stored as far as the library tells."""

    async def push_bulk(self, numbers: Sequence[int]) -> None:
        """Push jobs as fast as the library can; by default as `push`."""
        await self.push(numbers)

    async def left(self) -> int | None:
        """Jobs in the broker, in the hands of workers or not; ``None`` where the broker itself is asked."""
        return None

    # The worker.

    @abc.abstractmethod
    def work(self) -> None:
        """Run jobs until SIGTERM comes."""


async def gathered(push: Callable[[int], Awaitable[object]], numbers: Sequence[int]) -> None:
    """Push with `AT_ONCE` calls under way."""
    for start in range(0, len(numbers), AT_ONCE):
        await asyncio.gather(*(push(number) for number in numbers[start : start + AT_ONCE]))


def run_loop(place: Place, main: Callable[[], Awaitable[None]]) -> None:
    """`asyncio.run`, on uvloop where that is asked for."""

    async def awaited() -> None:
        await main()

    if place.uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    else:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(awaited())


async def sigterm() -> None:
    """Return when SIGTERM comes."""
    came = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, came.set)
    await came.wait()


def block_sigterm() -> Callable[[], object]:
    """As `sigterm`, for threads: to be called before the first one starts, gives what waits."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    return lambda: signal.sigwait({signal.SIGTERM})
