"""What is told of a worker that is stuck."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import headrace_memory.backend
from headrace import Headrace, Job
from headrace.driver import Delivery
from headrace.log_fields import LogFields
from headrace.stalls import _FRAMES

gate: asyncio.Event


class BlockTheLoop(Job):
    """Blocks the event loop, somewhat deep in calls."""

    seconds: float
    depth: int = 1

    async def handle(self) -> None:
        descend(self.depth, self.seconds)


def descend(depth: int, seconds: float) -> None:
    if depth:
        descend(depth - 1, seconds)
    else:
        time.sleep(seconds)


class HoldSlot(Job):
    async def handle(self) -> None:
        await gate.wait()


@pytest.fixture(autouse=True)
async def fresh() -> None:
    global gate
    gate = asyncio.Event()


def make_app(**settings: Any) -> Headrace:
    settings = {"queue_length_seconds": 0, **settings}
    return Headrace({"backend": "memory", "listeners": [], "queues": {"default": settings}})


def told(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [each for each in caplog.records if text in each.getMessage()]


async def until(condition: Any, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_blocked_loop_is_told_once_with_the_job_in_hand_and_where_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with make_app(stall_seconds=0.3) as app:
        message_id = await app.queue().push(BlockTheLoop(seconds=0.8))
        worker = app.worker()
        await worker.run(until_empty=True)
    (record,) = told(caplog, "has been blocked")
    assert record.levelno == logging.CRITICAL
    assert record.getMessage().startswith("default: the event loop has been blocked for 0.")
    assert f" s by BlockTheLoop {message_id} on default" in record.getMessage()
    assert record.__dict__["headrace"] == LogFields("default", "BlockTheLoop", message_id, 0, worker.name)
    assert record.stack_info is not None
    lines = record.stack_info.splitlines()
    assert lines[-1].strip() == "time.sleep(seconds)"
    assert "in handle" in record.stack_info


async def test_that_a_blocked_loop_turns_again_is_told_as_well(caplog: pytest.LogCaptureFixture) -> None:
    async with make_app(stall_seconds=0.2) as app:
        await app.queue().push_many([BlockTheLoop(seconds=0.8), HoldSlot()])
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: told(caplog, "turns again"))
        gate.set()
        worker.stop()
        await running
    assert len(told(caplog, "has been blocked")) == len(told(caplog, "turns again")) == 1


async def test_of_a_deep_stack_the_innermost_part_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with make_app(stall_seconds=0.2) as app:
        await app.queue().push(BlockTheLoop(seconds=0.5, depth=500))
        await app.worker().run(until_empty=True)
    (record,) = told(caplog, "has been blocked")
    assert record.stack_info is not None
    assert record.stack_info.endswith("time.sleep(seconds)")
    assert record.stack_info.count("File ") <= _FRAMES


async def test_a_blocked_loop_is_told_where_leases_last_as_long_as_a_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = replace(headrace_memory.backend.CAPABILITIES, leases="connection")
    monkeypatch.setattr(headrace_memory.backend, "CAPABILITIES", bound)
    async with make_app(stall_seconds=0.2) as app:
        await app.queue().push(BlockTheLoop(seconds=0.8))
        await app.worker().run(until_empty=True)
    assert len(told(caplog, "has been blocked")) == 1


async def test_a_worker_that_takes_nothing_while_jobs_wait_is_told_once_and_when_it_takes_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with make_app(stall_seconds=0.4, pop_timeout=0.05) as app:
        driver = await app.queue().driver()
        pop = driver.pop

        async def nothing(limit: int, wait: float) -> Sequence[Delivery]:
            await asyncio.sleep(wait)
            return ()

        driver.pop = nothing  # type: ignore[method-assign]
        await app.queue().push(HoldSlot())
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: told(caplog, "no job has been taken"))
        await asyncio.sleep(0.3)
        driver.pop = pop  # type: ignore[method-assign]
        await until(lambda: told(caplog, "are taken again"))
        gate.set()
        worker.stop()
        await running
    (record,) = told(caplog, "no job has been taken")
    assert "with no job in hand" in record.getMessage()
    assert record.stack_info is not None
    assert "intake.py" in record.stack_info
    assert "in nothing" in record.stack_info


async def test_neither_an_idle_worker_nor_one_whose_slots_are_all_held_is_stalled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with make_app(stall_seconds=0.2, pop_timeout=0.05, concurrent={"limit": 1}) as app:
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0.5)
        await app.queue().push_many([HoldSlot(), HoldSlot()])
        await asyncio.sleep(0.5)
        assert (await app.queue().info()).waiting == 1
        gate.set()
        worker.stop()
        await running
    assert not [each for each in caplog.records if each.levelno == logging.CRITICAL]
