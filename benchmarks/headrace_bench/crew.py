"""Worker processes of a run: started, watched, killed, ended."""

import asyncio
import os
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from headrace.settings import QueueSettings
from headrace_bench.process import Child
from headrace_bench.seat import Seat
from headrace_bench.tally import Tallies
from headrace_bench.tasks import READY, Serve

#: Seconds until a worker that should be there, or gone, is given up: an interpreter takes its time on a busy machine.
_PATIENCE: Final = 30.0

#: Seconds between two looks.
_LOOK_EVERY: Final = 0.01

#: What of a queue's settings the workers must have as the app has them.
_SETTINGS: Final = ("lease_seconds", "pop_timeout", "retry_seconds", "max_retries")


class Crew:
    """``async with stage.crew(app, total) as crew``: at the end every process of it is gone."""

    def __init__(self, seat: Seat, settings: QueueSettings, folder: Path, total: int) -> None:
        self._tallies = Tallies(folder, total)
        self._seat = seat
        self._settings = settings
        self._folder = folder
        self._total = total
        self.workers: Final[list[Child]] = []

    @property
    def tallies(self) -> Tallies:
        """What all of them together have run."""
        return self._tallies

    @property
    def pid(self) -> int:
        """The first worker's process."""
        return self.workers[0].pid

    async def start(self, count: int = 1, *, concurrency: int = 10) -> None:
        """Start so many more, and return when all of them work. Raises `RuntimeError` if one does not."""
        task = Serve(
            seat=self._seat,
            folder=str(self._folder),
            prefix=self._settings.prefix,
            settings={name: getattr(self._settings, name) for name in _SETTINGS},
            total=self._total,
            concurrency=concurrency,
        )
        data = msgspec.json.encode(task)
        started = []
        for _ in range(count):
            log = self._folder / f"worker-{len(self.workers)}.log"
            started.append(Child(data, log, environment=self._seat.environment))
            self.workers.append(started[-1])
        deadline = time.monotonic() + _PATIENCE
        for each in started:
            while not self._is_ready(each):
                if not each.alive or time.monotonic() > deadline:
                    raise RuntimeError(f"a worker did not start: {each.ending() or f'not within {_PATIENCE:g} s'}")
                await asyncio.sleep(_LOOK_EVERY)

    def _is_ready(self, worker: Child) -> bool:
        return (self._folder / f"{READY}{worker.pid}").exists()

    def check(self) -> None:
        """Raises `RuntimeError` if a worker has ended of which nobody wanted that."""
        for each in self.workers:
            if not each.alive:
                raise RuntimeError(f"a worker is gone: {each.ending() or 'it ended by itself'}")

    async def kill(self, worker: Child) -> None:
        """``kill -9``; returns when it is gone."""
        self.workers.remove(worker)
        worker.end()

    async def stop(self) -> None:
        """Let all of them end in good order, what they have run acked. Raises `RuntimeError` if one cannot."""
        for each in self.workers:
            each.send(signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        while self.workers:
            worker = self.workers[0]
            while worker.alive and time.monotonic() < deadline:
                await asyncio.sleep(_LOOK_EVERY)
            ending = "it did not stop" if worker.alive else worker.ending()
            worker.end()
            self.workers.remove(worker)
            if ending:
                raise RuntimeError(f"a worker did not end well: {ending}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self.workers:
            each.end()
        self.workers.clear()


def signal_ready(folder: str) -> None:
    """For a worker: tell that it works."""
    Path(folder, f"{READY}{os.getpid()}").touch()
