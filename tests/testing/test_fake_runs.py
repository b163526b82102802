"""What a fake has recorded can be run, as the engine would run it."""

import asyncio
import threading
from typing import Any

import pytest

from headrace import Drop, Headrace, Job, Retry, current, job
from headrace.errors import ConfigError, JobError
from headrace.testing import Fake, fake

ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran_yet() -> None:
    ran.clear()


class Jot(Job):
    text: str

    async def handle(self) -> None:
        ran.append(self.text)


class JotInThread(Job, queue="images"):
    text: str

    def handle(self) -> None:
        assert threading.current_thread() is not threading.main_thread()
        ran.append(self.text)


class Domino(Job):
    length: int

    async def handle(self) -> None:
        ran.append(self.length)
        if self.length:
            await Domino(length=self.length - 1).push(delay=3600)


class DominoInThread(Job):
    length: int

    def handle(self) -> None:
        ran.append(self.length)
        if self.length:
            DominoInThread(length=self.length - 1).push_sync()


class FailsAtFirst(Job, max_retries=2):
    fails: int

    async def handle(self) -> None:
        ran.append(current().attempt)
        if current().attempt < self.fails:
            raise ValueError(f"attempt {current().attempt}")

    async def failed(self, error: Exception) -> None:
        await Jot(text=f"failed: {error}").push()


class AsksAgain(Job, max_retries=1):
    async def handle(self) -> None:
        raise Retry(delay=5)


class DropsItself(Job):
    async def handle(self) -> None:
        raise Drop("no longer wanted")


class PushesItself(Job):
    async def handle(self) -> None:
        await PushesItself().push()


class ExitsTheProcess(Job):
    async def handle(self) -> None:
        raise SystemExit(3)


class TakesTooLong(Job, handle_timeout=0.05):
    async def handle(self) -> None:
        await asyncio.sleep(0.2)


@job
async def exclaim(text: str) -> None:
    ran.append(text.upper())


async def test_everything_that_was_pushed_is_run_oldest_first_once(headrace_fake: Fake) -> None:
    await Jot(text="first").push()
    await exclaim.push("second")
    await Jot(text="third").push()
    results = await headrace_fake.run()
    assert ran == ["first", "SECOND", "third"]
    assert [each.outcome for each in results] == ["done"] * 3
    assert [each.name for each in results] == ["Jot", "exclaim", "Jot"]
    assert len(await headrace_fake.run()) == 0


async def test_delayed_jobs_run_in_the_order_in_which_they_fall_due_without_waiting(headrace_fake: Fake) -> None:
    await Jot(text="in a day").push(delay=86400)
    await Jot(text="in an hour").push(delay=3600)
    await Jot(text="now").push()
    await headrace_fake.run()
    assert ran == ["now", "in an hour", "in a day"]


def test_without_an_event_loop_it_runs_just_so(headrace_fake: Fake) -> None:
    Jot(text="on a loop").push_sync()
    JotInThread(text="in a thread").push_sync()
    results = headrace_fake.run_sync()
    assert ran == ["on a loop", "in a thread"]
    assert {each.queue for each in results.done} == {"default", "images"}


async def test_what_jobs_push_is_recorded_and_run_too(headrace_fake: Fake) -> None:
    await Domino(length=2).push()
    await DominoInThread(length=2).push()
    await headrace_fake.run()
    assert sorted(ran) == [0, 0, 1, 1, 2, 2]
    headrace_fake.assert_pushed(Domino, times=3)
    headrace_fake.assert_pushed(Domino, delay=3600, times=2)
    headrace_fake.assert_pushed(DominoInThread, times=3)


async def test_a_failure_is_retried_and_every_run_is_told(headrace_fake: Fake) -> None:
    identifier = await FailsAtFirst(fails=2).push()
    results = await headrace_fake.run()
    assert ran == [0, 1, 2]
    assert [(each.id, each.attempt, each.outcome) for each in results] == [
        (identifier, 0, "retried"),
        (identifier, 1, "retried"),
        (identifier, 2, "done"),
    ]
    assert [repr(each.error) for each in results.retried] == ["ValueError('attempt 0')", "ValueError('attempt 1')"]


