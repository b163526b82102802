"""Workers in processes of their own, for cases that kill, stop and resume them.

Owns both sides: `Workers` and `WorkerProcess` in the case, `main` in the child, which is started afresh and
not forked, so that nothing of ours reaches it but its `Assignment`. What a child does can be read in the
case's ledger; whatever becomes of the case, no child outlives it.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from headrace.app import Headrace
from headrace.conformance.child import pickled, start
from headrace.conformance.engine import LOOK_EVERY, Engine, make_app
from headrace.conformance.faulty import Fault, FaultyBackend
from headrace.conformance.harness import Harness
from headrace.conformance.jobs import QUEUE, Append
from headrace.conformance.lab import Mismatch
from headrace.conformance.ledger import Ledger
from headrace.events import Event, FailedHandle, JobEvent, LeaseLost, WorkerStarted, listen

#: Seconds until a process that should be there, or gone, is given up: to start an interpreter takes its time on
#: a busy machine, and so does an orderly end.
PROCESS_PATIENCE: Final = 30.0

#: What the ledger's key is for what concerns a whole worker.
WORKER: Final = "worker"


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one process is to do. It is pickled."""

    harness: Harness
    prefix: str
    settings: dict[str, Any]
    faults: tuple[Fault, ...]
    ledger: Path
    pushes: int = 0  #: push so many jobs, one by one, instead of working


class Workers:
    """The worker processes of one engine's queue: ``async with Workers(engine, lease_seconds=1) as workers``."""

    def __init__(self, engine: Engine, **settings: Any) -> None:
        """``settings``: of the queue as these processes see it, over the engine's."""
        self._engine = engine
        self._settings = {**engine.settings, **settings}
        self._processes: list[WorkerProcess] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as stack:  # each is ended, whatever ending another one meets
            for process in self._processes:
                stack.callback(process.end)

    def start(self, *faults: Fault, pushes: int = 0) -> "WorkerProcess":
        """Start a process that works until it is ended, on a backend with these faults; or that pushes so many jobs."""
        engine, harness = self._engine, self._engine.lab.harness
        assignment = Assignment(harness, engine.prefixes[QUEUE], self._settings, faults, engine.ledger.path, pushes)
        process = WorkerProcess(engine, pickled(harness, assignment))
        self._processes.append(process)
        return process


class WorkerProcess:
    """One of them, as its case sees it."""

    def __init__(self, engine: Engine, assignment: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self._engine = engine
        self._line, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=main, args=(assignment, theirs), name="headrace-conform", daemon=True)
        start(self._process)
        theirs.close()
        self.pid = self._process.pid or 0

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: `SIGKILL`, `SIGTERM` for an orderly end, `SIGSTOP`, `SIGCONT`."""
        self._engine.lab.calls.note(f"process {self.pid}: {number.name}")
        if self.alive:
            os.kill(self.pid, number)

    def wrote(self, key: str, *words: str) -> list[str]:
        """What this process wrote of a job, or of itself, in the ledger: of all that, or of some words."""
        return [each.word for each in self._engine.ledger.entries(*words) if (each.key, each.pid) == (key, self.pid)]

    async def started(self) -> None:
        """Wait until it works."""
        await self.until("a worker process to start", lambda: self.wrote(WORKER, "started"))

    async def until(self, about: str, condition: Callable[[], Any]) -> None:
        """Wait for what must come from this process. Fails if it ends before."""
        if not await self.outlives(about, condition):
            raise Mismatch(about, f"process {self.pid} {self._ending()}; {self._engine.told()}", "it has happened")

    async def outlives(self, about: str, condition: Callable[[], Any]) -> bool:
        """Wait for what must come, unless this process ends before; false if it does."""
        deadline = time.monotonic() + PROCESS_PATIENCE
        while True:
            alive = self.alive
            if condition():
                return True
            if not alive:
                return False
            if time.monotonic() > deadline:
                raise Mismatch(f"{about}, after {PROCESS_PATIENCE:g} s", self._engine.told(), "it has happened")
            await asyncio.sleep(LOOK_EVERY)

    async def ended(self, status: int) -> None:
        """Wait for its end, which must be with this exit status; negative: by that signal."""
        deadline = time.monotonic() + PROCESS_PATIENCE
        while self.alive and time.monotonic() < deadline:  # noqa: ASYNC110 - an end sets no event
            await asyncio.sleep(LOOK_EVERY)
        found = self._ending() if not self.alive else f"still runs after {PROCESS_PATIENCE:g} s"
        if self._process.exitcode != status:
            raise Mismatch("the end of a worker process", found, _described(status))

    def end(self) -> None:
        """Make sure that it is gone, whatever it does or waits for."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._line.close()

    def _ending(self) -> str:
        status = self._process.exitcode
        with contextlib.suppress(EOFError, OSError):
            if self._line.poll():
                return f"{_described(status)}: {self._line.recv()}"
        if self.wrote(WORKER) or status is None or status < 0:
            return _described(status)
        # A process that is started afresh begins with what its parent's script does.
        return f"{_described(status)} before it began; a script that runs the kit needs: if __name__ == '__main__'"


def _described(status: int | None) -> str:
    if status is not None and status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


# The child


def main(data: bytes, line: Connection) -> None:
    """Carry out an assignment; what went wrong is said on the line."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # The case provokes what the engine warns of.
    logging.getLogger("headrace").addHandler(logging.NullHandler())
    logging.getLogger("headrace").propagate = False
    try:
        assignment: Assignment = pickle.loads(data)
    except Exception as error:
        line.send(f"the harness cannot be had in another process ({error!r}): define its class in a module")
        os._exit(1)
    try:
        asyncio.run(_push(assignment) if assignment.pushes else _work(assignment))
    except BaseException:
        line.send(traceback.format_exc())
        os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _app(assignment: Assignment) -> Headrace:
    backend = FaultyBackend(assignment.harness.backend(), *assignment.faults)
    return make_app(backend, {QUEUE: assignment.prefix}, assignment.settings)


async def _work(assignment: Assignment) -> None:
    app, ledger = _app(assignment), Ledger(assignment.ledger)

    @listen(WorkerStarted, LeaseLost, FailedHandle)
    def tell(event: Event) -> None:
        word = {WorkerStarted: "started", LeaseLost: "lost", FailedHandle: "gave up"}[type(event)]
        ledger.write(word, event.message.id if isinstance(event, JobEvent) else WORKER)

    app.events.add(tell)
    worker = app.worker(QUEUE)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()


async def _push(assignment: Assignment) -> None:
    ledger = Ledger(assignment.ledger)
    async with _app(assignment) as app:
        for number in range(assignment.pushes):
            message_id = await app.queue(QUEUE).push(Append(ledger=str(assignment.ledger), key=str(number)))
            ledger.write("pushed", message_id)
