"""An app in memory, on a clock that the test moves."""

import asyncio
import threading
from typing import Any

import pytest

from headrace import Headrace, Job, current
from headrace.config import Config
from headrace.context import entered
from headrace.driver import Info
from headrace.errors import WrongContext
from headrace.testing import FakeClock, MemoryApp, app

ran: list[Any] = []
gate: asyncio.Event


@pytest.fixture(autouse=True)
async def nothing_ran_yet() -> None:
    global gate
    gate = asyncio.Event()
    ran.clear()


class Reminder(Job):
    text: str = "now"

    async def handle(self) -> None:
        ran.append(self.text)


class FailsOnceOnly(Job, max_retries=1, retry_seconds=60):
    async def handle(self) -> None:
        ran.append(current().attempt)
        if not current().attempt:
            raise ValueError("not yet")


class WaitsForGate(Job):
    async def handle(self) -> None:
        ran.append("begun")
        await gate.wait()
        ran.append("ended")


class WaitsForTen(WaitsForGate, handle_timeout=10): ...


class CancelledAfterTen(WaitsForGate, handle_timeout=10, on_timeout="cancel"): ...


class ExtendsItself(Job, handle_timeout=10):
    async def handle(self) -> None:
        current().extend(60)
        ran.append("begun")
        await gate.wait()


class PushesOn(Job, queue="images"):
    async def handle(self) -> None:
        await Reminder(text="from images").push()


async def length(queue: str = "default") -> dict[str, int]:
    """The channels of the entered app's queue that hold something."""
    current_app = entered()
    assert current_app is not None
    info: Info = await current_app.queue(queue).info()
    named = {name: getattr(info, name) for name in ("waiting", "reserved", "delayed", "failed", "timeout")}
    return {name: count for name, count in named.items() if count}


async def begun() -> None:
    """A handler has begun."""
    async with asyncio.timeout(5):
        while not ran:
            await asyncio.sleep(0)


async def test_a_delayed_job_is_due_when_the_clock_says_so(headrace_app: MemoryApp, headrace_clock: FakeClock) -> None:
    await Reminder().push(delay=30)
    assert len(await headrace_app.run_due()) == 0
    headrace_clock.advance(29)
    assert len(await headrace_app.run_due()) == 0
    headrace_clock.advance(1)
    (run,) = await headrace_app.run_due()
    assert (run.outcome, run.job, ran) == ("done", Reminder(), ["now"])


def test_without_an_event_loop_it_serves_just_so(headrace_app: MemoryApp) -> None:
    Reminder().push_sync(delay=30)
    headrace_app.sync().queue("images").push(Reminder(text="pictures"))
    assert len(headrace_app.run_due_sync()) == 1
    headrace_app.clock.advance(30)
    assert len(headrace_app.run_due_sync()) == 1
    assert ran == ["pictures", "now"]


async def test_blocking_calls_on_a_loop_are_refused(headrace_app: MemoryApp) -> None:
    with pytest.raises(WrongContext, match=r"await run_due\(\)"):
        headrace_app.run_due_sync()


async def test_a_retry_waits_for_the_clock(headrace_app: MemoryApp) -> None:
    await FailsOnceOnly().push()
    (first,) = await headrace_app.run_due()
    assert first.outcome == "retried"
    assert await length() == {"delayed": 1}
    headrace_app.clock.advance(60)
    (second,) = await headrace_app.run_due()
    assert (second.outcome, ran) == ("done", [0, 1])


async def test_what_due_jobs_push_is_run_with_them_on_whatever_queue(headrace_app: MemoryApp) -> None:
    await PushesOn().push()
    results = await headrace_app.run_due()
    assert [each.name for each in results] == ["PushesOn", "Reminder"]


async def test_only_the_queues_that_are_named_are_run(headrace_app: MemoryApp) -> None:
    await PushesOn().push()
    await headrace_app.run_due("images")
    assert await length() == {"waiting": 1}


async def test_running_all_leaps_over_delays_and_retries(headrace_app: MemoryApp) -> None:
    before = headrace_app.clock()
    await FailsOnceOnly().push(delay=30)
    await headrace_app.run_all()
    assert ran == [0, 1]
    assert headrace_app.clock() == before + 90


async def test_an_error_is_raised_unless_it_is_to_be_looked_at(headrace_app: MemoryApp) -> None:
    await FailsOnceOnly().push(max_retries=0)
    with pytest.raises(ValueError, match="not yet"):
        await headrace_app.run_due()
    assert await length() == {"failed": 1}
    await headrace_app.queue().reload("failed")
    (run,) = (await headrace_app.run_due(raise_errors=False)).failed
    assert run.attempt == 0


async def test_moving_the_clock_wakes_a_waiting_worker_and_awaits_what_it_runs(headrace_app: MemoryApp) -> None:
    worker = headrace_app.worker("default", "images")
    working = asyncio.create_task(worker.run())
    await Reminder(text="in a minute").push(delay=60)
    await FailsOnceOnly().push(delay=60)
    await headrace_app.clock.advance(60)
    assert sorted(map(str, ran)) == ["0", "in a minute"]
    await headrace_app.clock.advance(60)
    assert ran[-1] == 1
    worker.stop()
    await working


