"""A backend out of reach: a serving worker waits for it, one that shall end with its queues not for ever."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from headrace import Headrace, Job, worker
from headrace.availability import Availability
from headrace.conformance import Fault, FaultyBackend
from headrace.errors import BackendError, BackendUnavailable
from headrace_memory.backend import MemoryBackend

from .conftest import MakeApp
from .test_worker import until

ran: list[int] = []


class Outlasting(Job):
    """Runs for longer than anybody is patient here."""

    async def handle(self) -> None:
        await asyncio.sleep(0.6)
        ran.append(1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is as good as a moment, but for the patience of whoever runs the tests."""
    monkeypatch.setattr(worker, "_PATIENCE", 0.3)
    ran.clear()


def unreachable(listeners: Sequence[str] = ()) -> Headrace:
    backend = FaultyBackend(MemoryBackend(), Fault("open", "fail"))
    return Headrace({"backend": "far", "listeners": list(listeners)}, backends={"far": backend})


async def test_until_empty_gives_up_on_a_backend_that_never_answered() -> None:
    async with unreachable() as app:
        with pytest.raises(
            BackendUnavailable, match=r"^the backend 'far' at .* was out of reach for .* s, so that its"
        ):
            await app.worker().run(until_empty=True)


async def test_a_serving_worker_waits_for_its_backend(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headrace")
    async with unreachable(["log"]) as app:
        serving = app.worker()
        running = asyncio.create_task(serving.run())
        await asyncio.sleep(1)
        assert not running.done()
        serving.stop()
        await running
    assert [each.getMessage() for each in caplog.records if "out of reach" in each.getMessage()] == [
        "the backend of default is out of reach; trying until it answers: a fault was asked for: open was not sent"
    ]


async def test_until_empty_gives_up_on_what_is_lost_while_it_works_and_stops_as_ever(make_app: MakeApp) -> None:
    async with make_app() as app:
        driver = await app.queue().driver()

        async def pop(limit: int, wait: float) -> Any:
            raise BackendUnavailable("the test took it down")

        driver.pop = pop  # type: ignore[method-assign]
        await app.queue().push(Outlasting())
        with pytest.raises(BackendUnavailable, match=r"out of reach for .* the test took it down"):
            await app.worker().run(until_empty=True)


async def test_until_empty_gives_up_on_a_backend_that_refuses_for_as_long(make_app: MakeApp) -> None:
    async with make_app() as app:
        driver = await app.queue().driver()

        async def info() -> Any:
            raise BackendError("no permission to count")

        driver.info = info  # type: ignore[method-assign]
        with pytest.raises(BackendError, match=r"refused for .* no permission to count") as raised:
            await app.worker().run(until_empty=True)
        assert not isinstance(raised.value, BackendUnavailable)


async def test_a_handler_that_runs_is_not_cut_short_by_an_outage(make_app: MakeApp) -> None:
    async with make_app() as app:
        driver, down = await app.queue().driver(), [False]
        honest = driver.pop

        async def pop(limit: int, wait: float) -> Any:
            if down[0]:
                raise BackendUnavailable("the test took it down")
            return await honest(limit, wait)

        driver.pop = pop  # type: ignore[method-assign]
        await app.queue().push(Outlasting())
        await app.queue().push(Outlasting(), delay=60)
        ending = app.worker()
        running = asyncio.create_task(ending.run(until_empty=True))
        await until(lambda: ending.running)
        down[0] = True
        with pytest.raises(BackendUnavailable):
            await running
    assert ran == [1]


async def test_failures_far_apart_are_not_counted_as_one_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("headrace.availability.time.monotonic", lambda: now[0])
    availability = Availability(lambda error: None, lambda seconds: None)
    caller = availability.caller("info on default")

    async def fail() -> None:
        raise BackendUnavailable("down")

    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            await caller.ask(fail())
        assert caller.in_vain == 0
        now[0] += 60
    for _ in range(30):
        with pytest.raises(BackendUnavailable):
            await caller.ask(fail())
        now[0] += 2
    assert caller.in_vain == 58
    with pytest.raises(BackendUnavailable, match=r"^it was out of reach for 58 s"):
        availability.refuse_after(58, "it")
    # Nobody asks any more: what it was is over, as far as anybody knows.
    now[0] += 60
    assert caller.in_vain == 0
