"""How a worker takes messages, stops, and goes on when things go wrong around it."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, Job, current, listen
from headrace.driver import Delivery, Driver
from headrace.errors import BackendUnavailable, ConfigError, WorkerDied, WrongContext
from headrace.events import (
    AfterHandle,
    BackendBack,
    BackendLost,
    FailedHandle,
    LeaseLost,
    QueueLength,
    TimeoutHandle,
    WorkerStopped,
)

from .conftest import MakeApp, counts

started: list[Any] = []
gate: asyncio.Event


@pytest.fixture(autouse=True)
async def fresh() -> None:
    global gate
    started.clear()
    gate = asyncio.Event()


class Wait(Job):
    """Ends when the gate is opened."""

    number: int = 0

    async def handle(self) -> None:
        started.append(self.number)
        await gate.wait()


class Quick(Job):
    number: int = 0

    async def handle(self) -> None:
        started.append(self.number)


class OtherQuick(Job, queue="low"):
    number: int = 0

    async def handle(self) -> None:
        started.append(("low", self.number))


class BlockingTheLoop(Job):
    seconds: float

    async def handle(self) -> None:
        started.append("blocking")
        time.sleep(self.seconds)


class StuckInThread(Job, handle_timeout=0.05):
    def handle(self) -> None:
        started.append("stuck")
        release.wait(10)


release = threading.Event()


class SeesState(Job):
    async def handle(self) -> None:
        run = current()
        started.append((run.state, run.queue, run.job == self, run.deadline, dict(run.headers)))


class SeesStateInThread(Job):
    def handle(self) -> None:
        started.append((current().state, local.value))


local = threading.local()


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait, looking often, until something has become true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def stop(worker: Any, running: "asyncio.Task[int]") -> int:
    worker.stop()
    return await running


async def test_no_more_than_the_limit_run_at_once(make_app: MakeApp) -> None:
    app = make_app(concurrent={"limit": 3})
    async with app:
        await app.queue().push_many([Wait(number=n) for n in range(10)])
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: len(started) == 3)
        await asyncio.sleep(0.05)
        assert started == [0, 1, 2]
        gate.set()
        await until(lambda: len(started) == 10)
        await stop(worker, running)


async def test_one_slot_runs_jobs_in_the_order_they_were_pushed(make_app: MakeApp) -> None:
    app = make_app(concurrent={"limit": 1})
    async with app:
        await app.queue().push_many([Quick(number=n) for n in range(300)])
        await app.worker().run(until_empty=True)
    assert started == list(range(300))


async def test_long_jobs_are_not_hoarded(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        await app.queue().push_many([Wait(number=n) for n in range(100)])
        worker = app.worker(concurrency=5)
        running = asyncio.create_task(worker.run())
        await until(lambda: len(started) == 5)
        info = await app.queue().info()
        assert info.reserved == 5
        gate.set()
        await stop(worker, running)


async def test_what_was_prefetched_and_cannot_start_goes_back(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        await app.queue().push_many([Quick(number=n) for n in range(2000)])
        await app.queue().push_many([Wait(number=-1)] * 5 + [Quick(number=n) for n in range(500)])
        worker = app.worker(concurrency=5)
        running = asyncio.create_task(worker.run())
        await until(lambda: started.count(-1) == 5)

        async def reserved() -> int | None:
            return (await app.queue().info()).reserved

        while await reserved() != 5:
            await asyncio.sleep(0.05)
        info = await app.queue().info()
        assert info.waiting == 500
        messages = await app.queue().list("waiting", limit=1000)
        assert {(each.message.attempt, each.message.deaths) for each in messages} == {(0, 0)}
        gate.set()
        await until(lambda: len(started) == 2505)
        await stop(worker, running)


async def test_stopping_lets_handlers_end_and_gives_back_the_rest(make_app: MakeApp, record: Any) -> None:
    app = make_app(concurrent={"limit": 2})
    seen = record(app)
    async with app:
        await app.queue().push_many([Wait(number=n) for n in range(5)])
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: len(started) == 2)
        worker.stop()
        await asyncio.sleep(0.02)
        assert not running.done()
        gate.set()
        assert await running == 2
        assert await counts(app) == {"waiting": 3}
        assert seen.of(WorkerStopped)[0].handled == 2
        assert [each.message.attempt for each in await app.queue().list("waiting")] == [0] * 3
        await app.worker().run(until_empty=True)
    assert started == [0, 1, 2, 3, 4]


async def test_what_does_not_end_in_time_is_cancelled_and_given_back_for_nothing(make_app: MakeApp) -> None:
    app = make_app(shutdown_timeout=0.05)
    async with app:
        await app.queue().push_many([Wait(number=n) for n in range(3)])
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: len(started) == 3)
        await stop(worker, running)
        waiting = await app.queue().list("waiting")
        assert [(each.message.attempt, each.message.deaths) for each in waiting] == [(0, 0)] * 3
        driver = await app.queue().driver()
        assert [each.count for each in await driver.pop(3, 0)] == [1, 1, 1]


async def test_a_second_stop_ends_at_once(make_app: MakeApp) -> None:
    app = make_app(shutdown_timeout=60)
    async with app:
        await app.queue().push(Wait())
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: started)
        worker.stop()
        worker.stop()
        async with asyncio.timeout(5):
            await running
        assert await counts(app) == {"waiting": 1}


class FailsDeaf(Job):
    """Its ``failed`` ignores its cancellation until the gate is opened."""

    async def handle(self) -> None:
        raise ValueError

    async def failed(self, error: Exception) -> None:
        started.append("failed")
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()
        started.append("ended")


async def test_a_second_stop_does_not_wait_for_what_ignores_its_cancellation(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_app(shutdown_timeout=60) as app:
        await app.queue().push(FailsDeaf())
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: started)
        worker.stop()
        worker.stop()
        await asyncio.wait((running,), timeout=15)
        ended = running.done()
        gate.set()
        assert ended
        await running
        await until(lambda: started == ["failed", "ended"])
        assert await counts(app) == {"failed": 1}
    (left,) = [each.getMessage() for each in caplog.records if "left behind" in each.getMessage()]
    assert left.startswith("failed() of FailsDeaf ")


class StoppedLate(Job, handle_timeout=0.05):
    """Goes on past its timeout; cancelled, it may return as if it had come to its end."""

    returns: bool

    async def handle(self) -> None:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            if not self.returns:
                raise


@pytest.mark.parametrize("returns", [False, True], ids=["cancelled", "returns"])
async def test_a_handler_past_its_timeout_that_the_stop_ends_has_not_failed(
    make_app: MakeApp, record: Any, caplog: pytest.LogCaptureFixture, returns: bool
) -> None:
    async with make_app(top={"listeners": ["log"]}, shutdown_timeout=0.05) as app:
        seen = record(app)
        await app.queue().push(StoppedLate(returns=returns))
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: seen.of(TimeoutHandle))
        await stop(worker, running)
        assert await counts(app) == {"timeout": 1}
    assert not seen.of(FailedHandle)
    assert [each.late for each in seen.of(AfterHandle)] == [True] * returns
    assert "raised after its timeout" not in caplog.text


async def test_cancelling_run_stops_gracefully(make_app: MakeApp) -> None:
    app = make_app(shutdown_timeout=0.05)
    async with app:
        await app.queue().push(Wait())
        running = asyncio.create_task(app.worker().run())
        await until(lambda: started)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await counts(app) == {"waiting": 1}


async def test_exactly_max_messages_are_handled(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        await app.queue().push_many([Quick(number=n) for n in range(500)])
        assert await app.worker(max_messages=123).run() == 123
        assert len(started) == 123
        assert await counts(app) == {"waiting": 377}


async def test_a_group_serves_its_queues_in_strict_order(make_app: MakeApp) -> None:
    app = make_app(queues={"default": {}, "low": {}})
    async with app:
        await app.queue("low").push_many([OtherQuick(number=n) for n in range(20)])
        await app.queue().push_many([Quick(number=n) for n in range(20)])
        await app.worker("default", "low", concurrency=1).run(until_empty=True)
        assert started[:20] == list(range(20))
        assert started[20:] == [("low", n) for n in range(20)]
        worker = app.worker("default", "low")
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0.05)
        await app.queue("low").push(OtherQuick(number=99))
        await until(lambda: started[-1] == ("low", 99), 1)
        await stop(worker, running)


async def test_a_group_spans_backends(tmp_path: Path) -> None:
    app = Headrace(
        {
            "backends": {"sqlite": {"path": str(tmp_path / "jobs.db")}},
            "queues": {"default": {"backend": "memory"}, "low": {"backend": "sqlite"}},
        }
    )
    async with app:
        await app.queue("low").push(OtherQuick())
        await app.queue().push(Quick())
        await app.worker("default", "low").run(until_empty=True)
    assert sorted(started, key=str) == [("low", 0), 0]


async def test_delayed_jobs_start_when_they_are_due(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await app.queue().push(Quick(number=2), delay=0.3)
        await app.queue().push(Quick(number=1), delay=0.1)
        await until(lambda: len(started) == 2)
        assert time.monotonic() - began >= 0.3
        await stop(worker, running)
    assert started == [1, 2]


async def test_a_handler_that_blocks_the_loop_keeps_its_lease(make_app: MakeApp, record: Any) -> None:
    app = make_app(lease_seconds=0.6)
    seen = record(app)
    async with app:
        await app.queue().push(BlockingTheLoop(seconds=2))
        await app.worker().run(until_empty=True)
    assert started == ["blocking"]
    assert not seen.of(LeaseLost)


async def test_a_loop_blocked_for_too_long_loses_its_leases(
    make_app: MakeApp, record: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(lease_seconds=0.3, stall_seconds=0.2)
    seen = record(app)
    async with app:
        await app.queue().push(BlockingTheLoop(seconds=3))
        worker = app.worker(max_messages=1)
        await worker.run()
        assert len(seen.of(LeaseLost)) == 1
        assert await counts(app) == {"waiting": 1}
    assert "the event loop has been blocked" in caplog.text


async def test_a_worker_whose_slots_are_all_overrun_ends(make_app: MakeApp, record: Any) -> None:
    release.clear()
    app = make_app(concurrent={"limit": 2}, shutdown_timeout=0.1)
    seen = record(app)
    async with app:
        await app.queue().push_many([StuckInThread(), StuckInThread(), StuckInThread()])
        worker = app.worker()
        try:
            await worker.run()
        finally:
            release.set()
        assert worker.overrun
        assert len(seen.of(TimeoutHandle)) == 2
        assert await counts(app) == {"timeout": 2, "waiting": 1}


async def test_lifespan_surrounds_the_worker_and_its_state_reaches_handlers(make_app: MakeApp) -> None:
    app = make_app(top={"lifespan": f"{__name__}:lifespan"})
    async with app:
        await app.queue().push(SeesState(), headers={"tenant": "7"})
        await app.worker().run(until_empty=True)
    assert started == ["opened", ({"pool": "a pool"}, "default", True, None, {"tenant": "7"}), "closed"]


@contextlib.asynccontextmanager
async def lifespan(app: Headrace) -> AsyncIterator[dict[str, str]]:
    started.append("opened")
    yield {"pool": "a pool"}
    started.append("closed")


async def around(run: Any, call_next: Any) -> None:
    started.append(("before", type(run.job).__name__))
    try:
        await call_next()
    finally:
        started.append("after")


def in_thread(run: Any, call_next: Any) -> None:
    local.value = run.id != ""
    call_next()


async def swallow(run: Any, call_next: Any) -> None:
    with contextlib.suppress(WorkerDied):
        await call_next()
        raise WorkerDied("changed by middleware")


async def test_middleware_surrounds_async_handlers(make_app: MakeApp) -> None:
    app = make_app(top={"middleware": [f"{__name__}:around", f"{__name__}:swallow"]})
    async with app:
        await app.queue().push(Quick(number=5))
        await app.worker().run(until_empty=True)
        assert await counts(app) == {}
    assert started == [("before", "Quick"), 5, "after"]


async def test_plain_middleware_runs_in_the_sync_handlers_thread(make_app: MakeApp) -> None:
    app = make_app(top={"middleware": [f"{__name__}:in_thread", f"{__name__}:around"]})
    async with app:
        await app.queue().push(SeesStateInThread())
        with pytest.raises(ConfigError, match="in_thread is a plain function and cannot surround the async handler"):
            await app.worker().run(until_empty=True)


async def test_a_listener_that_raises_changes_nothing(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    @listen(AfterHandle)
    def broken(event: AfterHandle) -> None:
        raise RuntimeError("a listener's own trouble")

    @listen(AfterHandle)
    async def broken_later(event: AfterHandle) -> None:
        raise RuntimeError("an async listener's own trouble")

    app.events.add(broken)
    app.events.add(broken_later)
    async with app:
        await app.queue().push(Quick())
        await app.worker().run(until_empty=True)
        assert await counts(app) == {}
    assert "a listener's own trouble" in caplog.text
    assert "an async listener's own trouble" in caplog.text


async def test_queue_length_is_told(make_app: MakeApp, record: Any) -> None:
    app = make_app(queue_length_seconds=0.1)
    seen = record(app)
    async with app:
        await app.queue().push(Wait())
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: seen.of(QueueLength))
        gate.set()
        await stop(worker, running)
    assert seen.of(QueueLength)[0].info.reserved == 1


class Flaky:
    """Wraps a driver's verbs so that they fail while told to."""

    def __init__(self, driver: Driver, *, after: bool) -> None:
        self.down = False
        self.calls = 0
        self._after = after
        for verb in ("pop", "ack", "retry", "fail", "info"):
            setattr(driver, verb, self._flaky(getattr(driver, verb)))

    def _flaky(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.down and not self._after:
                raise BackendUnavailable("the test took it down")
            result = await verb(*arguments)
            if self.down and verb.__name__ != "pop":
                raise BackendUnavailable("the test cut the answer off")
            return result

        return call


@pytest.mark.parametrize("after", [False, True], ids=["before-the-call", "after-the-call"])
async def test_a_lost_backend_is_waited_for_and_every_message_accounted_for(
    make_app: MakeApp, record: Any, after: bool
) -> None:
    app = make_app()
    seen = record(app)
    async with app:
        flaky = Flaky(await app.queue().driver(), after=after)
        await app.queue().push_many([Wait(number=n) for n in range(5)])
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: len(started) == 5)
        flaky.down = True
        gate.set()
        await until(lambda: seen.of(BackendLost))
        before = flaky.calls
        await asyncio.sleep(0.3)
        assert flaky.calls - before < 20
        flaky.down = False
        await until(lambda: seen.of(BackendBack))
        await app.queue().push(Quick(number=99))
        await until(lambda: 99 in started)
        await stop(worker, running)
        assert await counts(app) == {}
    assert len(seen.of(BackendLost)) == 1
    assert len(seen.of(AfterHandle)) == 6
    assert not seen.of(LeaseLost)