async def test_the_error_of_a_job_that_failed_for_good_is_raised_once_all_have_run(headrace_fake: Fake) -> None:
    await FailsAtFirst(fails=9).push()
    await FailsAtFirst(fails=8).push(delay=86400)
    await Jot(text="after").push()
    with pytest.raises(ValueError, match="attempt 2") as caught:
        await headrace_fake.run()
    assert ran == [0, "after", 1, 2, "failed: attempt 2", 0, 1, 2, "failed: attempt 2"]
    assert caught.value.__notes__ == [
        "raised by the job FailsAtFirst, whose retries are used up",
        "besides, FailsAtFirst failed with ValueError('attempt 2')",
    ]


async def test_what_is_no_exception_is_told_as_a_job_error(headrace_fake: Fake) -> None:
    await ExitsTheProcess().push()
    with pytest.raises(JobError, match=r"ExitsTheProcess failed with SystemExit\(3\)"):
        await headrace_fake.run()


async def test_failures_may_be_looked_at_instead(headrace_fake: Fake) -> None:
    await FailsAtFirst(fails=9).push()
    await AsksAgain().push()
    await DropsItself().push()
    results = await headrace_fake.run(raise_errors=False)
    assert [each.name for each in results.failed] == ["AsksAgain", "FailsAtFirst"]
    assert [each.reason for each in results.dropped] == ["no longer wanted"]
    assert "FailsAtFirst(fails=9), run 3: failed: ValueError('attempt 2')" in str(results)
    with pytest.raises(JobError, match="AsksAgain failed with Retry"):
        results.raise_errors()


async def test_a_handler_past_its_timeout_is_told_as_such_and_raises_nothing(headrace_fake: Fake) -> None:
    await TakesTooLong().push()
    results = await headrace_fake.run()
    assert [each.outcome for each in results] == ["timeout"]
    assert results.timed_out[0].job == TakesTooLong()


async def test_jobs_that_push_themselves_for_ever_are_stopped(headrace_fake: Fake) -> None:
    await PushesItself().push()
    with pytest.raises(AssertionError, match=r"20 runs(.|\n)*it goes on"):
        await headrace_fake.run(limit=20)


async def test_a_configuration_that_no_worker_would_start_with_is_refused(headrace_fake: Fake) -> None:
    app = Headrace({"listeners": [], "middleware": ["nowhere:function"]})
    await app.queue().push(Jot(text="never"))
    with pytest.raises(ConfigError, match="nowhere"):
        await headrace_fake.run()
    assert not ran


async def test_middleware_and_lifespan_surround_what_is_run(
    headrace_fake: Fake, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "surroundings.py").write_text(
        "import contextlib\n"
        "seen = []\n"
        "@contextlib.asynccontextmanager\n"
        "async def lifespan():\n"
        "    yield 'state'\n"
        "async def middleware(run, call_next):\n"
        "    seen.append((run.state, run.id))\n"
        "    await call_next()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    app = Headrace({"listeners": [], "middleware": ["surroundings:middleware"], "lifespan": "surroundings:lifespan"})
    identifier = await app.queue().push(Jot(text="inside"))
    await headrace_fake.run()
    import surroundings  # type: ignore[import-not-found] # written above

    assert surroundings.seen == [("state", identifier)]
    assert ran == ["inside"]


async def test_jobs_of_several_apps_are_run_each_as_its_app_is_configured(headrace_fake: Fake) -> None:
    patient = Headrace({"listeners": [], "queues": {"default": {"max_retries": 3}}})
    await patient.queue().push(ExitsTheProcess())
    await ExitsTheProcess().push()
    results = await headrace_fake.run(raise_errors=False)
    assert len(results.retried) == 3
    assert len(results.failed) == 2


async def test_what_was_recorded_can_be_run_after_the_fake() -> None:
    with fake({"listeners": []}) as jobs:
        await Domino(length=1).push()
    await jobs.run()
    assert ran == [1, 0]
