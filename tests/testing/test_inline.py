"""Inline, each job runs where it is pushed."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from headrace import Drop, Headrace, Job, Retry, current, job
from headrace.errors import InvalidPayload, JobError
from headrace.testing import Fake, inline

ran: list[Any] = []

request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


@pytest.fixture(autouse=True)
def nothing_ran_yet() -> None:
    ran.clear()


class OnLoop(Job):
    text: str

    async def handle(self) -> None:
        await asyncio.sleep(0)
        ran.append(self.text)


class InPlace(Job):
    text: str

    def handle(self) -> None:
        ran.append((self.text, threading.current_thread()))


class FailsInline(Job, max_retries=2, retry_seconds=3600):
    kind: str = "plain"

    async def handle(self) -> None:
        ran.append(current().attempt)
        raise ValueError(self.kind)

    def failed(self, error: Exception) -> None:
        ran.append(f"failed with {error}")
        if self.kind == "twice":
            raise RuntimeError("again")


class FailsInPlace(FailsInline):
    def handle(self) -> None:  # type: ignore[override]
        ran.append(current().attempt)
        raise ValueError(self.kind)

    async def failed(self, error: Exception) -> None:  # type: ignore[override]
        ran.append(f"failed with {error}")


class SignalsInline(Job, max_retries=1):
    drop: bool

    async def handle(self) -> None:
        ran.append(current().attempt)
        raise Drop("enough") if self.drop else Retry(delay=60)


class OuterInline(Job):
    async def handle(self) -> None:
        ran.append("outer begins")
        await OnLoop(text="inner").push()
        ran.append("outer ends")


class NestedInPlace(Job):
    depth: int

    def handle(self) -> None:
        ran.append(self.depth)
        if self.depth:
            (NestedInPlace if self.depth % 2 else NestedOnLoop)(depth=self.depth - 1).push_sync()


class NestedOnLoop(Job):
    depth: int

    async def handle(self) -> None:
        ran.append(self.depth)
        if self.depth:
            await NestedInPlace(depth=self.depth - 1).push()


class LooksAtCurrent(Job, handle_timeout=30):
    def handle(self) -> None:
        run = current()
        before = run.deadline
        run.extend(100)
        assert before is not None
        assert run.deadline is not None
        ran.append((run.job, run.attempt, run.queue, dict(run.headers), run.state, run.deadline > before, run.id))


class SeesContext(Job):
    async def handle(self) -> None:
        ran.append(request.get())
        request.set("of the handler")


@job
def twice_as_much(number: int) -> None:
    ran.append(2 * number)


async def test_a_push_returns_when_its_async_handler_has_run(headrace_inline: Fake) -> None:
    identifier = await OnLoop(text="now").push(delay=3600)
    assert ran == ["now"]
    (pushed,) = headrace_inline.assert_pushed(OnLoop, delay=3600)
    assert pushed.id == identifier


async def test_a_push_on_a_loop_runs_a_plain_handler_in_a_thread(headrace_inline: Fake) -> None:
    await InPlace(text="beside").push()
    ((text, thread),) = ran
    assert text == "beside"
    assert thread is not threading.current_thread()


def test_a_blocking_push_runs_a_plain_handler_in_the_pushers_own_thread(headrace_inline: Fake) -> None:
    InPlace(text="here").push_sync()
    twice_as_much.push_sync(21)
    assert ran == [("here", threading.current_thread()), 42]


def test_a_blocking_push_runs_an_async_handler_too(headrace_inline: Fake) -> None:
    OnLoop(text="on a loop of its own").push_sync()
    assert ran == ["on a loop of its own"]


async def test_a_handler_may_push_and_finds_it_done(headrace_inline: Fake) -> None:
    await OuterInline().push()
    assert ran == ["outer begins", "inner", "outer ends"]


@pytest.mark.parametrize("first", [NestedOnLoop, NestedInPlace])
def test_plain_and_async_handlers_may_push_one_another_however_deep(
    headrace_inline: Fake, first: type[NestedOnLoop | NestedInPlace]
) -> None:
    first(depth=6).push_sync()
    assert ran == [6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("kind", [FailsInline, FailsInPlace])
async def test_the_error_reaches_the_pusher_when_the_retries_are_used_up(
    headrace_inline: Fake, kind: type[FailsInline]
) -> None:
    with pytest.raises(ValueError, match="plain") as caught:
        await kind().push()
    assert ran == [0, 1, 2, "failed with plain"]
    assert caught.value.__notes__ == [f"raised by the job {kind.__name__}, whose retries are used up"]


@pytest.mark.parametrize("kind", [FailsInline, FailsInPlace])
def test_the_error_reaches_a_blocking_pusher_likewise(headrace_inline: Fake, kind: type[FailsInline]) -> None:
    with pytest.raises(ValueError, match="plain"):
        kind().push_sync(max_retries=1)
    assert ran == [0, 1, "failed with plain"]


async def test_what_failed_raises_is_noted_on_the_error(headrace_inline: Fake) -> None:
    with pytest.raises(ValueError, match="twice") as caught:
        await FailsInline(kind="twice").push()
    assert "and then its failed() raised RuntimeError('again')" in caught.value.__notes__


async def test_drop_ends_a_job_quietly_and_retry_spends_a_retry(headrace_inline: Fake) -> None:
    await SignalsInline(drop=True).push()
    assert ran == [0]
    with pytest.raises(JobError, match="SignalsInline failed with Retry"):
        await SignalsInline(drop=False).push()
    assert ran == [0, 0, 1]


async def test_of_several_jobs_all_run_before_the_first_error_is_raised(headrace_inline: Fake) -> None:
    app = Headrace({"listeners": []})
    with pytest.raises(ValueError, match="one") as caught:
        await app.queue().push_many([FailsInline(kind="one"), OnLoop(text="two"), FailsInline(kind="three")])
    assert [each for each in ran if not isinstance(each, int)] == ["failed with one", "two", "failed with three"]
    assert "besides, FailsInline failed with ValueError('three')" in caught.value.__notes__


async def test_nothing_is_left_in_the_queue(headrace_inline: Fake) -> None:
    app = Headrace({"listeners": []})
    with pytest.raises(ValueError, match="plain"):
        await app.queue().push_many([OnLoop(text="one"), FailsInline()])
    info = await app.queue().info()
    assert (info.waiting, info.reserved, info.delayed, info.failed) == (0, 0, 0, 0)
    assert len(await headrace_inline.run()) == 0


async def test_arguments_take_the_way_over_the_wire(headrace_inline: Fake) -> None:
    with pytest.raises(InvalidPayload, match="text"):
        await OnLoop(text=1).push()  # type: ignore[arg-type]
    assert not ran


def test_current_tells_of_the_run() -> None:
    with inline({"listeners": []}, state="the state"):
        identifier = LooksAtCurrent().push_sync(headers={"trace": "7"}, max_retries=1)
    assert ran == [(LooksAtCurrent(), 0, "default", {"trace": "7"}, "the state", True, identifier)]


async def test_a_handler_sees_the_pushers_context_and_cannot_change_it(headrace_inline: Fake) -> None:
    request.set("of the pusher")
    await SeesContext().push()
    assert (ran, request.get()) == (["of the pusher"], "of the pusher")


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("blocking", [True, False])
async def test_middleware_surrounds_each_run_unless_it_is_off(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, on: bool, blocking: bool
) -> None:
    (tmp_path / "layers.py").write_text(
        "seen = []\n"
        "async def outer(run, call_next):\n"
        "    seen.append('outer')\n"
        "    await call_next()\n"
        "def inner(run, call_next):\n"
        "    seen.append('inner')\n"
        "    call_next()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "layers", raising=False)
    for names in (["layers:outer", "layers:inner"], ["layers:inner"]):
        app = Headrace({"listeners": [], "middleware": names})
        with inline(middleware=on):
            if blocking:
                await asyncio.to_thread(app.queue().push_sync, InPlace(text="a"))
            else:
                await app.queue().push(InPlace(text="a"))
    import layers  # type: ignore[import-not-found] # written above

    assert layers.seen == (["outer", "inner", "inner"] if on else [])


async def test_cancelling_the_pusher_cancels_the_handler(headrace_inline: Fake) -> None:
    class WaitsInline(Job, max_retries=3):
        async def handle(self) -> None:
            ran.append("begun")
            try:
                await asyncio.Event().wait()
            finally:
                ran.append("ended")

    pusher = asyncio.create_task(WaitsInline().push())
    while not ran:
        await asyncio.sleep(0)
    pusher.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pusher
    assert ran == ["begun", "ended"]