async def test_a_driver_that_answers_wrongly_is_asked_again(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    async with app:
        driver = await app.queue().driver()
        honest, lies = driver.ack, [0]

        async def ack(receipts: Sequence[Any]) -> Sequence[Any]:
            if not lies[0]:
                lies[0] += 1
                return ()
            return await honest(receipts)

        driver.ack = ack  # type: ignore[method-assign]
        await app.queue().push(Quick())
        await app.worker().run(until_empty=True)
        assert await counts(app) == {}
    assert lies == [1]


async def test_a_stale_delivery_writes_nothing_and_is_told(make_app: MakeApp, record: Any) -> None:
    app = make_app()
    seen = record(app)
    async with app:
        driver = await app.queue().driver()
        honest = driver.pop
        taken: list[Delivery] = []

        async def pop(limit: int, wait: float) -> Sequence[Delivery]:
            deliveries = await honest(limit, wait)
            if deliveries and not taken:
                # As if this worker had been stopped past its lease: another one settles it first.
                taken.extend(deliveries)
                await driver.retry([(each.receipt, each.message) for each in deliveries])
            return deliveries

        driver.pop = pop  # type: ignore[method-assign]
        await app.queue().push(Quick(number=1))
        await app.worker().run(until_empty=True)
        assert await counts(app) == {}
    assert started == [1, 1]
    assert len(seen.of(LeaseLost)) == 1


POISON = """
import os
import time
from pathlib import Path
from headrace import Job, current

if "HANG_IN_CHILD" in os.environ:
    time.sleep(3600)

class Poison(Job):
    folder: str
    async def handle(self):
        with Path(self.folder, "runs").open("a") as file:
            file.write(f"{os.getpid()}\\n")
        os.kill(os.getpid(), 9)

class Isolated(Job, max_retries=1, retry_seconds=0):
    folder: str
    fail: bool = False
    async def handle(self):
        Path(self.folder, "pid").write_text(f"{os.getpid()} {current().queue} {current().id}")
        if self.fail:
            raise ValueError("from the child")
"""


async def suspect(app: Headrace, job: Job, deaths: int) -> None:
    """Push a job as if it had ended its worker so often."""
    queue = app.queue()
    message = queue._message(job, 0.0)
    driver = await queue.driver()
    await driver.push([type(message)(id=message.id, name=message.name, body=message.body, deaths=deaths)])


@pytest.fixture
async def suspects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Headrace, Any]]:
    """An app with its configuration in a file, and a module of its own."""
    (tmp_path / "poisonous_jobs.py").write_text(POISON)
    (tmp_path / "headrace.toml").write_text('imports = ["poisonous_jobs"]\n[queues.default]\nmax_retries = 9\n')
    monkeypatch.setattr(sys, "path", [*sys.path])
    app = Headrace.load(tmp_path / "headrace.toml")
    app.load_jobs()
    yield app, sys.modules["poisonous_jobs"]
    del sys.modules["poisonous_jobs"]


