"""What becomes of a message, by how its handler ends."""

import asyncio
import contextlib
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from headrace import Drop, Headrace, Job, Retry, consumer, current, job
from headrace.driver import Message
from headrace.errors import JobTimeout, UnknownJob
from headrace.events import AfterHandle, BeforeHandle, FailedHandle, JobPushed, RetryHandle, TimeoutHandle
from headrace.ids import new_id

from .conftest import MakeApp, counts

ran: list[Any] = []


@pytest.fixture(autouse=True)
def fresh_record() -> None:
    ran.clear()


class Note(Job):
    what: str

    async def handle(self) -> None:
        ran.append(self.what)


class NoteInThread(Job):
    what: str

    def handle(self) -> None:
        ran.append((self.what, threading.current_thread() is threading.main_thread()))


class Stubborn(Job, max_retries=2, retry_seconds=[0.01, 0.02]):
    async def handle(self) -> None:
        ran.append(current().attempt)
        raise ValueError("never")

    async def failed(self, error: Exception) -> None:
        ran.append(("failed", error))


class Recovering(Job, max_retries=5, retry_seconds=0):
    async def handle(self) -> None:
        ran.append(current().attempt)
        if current().attempt < 2:
            raise ValueError("not yet")


class AskingAgain(Job, max_retries=1):
    async def handle(self) -> None:
        ran.append(current().attempt)
        raise Retry(delay=timedelta(milliseconds=10))


class Dropping(Job):
    async def handle(self) -> None:
        raise Drop("not needed")


class Raising(Job):
    kind: str
    in_thread: bool = False

    async def handle(self) -> None:
        match self.kind:
            case "exit":
                sys.exit(3)
            case "interrupt":
                raise KeyboardInterrupt
            case "base":
                raise BaseException("of the base kind")
            case "cancelled":
                raise asyncio.CancelledError
            case "generator":
                raise GeneratorExit


class RaisingInThread(Job):
    kind: str

    def handle(self) -> None:
        match self.kind:
            case "exit":
                sys.exit(3)
            case "stop":
                raise StopIteration
            case "cancelled":
                raise asyncio.CancelledError


class Slow(Job, handle_timeout=0.05):
    then_raise: bool = False

    async def handle(self) -> None:
        await asyncio.sleep(0.15)
        ran.append("ended")
        if self.then_raise:
            raise ValueError("late")


class SlowInThread(Job, handle_timeout=0.05):
    def handle(self) -> None:
        time.sleep(0.15)
        ran.append("ended")


class SlowCancelled(Job, handle_timeout=0.05, on_timeout="cancel", max_retries=1, retry_seconds=0):
    async def handle(self) -> None:
        ran.append(current().attempt)
        await asyncio.sleep(10)


class DeafToCancel(Job, handle_timeout=0.05, on_timeout="cancel"):
    async def handle(self) -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ran.append("heard")


class DeafForLong(Job, handle_timeout=0.05, on_timeout="cancel"):
    async def handle(self) -> None:
        while "enough" not in ran:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)


class AnswersToAnyName(Exception):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __getattr__(self, name: str) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class RaisesWhatAnswers(Job):
    wrongly: bool

    async def handle(self) -> None:
        raise AnswersToAnyName(KeyError("no such thing") if self.wrongly else print)


class RaisesInTime(Job, handle_timeout=5, max_retries=1, retry_seconds=0):
    async def handle(self) -> None:
        ran.append(current().attempt)
        raise ValueError("in time")


class Extending(Job, handle_timeout=0.05):
    async def handle(self) -> None:
        current().extend(5)
        await asyncio.sleep(0.12)
        ran.append("ended")


@job(max_retries=1, retry_seconds=0)
async def add(left: int, right: int = 1) -> int:
    ran.append(left + right)
    return left + right


@job
def shout(text: str, /, *, times: int = 1) -> None:
    ran.append(text.upper() * times)