async def test_moving_the_clock_does_not_wait_for_ever_for_a_handler(headrace_app: MemoryApp) -> None:
    worker = headrace_app.worker()
    working = asyncio.create_task(worker.run())
    await WaitsForGate().push(delay=60)
    async with asyncio.timeout(30):
        await headrace_app.clock.advance(60)
    assert ran == ["begun"]
    gate.set()
    worker.stop()
    await working
    assert ran == ["begun", "ended"]


async def test_a_handler_runs_into_its_timeout_when_the_clock_says_so(headrace_app: MemoryApp) -> None:
    await WaitsForTen().push()
    running = asyncio.create_task(headrace_app.run_due(concurrency=2))
    await begun()
    headrace_app.clock.advance(9)
    await asyncio.sleep(0)
    assert await length() == {"reserved": 1}
    headrace_app.clock.advance(1)
    async with asyncio.timeout(5):
        while await length() != {"timeout": 1}:
            await asyncio.sleep(0)
    gate.set()
    (run,) = await running
    assert (run.outcome, ran) == ("timeout", ["begun", "ended"])


async def test_a_timeout_that_cancels_is_a_failure(headrace_app: MemoryApp) -> None:
    await CancelledAfterTen().push(max_retries=1, retry_seconds=30)
    running = asyncio.create_task(headrace_app.run_due())
    await begun()
    headrace_app.clock.advance(10)
    (run,) = await running
    assert run.outcome == "retried"
    assert "ran past its handle_timeout of 10 s" in str(run.error)


async def test_extending_moves_the_deadline_on_the_same_clock(headrace_app: MemoryApp) -> None:
    await ExtendsItself().push()
    running = asyncio.create_task(headrace_app.run_due())
    await begun()
    headrace_app.clock.advance(59)
    await asyncio.sleep(0)
    assert await length() == {"reserved": 1}
    gate.set()
    (run,) = await running
    assert run.outcome == "done"


async def test_a_running_job_keeps_its_lease_however_far_the_clock_leaps(headrace_app: MemoryApp) -> None:
    await WaitsForGate().push()
    running = asyncio.create_task(headrace_app.run_due())
    await begun()
    headrace_app.clock.advance(10 * 365 * 24 * 3600)
    assert await length() == {"reserved": 1}
    gate.set()
    await running
    assert ran == ["begun", "ended"]


async def test_with_leases_a_job_comes_back_from_a_worker_that_stalled() -> None:
    config = {"listeners": [], "queues": {"default": {"lease_seconds": 30}}}
    with app(config, leases=True) as stalled:
        await WaitsForGate().push()
        running = asyncio.create_task(stalled.run_due())
        await begun()
        stalled.clock.advance(30)
        assert await length() == {"waiting": 1}
        gate.set()
        await running
    assert ran == ["begun", "ended"] * 2


async def test_the_configured_backends_are_neither_loaded_nor_reached() -> None:
    config = {
        "backend": "nowhere",
        "listeners": [],
        "backends": {"nowhere": {"url": "${NOT_SET_ANYWHERE}"}},
        "queues": {"default": {"max_retries": 1, "retry_seconds": 5}, "other": {"backend": "elsewhere"}},
    }
    with app(config) as memory:
        await FailsOnceOnly().push(retry_seconds=7)
        await memory.queue("other").push(Reminder())
        results = await memory.run_all()
    assert [each.outcome for each in results] == ["retried", "done", "done"]
    assert memory.queue().settings.max_retries == 1


async def test_a_configuration_may_be_read_or_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "headrace.toml").write_text("listeners = []\n[queues.mail]\n")
    monkeypatch.chdir(tmp_path)
    for config in (None, "headrace.toml", tmp_path / "headrace.toml", Config.load()):
        assert "mail" in app(config).config.queues


async def test_a_worker_of_it_may_run_until_its_queues_are_empty(headrace_app: MemoryApp) -> None:
    async with headrace_app:
        await Reminder().push()
        assert await headrace_app.worker().run(until_empty=True) == 1


async def test_two_apps_share_nothing(headrace_app: MemoryApp) -> None:
    with app({"listeners": []}) as other:
        await Reminder().push()
        assert (await other.queue().info()).waiting == 1
    assert await length() == {}


async def test_an_app_serves_other_threads_and_loops(headrace_app: MemoryApp) -> None:
    def push_elsewhere() -> None:
        asyncio.run(push())

    async def push() -> None:
        await Reminder(text="elsewhere").push()

    thread = threading.Thread(target=push_elsewhere)
    thread.start()
    thread.join()
    await headrace_app.run_due()
    assert ran == ["elsewhere"]


async def test_after_it_bare_pushes_go_where_they_went(headrace_app: MemoryApp) -> None:
    async with Headrace({"backend": "memory", "listeners": []}) as outer:
        with app({"listeners": []}):
            await Reminder(text="inner").push()
        await Reminder(text="outer").push()
        (listed,) = await outer.queue().list("waiting")
        assert listed.arguments == {"text": "outer"}