async def test_a_suspect_runs_in_a_child_and_fails_with_its_exit_status(
    suspects: Any, record: Any, tmp_path: Path
) -> None:
    app, jobs = suspects
    seen = record(app)
    async with app:
        await suspect(app, jobs.Poison(folder=str(tmp_path)), deaths=3)
        await app.queue().push(Quick(number=1))
        await app.worker().run(until_empty=True)
        assert await counts(app) == {"failed": 1}
        (listed,) = await app.queue().list("failed")
    assert started == [1]
    assert len((tmp_path / "runs").read_text().split()) == 1
    (failure,) = seen.of(FailedHandle)
    assert isinstance(failure.error, WorkerDied)
    assert f"SIGKILL ({-signal.SIGKILL})" in listed.message.note.message


async def test_an_innocent_suspect_is_run_and_acked(suspects: Any, tmp_path: Path) -> None:
    app, jobs = suspects
    async with app:
        await suspect(app, jobs.Isolated(folder=str(tmp_path)), deaths=4)
        await app.worker().run(until_empty=True)
        assert await counts(app) == {}
    pid, queue, _ = (tmp_path / "pid").read_text().split()
    assert int(pid) != os.getpid()
    assert queue == "default"


async def test_a_suspect_that_raises_is_retried_as_usual(suspects: Any, tmp_path: Path) -> None:
    app, jobs = suspects
    async with app:
        await suspect(app, jobs.Isolated(folder=str(tmp_path), fail=True), deaths=3)
        await app.worker().run(until_empty=True)
        (listed,) = await app.queue().list("failed")
    assert listed.message.attempt == 1
    assert listed.message.note.type == "ValueError"
    assert "from the child" in listed.message.note.traceback