async def drain(app: Headrace, **options: Any) -> int:
    return await app.worker(**options).run(until_empty=True)


async def test_a_job_runs_once_and_leaves_nothing(make_app: MakeApp, record: Any) -> None:
    app = make_app()
    seen = record(app)
    async with app:
        pushed = await app.queue().push(Note(what="tea"))
        assert await drain(app) == 1
        assert ran == ["tea"]
        assert await counts(app) == {}
    assert seen.names() == ["JobPushed", "WorkerStarted", "BeforeHandle", "AfterHandle", "WorkerStopped"]
    assert seen.of(JobPushed)[0].message.id == pushed == seen.of(AfterHandle)[0].message.id
    assert seen.of(BeforeHandle)[0].job == Note(what="tea")
    assert seen.events[-1].handled == 1


async def test_a_sync_handler_runs_in_a_thread(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        await app.queue().push(NoteInThread(what="tea"))
        await drain(app)
    assert ran == [("tea", False)]


async def test_functions_are_jobs_and_stay_functions(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        await add.push(1, right=5)
        await add.push(2)
        await app.queue().push(shout.job("hey", times=2))
        await drain(app)
    assert sorted(ran, key=str) == [3, 6, "HEYHEY"]
    assert await add(3, 4) == 7
    shout("ho")
    assert ran[-1] == "HO"


async def test_n_retries_are_n_plus_one_runs_and_then_failed_with_a_note(make_app: MakeApp, record: Any) -> None:
    app = make_app()
    seen = record(app)
    async with app:
        pushed = await app.queue().push(Stubborn())
        await drain(app)
        assert ran[:3] == [0, 1, 2]
        assert [each.message.delay for each in seen.of(RetryHandle)] == [0.01, 0.02]
        (listed,) = await app.queue().list("failed")
    assert listed.message.id == pushed
    note = listed.message.note
    assert note is not None
    assert (note.type, note.message) == ("ValueError", "never")
    assert "in handle" in note.traceback
    assert time.time() - 60 < note.time <= time.time()
    kind, error = ran[3]
    assert kind == "failed"
    assert isinstance(error, ValueError)
    assert len(ran) == 4
    (failure,) = seen.of(FailedHandle)
    assert failure.error is error
    assert not failure.late


async def test_a_job_that_recovers_is_done(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        await app.queue().push(Recovering())
        await drain(app)
        assert await counts(app) == {}
    assert ran == [0, 1, 2]


async def test_asking_for_another_run_spends_a_retry(make_app: MakeApp, record: Any) -> None:
    app = make_app()
    seen = record(app)
    async with app:
        await app.queue().push(AskingAgain())
        await drain(app)
        assert await counts(app) == {"failed": 1}
    assert ran == [0, 1]
    (again,) = seen.of(RetryHandle)
    assert again.error is None
    assert again.message.delay == 0.01


async def test_a_dropped_job_ends_without_failure(make_app: MakeApp, record: Any) -> None:
    app = make_app()
    seen = record(app)
    async with app:
        await app.queue().push(Dropping())
        await drain(app)
        assert await counts(app) == {}
    assert seen.of(AfterHandle)[0].dropped == "not needed"
    assert not seen.of(FailedHandle)


@pytest.mark.parametrize("kind", ["exit", "interrupt", "base", "cancelled", "generator"])
async def test_whatever_an_async_handler_raises_fails_its_job_only(make_app: MakeApp, kind: str) -> None:
    app = make_app()
    async with app:
        await app.queue().push(Raising(kind=kind))
        await app.queue().push(Note(what="after"))
        assert await drain(app, concurrency=1) == 2
        assert await counts(app) == {"failed": 1}
    assert ran == ["after"]


@pytest.mark.parametrize("kind", ["exit", "stop", "cancelled"])
async def test_whatever_a_sync_handler_raises_fails_its_job_only(make_app: MakeApp, kind: str) -> None:
    app = make_app()
    async with app:
        await app.queue().push(RaisingInThread(kind=kind))
        await app.queue().push(Note(what="after"))
        assert await drain(app, concurrency=1) == 2
        assert await counts(app) == {"failed": 1}
    assert ran == ["after"]


@pytest.mark.parametrize("slow", [Slow(), SlowInThread()])
async def test_a_timeout_moves_the_message_and_lets_the_handler_end(make_app: MakeApp, record: Any, slow: Job) -> None:
    app = make_app(max_retries=3)
    seen = record(app)
    async with app:
        await app.queue().push(slow)
        await drain(app)
        assert await counts(app) == {"timeout": 1}
        (listed,) = await app.queue().list("timeout")
    assert ran == ["ended"]
    assert listed.message.note is not None
    assert listed.message.note.type == "headrace.errors.JobTimeout"
    # A timeout is told when its move is confirmed, which a slow disk may do after the handler's end.
    assert {type(each).__name__ for each in seen.of(TimeoutHandle, AfterHandle)} == {"TimeoutHandle", "AfterHandle"}
    assert seen.of(AfterHandle)[0].late
    assert seen.of(TimeoutHandle)[0].seconds >= 0.05


async def test_an_exception_after_the_timeout_is_told_and_not_retried(make_app: MakeApp, record: Any) -> None:
    app = make_app(max_retries=3)
    seen = record(app)
    async with app:
        await app.queue().push(Slow(then_raise=True))
        await drain(app)
        assert await counts(app) == {"timeout": 1}
    assert seen.of(FailedHandle)[0].late
    assert not seen.of(RetryHandle)


async def test_a_cancelled_handler_counts_as_failed(make_app: MakeApp, record: Any) -> None:
    app = make_app()
    seen = record(app)
    async with app:
        await app.queue().push(SlowCancelled())
        await drain(app)
        assert await counts(app) == {"failed": 1}
    assert ran == [0, 1]
    assert isinstance(seen.of(FailedHandle)[0].error, JobTimeout)
    assert isinstance(seen.of(RetryHandle)[0].error, JobTimeout)


async def test_a_handler_that_swallows_its_cancellation_has_failed_all_the_same(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        await app.queue().push(DeafToCancel())
        await drain(app)
        assert await counts(app) == {"failed": 1}
    assert ran == ["heard"]


async def test_the_message_of_a_handler_that_ignores_its_cancellation_goes_on_without_it(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, record: Any
) -> None:
    monkeypatch.setattr(consumer, "_CANCEL_SECONDS", 0.1)
    app = make_app(concurrent={"limit": 2})
    seen = record(app)
    async with app:
        await app.queue().push(DeafForLong())
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(10):
            while not seen.of(FailedHandle):
                await asyncio.sleep(0.01)
        assert await counts(app) == {"failed": 1}
        assert isinstance(seen.of(FailedHandle)[0].error, JobTimeout)
        ran.append("enough")
        worker.stop()
        await running
        assert await counts(app) == {"failed": 1}
    failed, after = seen.of(FailedHandle, AfterHandle)
    assert not failed.late
    assert after.late


async def test_a_worker_all_of_whose_slots_ignore_their_cancellation_ends(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "_CANCEL_SECONDS", 0.1)
    app = make_app(concurrent={"limit": 2}, shutdown_timeout=0.1)
    async with app:
        await app.queue().push_many([DeafForLong(), DeafForLong()])
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(10):
            while not worker.overrun:
                await asyncio.sleep(0.01)
        ran.append("enough")
        await running
        assert await counts(app) == {"failed": 2}


@pytest.mark.parametrize("wrongly", [False, True])
async def test_an_exception_that_answers_to_any_name_fails_its_job_as_any_other(
    make_app: MakeApp, wrongly: bool
) -> None:
    app = make_app()
    async with app:
        await app.queue().push(RaisesWhatAnswers(wrongly=wrongly))
        await drain(app)
        (listed,) = await app.queue().list("failed")
    assert listed.message.note is not None
    assert listed.message.note.type.endswith("AnswersToAnyName")


async def test_a_handler_that_raises_before_its_deadline_is_retried_as_usual(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        await app.queue().push(RaisesInTime())
        await drain(app)
        assert await counts(app) == {"failed": 1}
    assert ran == [0, 1]


async def test_extending_moves_the_deadline(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        await app.queue().push(Extending())
        await drain(app)
        assert await counts(app) == {}
    assert ran == ["ended"]


async def test_what_a_push_says_wins_over_job_and_queue(make_app: MakeApp, record: Any) -> None:
    app = make_app(max_retries=7)
    seen = record(app)
    async with app:
        await app.queue().push(Stubborn(), max_retries=1, retry_seconds=0.03, headers={"tenant": "7"})
        await drain(app)
        (listed,) = await app.queue().list("failed")
    assert ran[:2] == [0, 1]
    assert [each.message.delay for each in seen.of(RetryHandle)] == [0.03]
    assert listed.message.headers["tenant"] == "7"


async def test_bytes_that_are_no_job_fail_at_once_with_the_reason(make_app: MakeApp) -> None:
    app = make_app(max_retries=5)
    async with app:
        driver = await app.queue().driver()
        bodies = [b"\xff\x00garbage", b"", b"[1]", b'{"what": 5}', b"{}", b'{"what": "x"', b"[" * 100_000]
        await driver.push([Message(id=new_id(), name="Note", body=body) for body in bodies])
        await app.queue().push(Note(what="good"))
        await drain(app)
        failed = await app.queue().list("failed")
        assert await counts(app) == {"failed": len(bodies)}
    assert ran == ["good"]
    assert {each.message.body for each in failed} == set(bodies)
    wrong = next(each.message.note for each in failed if each.message.body == b'{"what": 5}')
    assert wrong is not None
    assert wrong.message == "Note: Expected `str`, got `int` - at `$.what`"


async def test_what_a_backend_cannot_read_names_no_job_and_fails_at_once(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        await (await app.queue().driver()).push([Message(id="damaged", name="", body=b"what is left of it")])
        await app.queue().push(Note(what="good"))
        await drain(app)
        (failed,) = await app.queue().list("failed")
    assert ran == ["good"]
    assert failed.message.body == b"what is left of it"
    assert failed.message.note is not None
    assert "damaged" in failed.message.note.message


async def test_unknown_jobs_and_fields_are_handed_on_and_then_fail(make_app: MakeApp, record: Any) -> None:
    app = make_app(unknown_job_seconds=0.05)
    seen = record(app)
    async with app:
        driver = await app.queue().driver()
        newer = Message(id=new_id(), name="Note", body=b'{"what":"x","colour":"red"}')
        await driver.push([Message(id=new_id(), name="OfNextWeek", body=b"{}"), newer])
        await drain(app)
        failed = await app.queue().list("failed")
        assert await counts(app) == {"failed": 2}
    assert ran == []
    assert {each.message.note.type for each in failed if each.message.note} == {"headrace.errors.UnknownJob"}
    assert all(isinstance(each.error, UnknownJob) for each in seen.of(RetryHandle))
    assert len(seen.of(RetryHandle)) == 2
    assert {each.message.attempt for each in failed} == {0}


async def test_reloaded_messages_run_as_if_new(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        await app.queue().push(Stubborn())
        await app.queue().push(DeafToCancel())
        await drain(app)
        assert await counts(app) == {"failed": 2}
        assert await app.queue().reload("failed", job="Stubborn") == 1
        (waiting,) = await app.queue().list("waiting")
        assert (waiting.message.attempt, waiting.message.note) == (0, None)
        assert await app.queue().flush("failed") == 1
        ran.clear()
        await drain(app)
    assert ran[:3] == [0, 1, 2]
