"""One backend in a soak: its producer, its workers, and what is done to them.

Of two supervisors one, with its worker, is left in peace, so that what grows in it can be seen; the other's worker is
killed again and again.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil  # type: ignore[import-untyped]
from places import Place

from headrace import Headrace
from headrace.errors import BackendError

from .measures import Measure, of_broker, of_process, vitals_in

APPLICATION: Final = Path(__file__).with_name("application")

#: Seconds between two kills: of a worker, and of the broker, which has to come back first.
KILL_WORKER_EVERY: Final = (5.0, 15.0)
KILL_BROKER_EVERY: Final = (30.0, 60.0)

#: Seconds for which what failed or was late is let run, each minute.
MENDED_FOR: Final = 6.0

#: Seconds until the first job has to be run.
START: Final = 60.0

#: Seconds in which all that was pushed has to be run, in the end.
DRAIN: Final = 180.0

CONFIG: Final = """
imports = ["soak_jobs"]
lifespan = "soak_jobs:reporting"
listeners = []
backend = "{backend}"
[backends.{backend}]
{options}
[queues.default]
lease_seconds = 2
pop_timeout = 1
"""


class Site:
    """As an async context manager it works, and ends with every process gone."""

    def __init__(self, folder: Path, place: Place, rate: float) -> None:
        """``rate``: pushes in a second."""
        self.name = place.name
        self.place = place
        self.kills = {"worker": 0, "broker": 0}
        self._folder = folder
        self._rate = rate
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        options = "\n".join(f"{name} = {json.dumps(value)}" for name, value in place.options.items())
        (folder / "headrace.toml").write_text(CONFIG.format(backend=place.name, options=options))
        self._app = Headrace.load(folder / "headrace.toml")

    async def __aenter__(self) -> "Site":
        await self._app.__aenter__()
        for name in ("steady", "shaky"):
            self._start(name, "-m", "headrace.cli", "--config", "headrace.toml", "worker", "default")
        self._start("producer", str(APPLICATION / "produce.py"), str(self._rate))
        return self

    async def until_at_work(self) -> None:
        """Wait until jobs are run, and the steady worker is there. Raises `RuntimeError`, with the log, if none is."""
        deadline = time.monotonic() + START
        while not (self.ran() and self.steady):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: nothing was run within {START:g} s\n{self.log()}")
            await asyncio.sleep(0.1)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._processes:
            await asyncio.to_thread(self._end, name)
        await self._app.__aexit__(kind, error, trace)

    def _start(self, name: str, *arguments: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")}
        environment = {**kept, "PYTHONPATH": str(APPLICATION)}
        with (self._folder / "log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *arguments], cwd=self._folder, env=environment, stdout=log, stderr=log
            )

    def _end(self, name: str) -> None:
        process = self._processes[name]
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    # What is done to it

    async def kill_workers(self) -> None:
        """Kill the one worker after the other, for ever."""
        while True:
            await asyncio.sleep(random.uniform(*KILL_WORKER_EVERY))
            for worker in self._workers("shaky"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    self.kills["worker"] += 1

    async def kill_brokers(self) -> None:
        """Kill the broker again and again, and start it each time."""
        while self.place.broker is not None:
            await asyncio.sleep(random.uniform(*KILL_BROKER_EVERY))
            try:
                await asyncio.to_thread(self.place.settle)
            except RuntimeError:
                continue  # it does not answer, so that it might lose what it has not noted; the next time will do
            os.kill(self.place.broker.pid, signal.SIGKILL)
            self.kills["broker"] += 1
            starting = asyncio.create_task(asyncio.to_thread(self.place.start_again))
            try:
                await asyncio.shield(starting)
            except asyncio.CancelledError:
                await starting  # a broker that is half started could neither be used nor be ended
                raise

    async def mend(self) -> None:
        """Let what rests in ``failed`` and ``timeout`` run, each minute."""
        while True:
            await asyncio.sleep(60 - MENDED_FOR)
            (self._folder / "mended").touch()
            await self._reload()
            await asyncio.sleep(MENDED_FOR)
            (self._folder / "mended").unlink()

    async def _reload(self) -> None:
        for channel in ("failed", "timeout"):
            with contextlib.suppress(BackendError):  # it is not back yet; the next time will do
                await self._app.queue().reload(channel)

    async def drain(self) -> None:
        """End the producer, and let everything run that was pushed and has not."""
        await asyncio.to_thread(self._end, "producer")
        (self._folder / "mended").touch()
        deadline = time.monotonic() + DRAIN
        while self.missing() and time.monotonic() < deadline:
            await self._reload()
            await asyncio.sleep(2)

    # What is seen of it

    def confirmed(self) -> list[int]:
        return self._numbers("confirmed")

    def ran(self) -> list[int]:
        return self._numbers("ran")

    def missing(self) -> set[int]:
        """The confirmed jobs that have not run."""
        return set(self.confirmed()) - set(self.ran())

    @property
    def steady(self) -> list[int]:
        """The worker that nobody kills."""
        return self._workers("steady")

    def measure(self) -> list[Measure]:
        """The figures of all that lives on, and of the broker, if it is there at this moment."""
        vitals = vitals_in(self._folder / "vitals")
        processes = {"producer": self._processes["producer"].pid, "supervisor of the killed": self._pid("shaky")}
        processes["supervisor"] = self._pid("steady")
        for worker in self.steady:
            processes["worker"] = worker
        measures: list[Measure] = []
        for name, process in processes.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                measures += of_process(name, process, vitals)
        with contextlib.suppress(OSError, RuntimeError):
            measures += of_broker(self.place, self._folder)
        return measures

    def log(self) -> str:
        """The end of what the processes wrote."""
        return (self._folder / "log").read_text(errors="replace")[-4000:]

    def _pid(self, name: str) -> int:
        return self._processes[name].pid

    def _workers(self, name: str) -> list[int]:
        try:
            return [each.pid for each in psutil.Process(self._pid(name)).children()]
        except psutil.NoSuchProcess:
            return []

    def _numbers(self, file: str) -> list[int]:
        path = self._folder / file
        return [*map(int, path.read_text().split())] if path.exists() else []
