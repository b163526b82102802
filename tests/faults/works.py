"""An application's folder with real workers, for tests that break something else than `Load` does.

Owns the processes, which end with it, and the counting of what jobs noted in the ledger.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import psutil  # type: ignore[import-untyped]
from places import Place

from headrace import Headrace, Job
from headrace.conformance.ledger import Ledger
from headrace.driver import Info
from headrace.errors import BackendError
from headrace.job import declared_jobs

#: Where the jobs are.
APPLICATION: Final = Path(__file__).with_name("application")

#: Seconds until what must come is given up.
PATIENCE: Final = 60.0

#: Seconds between looks.
LOOK_EVERY: Final = 0.05

CONFIG: Final = """
imports = ["{module}"]
listeners = ["log"]
backend = "{backend}"
[backends.{backend}]
{options}
[queues.default]
prefix = "{{faults-{name}}}"
lease_seconds = 2
pop_timeout = 1
{settings}
"""


class Works:
    """As an async context manager it ends with every process gone, and the queue too."""

    def __init__(self, folder: Path, place: Place, **settings: Any) -> None:
        """``settings``: of the queue."""
        self.folder = folder
        self.ledger = Ledger(folder / "ledger")
        self.confirmed: set[int] = set()
        self._place = place
        self._settings = settings
        self._processes: list[subprocess.Popen[bytes]] = []
        self.app = Headrace.load(self.configure("headrace.toml", "fault_jobs"))

    def configure(self, name: str, module: str) -> Path:
        """Write a configuration whose jobs are in a module."""
        path = self.folder / name
        path.write_text(
            CONFIG.format(
                module=module,
                backend=self._place.name,
                options="\n".join(f"{key} = {json.dumps(value)}" for key, value in self._place.options.items()),
                name=self.folder.name,
                settings="\n".join(f"{key} = {json.dumps(value)}" for key, value in self._settings.items()),
            )
        )
        return path

    async def push(self, kind: str, numbers: range, *, delay: float = 0.0, **fields: Any) -> None:
        """Push jobs of a kind, and note them as confirmed."""
        await self.app.queue().push_many([job(kind, number, **fields) for number in numbers], delay=delay)
        self.confirmed.update(numbers)

    def start_worker(
        self, config: str = "headrace.toml", environment: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a supervisor with one worker process."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")}
        with (self.folder / "log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "headrace.cli", "--config", config, "worker", "default"],
                cwd=self.folder,
                env={**kept, "PYTHONPATH": str(APPLICATION), **(environment or {})},
                stdout=log,
                stderr=log,
            )
        self._processes.append(worker)
        return worker

    @staticmethod
    def signal_processes(worker: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
        """Send a signal to the processes that a supervisor has started."""
        for process in psutil.Process(worker.pid).children():
            process.send_signal(number)

    def end(self, worker: "subprocess.Popen[bytes]") -> float:
        """End a supervisor in good order; seconds that it took."""
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0, self.log()
        self._processes.remove(worker)
        return time.monotonic() - began

    def kill(self, worker: "subprocess.Popen[bytes]") -> None:
        """A supervisor with its processes, at once."""
        children = psutil.Process(worker.pid).children()
        for process in (worker.pid, *(each.pid for each in children)):
            os.kill(process, signal.SIGKILL)
        worker.wait()
        self._processes.remove(worker)

    def runs(self, *words: str) -> Counter[int]:
        """How often each job came to its end; ``words``: as the ledger has that."""
        return Counter(map(int, self.ledger.keys(*(words or ("ran",)))))

    async def until(self, about: str, condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
        """Wait for what must come."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {about}\n{self.log()}"
            await asyncio.sleep(LOOK_EVERY)

    async def until_empty(self, seconds: float = PATIENCE) -> Info:
        """Wait until nothing waits, is delayed, or is held."""
        deadline, info = time.monotonic() + seconds, None
        while info is None or info.waiting or info.delayed or info.reserved:
            assert time.monotonic() < deadline, f"still {info}\n{self.log()}"
            await asyncio.sleep(LOOK_EVERY)
            try:
                info = await self.app.queue().info()
            except BackendError:
                info = None  # not back yet
        return info

    def log(self) -> str:
        """The end of what the processes wrote."""
        log = self.folder / "log"
        return log.read_text(errors="replace")[-5000:] if log.exists() else ""

    async def __aenter__(self) -> "Works":
        await self.app.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in [*self._processes]:
            await asyncio.to_thread(self.kill, worker)
        try:
            if error is None:
                await (await self.app.queue().driver()).destroy()
        finally:
            await self.app.__aexit__(kind, error, trace)


def job(kind: str, number: int, **fields: Any) -> Job:
    """A job of a kind."""
    return declared_jobs()[f"faults.{kind}"](**{"number": number, **fields})