async def test_a_suspect_whose_child_never_gets_as_far_as_its_job_runs_in_the_worker(
    suspects: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, jobs = suspects
    monkeypatch.setenv("HANG_IN_CHILD", "1")
    monkeypatch.setattr("headrace.suspects.START_SECONDS", 0.5)
    async with app:
        await suspect(app, jobs.Isolated(folder=str(tmp_path)), deaths=3)
        async with asyncio.timeout(30):
            await app.worker().run(until_empty=True)
        assert await counts(app) == {}
    assert (tmp_path / "pid").read_text().split()[0] == str(os.getpid())
    assert "it had not got as far as the job within 0.5 s" in caplog.text


SLOW_CHILD = """\
#!/bin/sh
echo '{"kind": "started"}' >/dev/fd/$HEADRACE_SUSPECT_REPORTS
sleep 2
echo '{"kind": "done"}' >/dev/fd/$HEADRACE_SUSPECT_REPORTS
"""


async def test_a_suspect_that_has_started_may_run_for_longer_than_its_start_may_take(
    suspects: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, jobs = suspects
    (tmp_path / "child").write_text(SLOW_CHILD)
    (tmp_path / "child").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "child"))
    monkeypatch.setattr("headrace.suspects.START_SECONDS", 1.0)
    async with app:
        await suspect(app, jobs.Isolated(folder=str(tmp_path)), deaths=3)
        await app.worker().run(until_empty=True)
        assert await counts(app) == {}
    # The child has said that it was done, and the worker has not run it again.
    assert not (tmp_path / "pid").exists()


