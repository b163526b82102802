"""A worker that waits for jobs, wherever it is: in a process of its own, or in this one."""

import asyncio
import os
from abc import abstractmethod
from pathlib import Path
from typing import Final, Protocol, Self

from headrace.app import Headrace
from headrace_bench import jobs
from headrace_bench.tally import Tallies, Tally


class Hand(Protocol):
    """What scenarios need of one; `headrace_bench.crew.Crew` is one, too."""

    @property
    @abstractmethod
    def tallies(self) -> Tallies:
        """What it has run."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The process that it is in."""

    @abstractmethod
    async def stop(self) -> None:
        """End it in good order, what it has run acked."""


class InProcess:
    """A worker in this process, to be entered."""

    def __init__(self, app: Headrace, folder: Path, total: int) -> None:
        self._tallies = Tallies(folder, total)
        self._tally = Tally(folder, total)
        self._worker: Final = app.worker()

    @property
    def tallies(self) -> Tallies:
        return self._tallies

    @property
    def pid(self) -> int:
        return os.getpid()

    async def __aenter__(self) -> Self:
        jobs.count_in(self._tally)
        self._running = asyncio.create_task(self._worker.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.stop()
        finally:
            self._tally.close()

    async def stop(self) -> None:
        self._worker.stop()
        await self._running
