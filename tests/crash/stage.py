"""One cell's folder, queue and processes: workers, commands and producers as they are in production.

Owns the counting, too: what was confirmed and neither ran nor rests where it should is lost.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from places import Place

from headrace import Headrace
from headrace.conformance.ledger import Ledger
from headrace.driver import Driver, Info, Message, RestingChannel
from headrace.errors import BackendError
from headrace.job import Job, declared_jobs
from headrace.queue import Queue

from .cells import JOBS, LEASE, POP_TIMEOUT, Cell, Row

#: Seconds after which what a broker does not count, as workers hold it, is run and settled.
SETTLED_AFTER: Final = 1.0

#: Where the jobs and the backend ``crashing`` are.
APPLICATION: Final = Path(__file__).with_name("application")

#: Seconds until what must come is given up: several starts of an interpreter, and of a broker, on a busy machine.
PATIENCE: Final = 90.0

#: Seconds between looks.
LOOK_EVERY: Final = 0.02

#: Seconds between looks at what rests, which takes a server its time.
LOOK_AT_QUEUES_EVERY: Final = 0.1

#: Two configurations of one queue: as it is, and with the fault.
PLAIN: Final = "headrace.toml"
CRASHING: Final = "crashing.toml"

CONFIG: Final = """
imports = ["crash_jobs"]
listeners = []
backend = "{backend}"
[backends.{backend}]
{options}
[queues.default]
prefix = "{prefix}"
lease_seconds = {lease}
pop_timeout = {pop_timeout}
{settings}
[queues.moved]
prefix = "{moved}"
lease_seconds = {lease}
pop_timeout = {pop_timeout}
"""


class Stage:
    """As an async context manager it ends with every process gone, and the queue too."""

    def __init__(self, folder: Path, place: Place, cell: Cell) -> None:
        self.cell = cell
        self.step = cell.step
        self.place = place
        self.folder = folder
        self.ledger = Ledger(folder / "ledger")
        self.confirmed: set[int] = set()
        self.since = 0.0  #: when recovery begins, on `time.monotonic`
        self._last = 0.0  #: when all that is to rest was seen to
        self._struck = folder / "struck"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stack = AsyncExitStack()
        self._write_config(PLAIN, place.name, place.options)
        if self.step.verb:
            fault = {"verb": self.step.verb, "do": "kill", "when": cell.moment, "at": self.step.at}
            fault |= {"pid": self.victim, "once": str(self._struck)}
            self._write_config(CRASHING, "crashing", {**place.options, "around": place.name, "fault": fault})
        _install(folder)
        self.app = Headrace.load(folder / PLAIN)

    @property
    def victim(self) -> int:
        """The process that is killed; 0: the one that takes the step."""
        if self.cell.killed == "process":
            return 0
        assert self.place.broker is not None
        return self.place.broker.pid

    @property
    def queue(self) -> Queue:
        """The queue where the jobs are run."""
        return self.app.queue("moved" if self.step.scene == "migrate" else "default")

    @property
    def faulty(self) -> str:
        """The configuration of those who are to be struck; a handler that kills needs no other than the plain one."""
        return CRASHING if self.step.verb else PLAIN

    def _write_config(self, name: str, backend: str, options: dict[str, Any]) -> None:
        text = CONFIG.format(
            backend=backend,
            options=_lines(options),
            prefix=f"{{crash-{self.folder.name}}}",
            moved=f"{{crash-{self.folder.name}-moved}}",
            lease=LEASE,
            pop_timeout=POP_TIMEOUT,
            settings=_lines(dict(self.step.settings)),
        )
        (self.folder / name).write_text(text)

    # Jobs

    def job(self, number: int) -> Job:
        """A sale; the one in the middle kills, where handlers are to."""
        moment = self.cell.moment if self.step.verb is None and number == JOBS // 2 else ""
        step = self.step
        fields: dict[str, Any] = {"seconds": step.seconds, "late": step.late, "failures": step.failures}
        fields |= {"number": number, "kill_at": moment, "victim": self.victim}
        return declared_jobs()["crash.Sale"](**fields)

    async def push(self, numbers: Sequence[int]) -> None:
        """Push sales, and note them as confirmed."""
        await self.app.queue().push_many([self.job(number) for number in numbers])
        self.confirmed.update(numbers)

    async def bring_to_rest(self, numbers: Sequence[int], channel: RestingChannel) -> None:
        """Push sales, and move them to where failed ones rest, by an application of its own that ends then."""
        await self.push(numbers)
        async with Headrace.load(self.folder / PLAIN) as app:
            driver = await app.queue().driver()
            left = len(self.confirmed)
            deadline = time.monotonic() + PATIENCE
            while left and time.monotonic() < deadline:
                held = await driver.pop(min(left, app.queue().capabilities.max_batch), POP_TIMEOUT)
                if held:
                    await driver.fail([(each.receipt, each.message) for each in held], channel)
                left -= len(held)
            assert not left, f"{left} sales did not come to rest"

    async def use(self) -> None:
        """Use every channel once, so that what a backend makes at its first use is there, and outlives its broker."""
        async with Headrace.load(self.folder / PLAIN) as app:
            for name in {"default", self.queue.name}:
                await _use(await app.queue(name).driver())
        await asyncio.to_thread(self.place.settle)

    # Processes

    def start(self, *arguments: str, config: str) -> "subprocess.Popen[bytes]":
        """Start a ``headrace`` command."""
        return self._start("-m", "headrace.cli", "--config", config, *arguments)

    def start_workers(self, config: str, processes: int = 2) -> "subprocess.Popen[bytes]":
        """Start a supervisor with its worker processes: the others go on when one is killed."""
        return self.start("worker", self.queue.name, "--processes", str(processes), config=config)

    def start_producer(self) -> "subprocess.Popen[bytes]":
        """Start an application that pushes what is not confirmed yet."""
        return self._start(str(APPLICATION / "produce.py"), CRASHING, str(JOBS), str(self.step.seconds))

    def _start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        environment = {**kept, "PYTHONPATH": f"{APPLICATION}{os.pathsep}{self.folder}"}
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=self.folder, env=environment, stdout=log, stderr=log
            )
        self._processes.append(process)
        return process

    async def ended(self, process: "subprocess.Popen[bytes]") -> int:
        """Wait for a process; its exit status."""
        await self.until("a process to end", lambda: process.poll() is not None)
        return process.returncode

    # Waiting

    async def struck(self) -> None:
        """Wait for the kill; if it was the broker's, start that again. Recovery begins then."""
        await self.until("the kill", self._struck.exists)
        self.since = float(self._struck.read_text())
        if self.cell.killed == "broker":
            # Not reaped: who started it does that.
            await asyncio.to_thread(os.waitid, os.P_PID, self.victim, os.WEXITED | os.WNOWAIT)
            await asyncio.to_thread(self.place.start_again)
            self.since = time.monotonic()

    async def until(self, about: str, condition: Callable[[], Any]) -> None:
        """Wait for what must come."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.cell}: waited in vain for {about}\n{self.told()}")
            await asyncio.sleep(LOOK_EVERY)

    async def until_none_is_missing(self) -> None:
        """Wait until each job has run, or rests, as it should, unless one is lost."""
        deadline = time.monotonic() + PATIENCE
        while await self.missing() and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_AT_QUEUES_EVERY if self.step.rests else LOOK_EVERY)
        self._last = time.monotonic() if self.step.rests else self.since

    async def until_empty(self) -> None:
        """Wait until nothing waits, is delayed, or is held: what is to be run twice has been, too."""
        info: Info | None = None
        deadline = time.monotonic() + PATIENCE
        while info is None or info.waiting or info.delayed or info.reserved:
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.cell}: still {info}\n{self.told()}")
            await asyncio.sleep(LOOK_AT_QUEUES_EVERY)
            try:
                info = await self.queue.info()
            except BackendError:
                info = None  # not back yet
        if info.reserved is None:
            await asyncio.sleep(SETTLED_AFTER)

    # Counting

    async def row(self) -> Row:
        """What came of it."""
        cell, ends = self.cell, self.ledger.entries("ended")
        last = max((self._last, *(entry.time for entry in ends)))
        return Row(
            backend=cell.backend,
            killed=cell.killed,
            step=cell.step.name,
            moment=cell.moment,
            pushed=len(self.confirmed),
            executed=len(self.confirmed & self._executed()),
            lost=len(await self.missing()),
            twice=sum(max(0, count - self.step.runs) for count in self.ledger.counts("ended").values()),
            seconds=round(last - self.since, 1),
        )

    def _executed(self) -> set[int]:
        return set(map(int, self.ledger.keys("ended")))

    async def missing(self) -> set[int]:
        """The confirmed jobs that have not run as often as they must, or that do not rest where they must."""
        if self.step.rests:
            try:
                resting = await self.app.queue().list(self.step.rests, limit=1000)
            except BackendError:
                return self.confirmed  # not back yet
            return self.confirmed - {each.arguments["number"] for each in resting}
        counts = self.ledger.counts("ended")
        return {number for number in self.confirmed if counts[str(number)] < self.step.runs}

    def told(self) -> str:
        """The end of what the processes wrote."""
        log = self.folder / "log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""

    async def __aenter__(self) -> "Stage":
        await self._stack.enter_async_context(self.app)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            await asyncio.to_thread(_end, process)
        try:
            if error is None:
                await (await self.app.queue().driver()).destroy()
                await (await self.queue.driver()).destroy()
        finally:
            await self._stack.aclose()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """By the good way, which a supervisor passes on to its workers; if that takes too long, by the other one."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def _use(driver: Driver) -> None:
    """Let a message go through every channel, and be deleted."""
    resting: tuple[RestingChannel, ...] = ("failed", "timeout")
    for channel in resting:
        await driver.delay([Message(id=f"{channel:0>32}", name="crash.Sale", body=b"{}", delay=0.1)])
        deadline = time.monotonic() + PATIENCE
        while not (held := await driver.pop(1, POP_TIMEOUT)):
            assert time.monotonic() < deadline, "a delayed message did not come"
        await driver.fail([(each.receipt, each.message) for each in held], channel)
        await driver.flush(channel)


def _install(folder: Path) -> None:
    """Make the backend ``crashing`` an installed one, for those who have the folder on the path."""
    information = folder / "headrace_crashing-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: headrace-crashing\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[headrace.backends]\ncrashing = headrace_crashing\n")


def _lines(values: dict[str, Any]) -> str:
    """TOML, of which JSON is a part but for tables."""
    return "\n".join(f"{name} = {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_value(each)}" for name, each in value.items()) + " }"
    return json.dumps(value)