async def test_a_suspect_of_a_config_in_code_runs_with_nothing_else_in_flight(make_app: MakeApp) -> None:
    app = make_app(concurrent={"limit": 4})
    seen: list[int] = []

    class Watching(Job):
        async def handle(self) -> None:
            info = await app.queue().info()
            seen.append(info.reserved or 0)

    async with app:
        await app.queue().push_many([Quick(number=n) for n in range(20)])
        await suspect(app, Watching(), deaths=3)
        await app.queue().push_many([Quick(number=n) for n in range(20, 40)])
        await app.worker().run(until_empty=True)
        assert await counts(app) == {}
    assert seen == [1]
    assert sorted(started) == list(range(40))


async def test_a_message_that_died_too_often_is_not_run_any_more(make_app: MakeApp, record: Any) -> None:
    app = make_app()
    seen = record(app)
    async with app:
        await suspect(app, Quick(), deaths=7)
        await app.worker().run(until_empty=True)
        assert await counts(app) == {"failed": 1}
    assert started == []
    assert isinstance(seen.of(FailedHandle)[0].error, WorkerDied)


async def test_a_jumping_wall_clock_changes_nothing(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(lease_seconds=0.5)
    honest = time.time
    async with app:
        await app.queue().push(Quick(number=1), delay=3600)
        await app.queue().push(Wait())
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: started)
        for jump in (86_400, -86_400):
            monkeypatch.setattr(time, "time", lambda jump=jump: honest() + jump)
            await asyncio.sleep(0.4)
            assert started == [0]
            assert await counts(app) == {"reserved": 1, "delayed": 1}
        gate.set()
        await stop(worker, running)


