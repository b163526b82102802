"""Worker processes of the kit: what is said when they cannot be had, and that none is left."""

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from headrace.conformance import Harness, PluginHarness
from headrace.conformance.case import Case
from headrace.conformance.engine import Engine
from headrace.conformance.lab import Lab
from headrace.conformance.outcome import Outcome
from headrace.conformance.promises import Promise
from headrace.conformance.runner import run_case
from headrace.conformance.workers import WorkerProcess, Workers

started: list[WorkerProcess] = []


class Unpicklable(PluginHarness):
    """One that holds what belongs to its process."""

    def __init__(self) -> None:
        super().__init__("sqlite")
        self.server = threading.Lock()


class Elsewhere(PluginHarness):
    """One that can be made here and nowhere else."""

    def __init__(self) -> None:
        super().__init__("sqlite")

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "process": os.getpid()}

    def __setstate__(self, state: dict[str, object]) -> None:
        if state["process"] != os.getpid():
            raise RuntimeError("there is no such thing here")
        vars(self).update(state)


async def start_one(lab: Lab) -> None:
    async with Engine(lab) as engine, Workers(engine) as workers:
        worker = workers.start()
        started.append(worker)
        await worker.started()


async def start_one_and_fail(lab: Lab) -> None:
    async with Engine(lab) as engine, Workers(engine) as workers:
        worker = workers.start()
        started.append(worker)
        await worker.started()
        worker.signal(signal.SIGSTOP)
        raise LookupError("the case fails")


def run(harness: Harness, proof: object) -> Outcome:
    return run_case(harness, Case("trial", "A trial.", Promise.SAME, proof))  # type: ignore[arg-type]


def test_a_harness_that_cannot_be_pickled_is_told_what_to_do() -> None:
    outcome = run(Unpicklable(), start_one)
    assert outcome.status == "failed"
    assert "Unpicklable cannot be pickled" in (outcome.reason or "")
    assert "keep their address" in (outcome.reason or "")


def test_a_harness_that_is_not_to_be_had_elsewhere_is_named() -> None:
    outcome = run(Elsewhere(), start_one)
    assert outcome.status == "failed"
    assert "the harness cannot be had in another process" in (outcome.found or "")
    assert "there is no such thing here" in (outcome.found or "")


@pytest.mark.parametrize(("proof", "status"), [(start_one, "passed"), (start_one_and_fail, "failed")])
def test_no_process_outlives_its_case(proof: object, status: str, tmp_path: Path) -> None:
    started.clear()
    assert run(PluginHarness("sqlite"), proof).status == status
    (worker,) = started
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)
    assert not multiprocessing.active_children()
