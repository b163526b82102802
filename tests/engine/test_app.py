"""Opening and closing what an app uses."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, Job, listen
from headrace.errors import BackendError, BackendUnavailable, WrongContext
from headrace.events import JobPushed

from .conftest import MakeApp


class Memo(Job):
    what: str = ""

    async def handle(self) -> None: ...


def two_backends(tmp_path: Path) -> Headrace:
    """An app whose queues `a` and `b` are on backends of their own."""
    kinds = {name: {"plugin": "sqlite", "path": str(tmp_path / f"{name}.db")} for name in ("first", "second")}
    queues = {"a": {"backend": "first"}, "b": {"backend": "second"}}
    return Headrace({"backends": kinds, "queues": queues, "listeners": []})


def failing(error: BaseException, calls: list[str], then: Callable[[], Any] | None = None) -> Callable[..., Any]:
    async def fail(*arguments: Any) -> None:
        calls.append(type(error).__name__)
        if then is not None:
            await then()
        raise error

    return fail


async def test_a_backend_that_does_not_close_keeps_no_other_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = two_backends(tmp_path)
    calls: list[str] = []

    async def use_both() -> None:
        async with app:
            await app.queue("a").push(Memo())
            await app.queue("b").push(Memo())
            first, second = await app.opened("first"), await app.opened("second")
            monkeypatch.setattr(first, "close", failing(BackendError("stuck"), calls, first.close))
            monkeypatch.setattr(second, "close", failing(BackendError("stuck too"), calls, second.close))

    with pytest.raises(BackendError, match=r"stuck$"):
        await use_both()
    assert calls == ["BackendError", "BackendError"]
    async with app:
        assert (await app.queue("a").info()).waiting == 1


async def test_listeners_end_before_the_backends_close_and_may_push(make_app: MakeApp) -> None:
    app = make_app()
    pushed: list[str] = []

    @listen(JobPushed)
    async def again(event: JobPushed) -> None:
        await asyncio.sleep(0.05)
        if not pushed:
            pushed.append(await Memo(what="by a listener").push())

    async with app:
        app.events.add(again)
        await app.queue().push(Memo())
    assert len(pushed) == 1
    with pytest.raises(WrongContext, match="not entered"):
        await app.queue().push(Memo())


async def test_what_was_half_open_is_closed_and_can_be_opened_again(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    kind = type(app.backend(app.config.backend))
    calls: list[str] = []
    honest = kind.close

    async def close(self: Any) -> None:
        calls.append("close")
        await honest(self)
        raise BackendError("of no interest")

    async with app:
        with monkeypatch.context() as patch:
            patch.setattr(kind, "close", close)
            patch.setattr(kind, "open", failing(BackendUnavailable("not yet"), calls))
            with pytest.raises(BackendUnavailable, match="not yet"):
                await app.queue().push(Memo())
            assert calls == ["BackendUnavailable", "close"]
        await app.queue().push(Memo())


async def test_an_open_that_is_cancelled_leaves_nothing_open(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(push_timeout=0.05)
    kind = type(app.backend(app.config.backend))
    calls: list[str] = []
    honest = kind.close

    async def close(self: Any) -> None:
        calls.append("close")
        await honest(self)

    async def hang(self: Any) -> None:
        await asyncio.sleep(60)

    async with app:
        monkeypatch.setattr(kind, "close", close)
        monkeypatch.setattr(kind, "open", hang)
        with pytest.raises(BackendUnavailable, match=r"no answer within 0.05 s"):
            await app.queue().push(Memo())
        assert calls == []
    assert calls == ["close"]