async def test_delays_beyond_the_backends_longest_are_made_of_hops(make_app: MakeApp) -> None:
    app = make_app()
    backend = app.backend(app.config.backend)
    short = type(backend.capabilities)(
        **{name: getattr(backend.capabilities, name) for name in backend.capabilities.__slots__} | {"max_delay": 0.1}
    )
    async with app:
        type(backend).capabilities, honest = property(lambda self: short), type(backend).capabilities  # type: ignore
        try:
            began = time.monotonic()
            await app.queue().push(Quick(), delay=0.35)
            await app.worker().run(until_empty=True)
            assert time.monotonic() - began >= 0.35
            assert started == [0]
            assert await counts(app) == {}
        finally:
            type(backend).capabilities = honest  # type: ignore[method-assign]


async def test_an_app_not_entered_says_so(make_app: MakeApp) -> None:
    with pytest.raises(WrongContext, match="async with app"):
        await make_app().queue().push(Quick())


async def test_the_log_listener_tells_of_trouble_only(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "headrace")
    app = make_app(top={"listeners": ["log"]})

    class Troubled(Job, max_retries=1, retry_seconds=0):
        async def handle(self) -> None:
            raise ValueError("trouble")

    async with app:
        await app.queue().push(Quick())
        await app.queue().push(Troubled())
        await app.worker().run(until_empty=True)
    texts = [each.getMessage() for each in caplog.records if each.levelno > logging.INFO]
    assert len(texts) == 2
    assert "raised ValueError('trouble'); it runs again in 0 s" in texts[0]
    assert "failed and rests in 'failed'" in texts[1]


def test_a_script_that_the_config_imports_too_runs_its_own_jobs(tmp_path: Path) -> None:
    (tmp_path / "script_jobs.py").write_text(
        "import asyncio\nfrom headrace import Headrace, Job\n\n"
        "class Hello(Job):\n    name: str\n    async def handle(self):\n        print('hello', self.name)\n\n"
        "async def main():\n    async with Headrace.load() as app:\n        await Hello(name='you').push()\n"
        "        await app.worker().run(until_empty=True)\n\n"
        "if __name__ == '__main__':\n    asyncio.run(main())\n"
    )
    (tmp_path / "headrace.toml").write_text('imports = ["script_jobs"]\n')
    done = subprocess.run(
        [sys.executable, "script_jobs.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("hello you\n", 0), done.stderr
