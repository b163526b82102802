"""A shop under load while something breaks: real workers that note what they ran, and a producer that repeats.

Owns the counting: what was confirmed and never ran is lost, what ran twice is a duplicate.
"""

import asyncio
import collections
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType

from headrace import Headrace
from headrace.errors import BackendError

MODULE = """
import asyncio, os, pathlib, random
from headrace import Job

ledger = os.open(pathlib.Path(__file__).with_name("ledger"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)

class Sale(Job, max_retries=3, retry_seconds=0.05):
    number: int

    async def handle(self) -> None:
        await asyncio.sleep(random.uniform(0, 0.02))
        if random.random() < {failing}:
            raise ValueError("some fail and are tried again")
        # One short append is one write: a kill leaves a whole line or none.
        os.write(ledger, b"%d\\n" % self.number)
"""

CONFIG = """
imports = ["load_jobs"]
listeners = []
backend = "{backend}"
[backends.{backend}]
{options}
[queues.default]
prefix = "{prefix}"
lease_seconds = 2
pop_timeout = 1
concurrent = {{ limit = 10 }}
"""


class Load:
    """Jobs pushed one after another through a backend, and workers that run them; ends with every process gone."""

    def __init__(
        self, folder: Path, backend: str, *, prefix: str = "{default}", failing: float = 0.05, **options: str | int
    ) -> None:
        """``prefix`` is the queue's. ``failing``: the share of runs that raise. ``options`` are the backend's."""
        if backend != "sqlite":  # which is never out of reach
            options.setdefault("timeout_seconds", 1)
        lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
        (folder / "load_jobs.py").write_text(MODULE.format(failing=failing))
        (folder / "headrace.toml").write_text(CONFIG.format(backend=backend, prefix=prefix, options="\n".join(lines)))
        self.folder = folder
        self.confirmed: set[int] = set()
        self.unconfirmed = 0
        self.workers: list[subprocess.Popen[bytes]] = []
        path = [*sys.path]
        self.app = Headrace.load(folder / "headrace.toml")
        self.app.load_jobs()
        sys.path[:] = path
        self._entry = sys.modules.pop("load_jobs").Sale

    def start_worker(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "headrace.cli", "--config", "headrace.toml", "worker", "default"]
        with (self.folder / "log").open("ab") as log:
            worker = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        self.workers.append(worker)
        return worker

    def kill_worker(self, worker: "subprocess.Popen[bytes]") -> None:
        """The supervisor and the processes that it has started."""
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        for process in (worker.pid, *map(int, children)):
            os.kill(process, signal.SIGKILL)
        worker.wait()
        self.workers.remove(worker)

    async def push(self, numbers: Sequence[int], pause: float = 0.0) -> None:
        """Push jobs with ids of their own, each repeated until it is confirmed."""
        for number in numbers:
            while True:
                try:
                    await self.app.queue().push(self._entry(number=number), id=f"{number:032x}")
                    break
                except BackendError:
                    self.unconfirmed += 1
                    await asyncio.sleep(0.05)
            self.confirmed.add(number)
            await asyncio.sleep(pause)

    def runs(self) -> collections.Counter[int]:
        ledger = self.folder / "ledger"
        return collections.Counter(map(int, ledger.read_text().split()) if ledger.exists() else ())

    @contextlib.asynccontextmanager
    async def pushing(self, jobs: int, pause: float) -> AsyncIterator[None]:
        """Push one job after the other, at least so many, for as long as the block lasts."""
        ended = False

        async def push() -> None:
            for number in itertools.count():
                if ended and number >= jobs:
                    return
                await self.push([number], pause)

        pushing = asyncio.create_task(push())
        try:
            yield
            ended = True
            await pushing
        finally:
            pushing.cancel()
            await asyncio.wait([pushing])

    async def kill_workers(self, kills: int, jobs: int) -> None:
        """Kill one worker after the other, each with a share of the jobs before it, and let another do what is left.

        The kill strikes from before the worker's first line to the midst of its work.
        """
        share = jobs // kills
        for kill in range(kills):
            await self.push(range(kill * share, (kill + 1) * share))
            worker = self.start_worker()
            if kill % 2:
                await self.until_more_runs()
                await asyncio.sleep(random.uniform(0, 0.2))
            else:
                await asyncio.sleep(random.uniform(0, 1))
            self.kill_worker(worker)
        self.start_worker()
        await self.until_done()

    async def until_more_runs(self, seconds: float = 60) -> float:
        """Seconds until some worker has run another job; there must be one to run."""
        before, began = self.runs().total(), time.monotonic()
        while self.runs().total() == before:
            assert time.monotonic() < began + seconds, f"nothing runs\n{self._log()}"
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def until_done(self, seconds: float = 60) -> None:
        """Until nothing waits, is delayed, or is held; where nobody counts what is held, until no job is missing.

        Fails when no job has run for so many seconds.
        """
        info, seen, since = None, -1, 0.0
        while True:
            if (runs := self.runs().total()) != seen:
                seen, since = runs, time.monotonic()
            elif time.monotonic() > since + seconds:
                break
            try:
                info = await self.app.queue().info()
                empty = not (info.waiting or info.reserved or info.delayed)
                if empty and (info.reserved is not None or not await self._missing()):
                    return
            except BackendError:
                pass  # not back yet
            await asyncio.sleep(0.1)
        missing = len(await self._missing())
        raise AssertionError(f"not done: {info}, {missing} neither ran nor rest in failed\n{self._log()}")

    def _log(self) -> str:
        """The end of what the workers wrote."""
        return (self.folder / "log").read_text()[-3000:]

    async def _failed(self) -> set[int]:
        return {message.arguments["number"] for message in await self.app.queue().list("failed", limit=1000)}

    async def _missing(self) -> set[int]:
        """The confirmed jobs that neither ran nor rest in failed."""
        missing = self.confirmed - set(self.runs())
        return missing - await self._failed() if missing else missing

    async def lost(self, what: str) -> int:
        """Print the counts; how many confirmed jobs neither ran nor rest in failed."""
        failed, runs, lost = await self._failed(), self.runs(), len(await self._missing())
        print(
            f"\n{what}: {len(self.confirmed):,} pushes confirmed ({self.unconfirmed} had to be repeated), "
            f"{len(runs):,} jobs executed, {len(failed)} rest in failed, "
            f"{runs.total() - len(runs)} executed twice or more, {lost} lost"
        )
        return lost

    async def __aenter__(self) -> "Load":
        await self.app.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in [*self.workers]:
            self.kill_worker(worker)
        await self.app.__aexit__(kind, error, traceback)
