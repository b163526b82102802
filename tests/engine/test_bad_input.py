"""What is wrong is refused in clear words, before anything is sent."""

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, Job, job
from headrace.config import Backoff
from headrace.driver import Capabilities, Message, Page
from headrace.errors import (
    BackendError,
    BackendUnavailable,
    CapabilityError,
    ConfigError,
    InvalidPayload,
    JobError,
    MessageTooLarge,
    PushFailed,
    UnknownBackend,
    UnknownQueue,
)
from headrace.ids import new_id
from headrace.queue import OPTIONS_HEADER

from .conftest import MakeApp, counts


class Simple(Job):
    text: str = ""

    async def handle(self) -> None: ...


class OnePerText(Job, unique="text"):
    text: str

    async def handle(self) -> None: ...


class Nowhere(Job, queue="nowhere"):
    async def handle(self) -> None: ...


class SyncCancelled(Job, queue="strict", on_timeout="cancel"):
    def handle(self) -> None: ...


@job
async def function(text: str) -> None: ...


def limit(app: Headrace, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    """Let the app's backend declare other capabilities."""
    backend = app.backend(app.config.backend)
    less: Capabilities = dataclasses.replace(backend.capabilities, **changed)
    monkeypatch.setattr(type(backend), "capabilities", property(lambda self: less))


async def test_unknown_queues_and_channels_name_what_there_is(make_app: MakeApp) -> None:
    app = make_app()
    async with app:
        with pytest.raises(UnknownQueue, match="default"):
            app.queue("defalt")
        with pytest.raises(UnknownQueue, match="nowhere"):
            await Nowhere().push()
        with pytest.raises(ConfigError, match=r"no channel 'fialed'.*failed, timeout"):
            await app.queue().reload("fialed")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="no channel 'reserved'"):
            await app.queue().flush("reserved")


async def test_an_unknown_backend_is_named_when_it_is_needed() -> None:
    app = Headrace({"backend": "sqllite"})
    async with app:
        with pytest.raises(UnknownBackend, match="sqlite"):
            await app.queue().push(Simple())


@pytest.mark.parametrize("wrong", ["Simple", Simple, function, None])
async def test_what_is_no_job_is_refused(make_app: MakeApp, wrong: Any) -> None:
    async with make_app() as app:
        with pytest.raises(JobError, match="push takes a job"):
            await app.queue().push(wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": "5"}, "delay is '5'"),
        ({"delay": True}, "delay is True"),
        ({"delay": -1}, "cannot be negative"),
        ({"delay": float("nan")}, "delay is nan"),
        ({"delay": float("inf")}, "delay is inf"),
        ({"delay": datetime(2030, 1, 1)}, "naive"),  # noqa: DTZ001 - what is refused
        ({"delay": 10**400}, "delay is a number of hundreds of digits; it must be seconds, a timedelta or"),
        ({"delay": -(10**5000)}, "delay is a number of hundreds of digits"),
        ({"id": ""}, "id is ''"),
        ({"id": 5}, "id is 5"),
        ({"id": "a\ud800"}, r"id is 'a\\ud800'; it cannot be stored as text, for '\\ud800' at 1 is half a"),
        ({"headers": {"a": 5}}, "must be strings"),
        ({"headers": {"headrace-options": "{}"}}, "headrace's own"),
        ({"headers": [("a", "b")]}, "headers is a list; it must be a mapping of strings to strings"),
        ({"headers": "ab"}, "headers is a str; it must be a mapping"),
        ({"headers": {"\ud800": "a"}}, r"the name of a header is '\\ud800'; it cannot be stored as text"),
        ({"headers": {"a": "\udfff"}}, r"the header 'a' is '\\udfff'; it cannot be stored as text"),
        ({"unique": 5}, "unique is 5"),
        ({"unique": "\ud800"}, r"unique is '\\ud800'; it cannot be stored as text"),
        ({"on_duplicate": "keep"}, "on_duplicate is 'keep', but without unique .*; say unique= too, or .* Simple"),
        ({"on_duplicate": "merge"}, "on_duplicate is 'merge'"),
        ({"max_retries": "three"}, 'max_retries: found "three"; allowed: a whole number, 0 or more'),
        ({"max_retries": -1}, "max_retries: found -1"),
        ({"max_retries": True}, "max_retries: found true"),
        ({"handle_timeout": "long"}, 'push of Simple: handle_timeout: found "long"; allowed: a number of seconds'),
        ({"handle_timeout": float("nan")}, "handle_timeout: found nan"),
        ({"handle_timeout": float("inf")}, "handle_timeout: found inf"),
        ({"retry_seconds": "abc"}, 'retry_seconds: found "abc"'),
        ({"retry_seconds": -3}, "retry_seconds: found -3"),
        ({"retry_seconds": {"base": "x"}}, 'retry_seconds.base: found "x"'),
        ({"retry_seconds": Backoff(base=-1)}, "retry_seconds.base: found -1"),
        ({"on_timeout": "kill"}, "on_timeout: found"),
    ],
)
async def test_a_wrong_option_of_a_push_is_refused(make_app: MakeApp, options: dict[str, Any], message: str) -> None:
    async with make_app() as app:
        with pytest.raises(JobError, match=message):
            await app.queue().push(Simple(), **options)
        assert await counts(app) == {}


async def test_an_option_of_a_push_that_does_not_exist_is_refused(make_app: MakeApp) -> None:
    async with make_app() as app:
        with pytest.raises(TypeError, match="dealy"):
            await app.queue().push(Simple(), dealy=5)  # type: ignore[call-arg]


async def test_an_empty_list_of_retry_seconds_means_for_a_push_what_it_means_in_the_configuration(
    make_app: MakeApp,
) -> None:
    async with make_app(retry_seconds=[]) as app:
        await app.queue().push(Simple(), retry_seconds=[])
        stated = (await app.queue().list("waiting"))[0].message.headers[OPTIONS_HEADER]
        assert json.loads(stated) == {"retry_seconds": app.queue().settings.retry_seconds}


async def test_a_push_cannot_have_a_sync_handler_cancelled(make_app: MakeApp) -> None:
    class Blocking(Job, max_retries=5):
        def handle(self) -> None: ...

    async with make_app() as app:
        with pytest.raises(JobError, match=r"on_timeout='cancel' needs an async handler.*Blocking an 'async def'"):
            await app.queue().push(Blocking(), on_timeout="cancel")
        assert await counts(app) == {}
        # As it would have been pushed where the handler is async:
        driver = await app.queue().driver()
        headers = {OPTIONS_HEADER: '{"on_timeout":"cancel"}'}
        await driver.push([Message(id=new_id(), name="Blocking", body=b"{}", headers=headers)])
        await app.worker().run(until_empty=True)
        (failed,) = await app.queue().list("failed")
        assert failed.message.note is not None
        assert "the handler is not an 'async def' here" in failed.message.note.message


async def test_a_timeout_beyond_what_the_backend_can_hold_is_refused_when_it_is_pushed(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    limit(app, monkeypatch, max_run=43_200.0, max_run_hint="split the job")
    async with app:
        refused = r"the handle_timeout of a push of Simple is 50000 s, .* hold a delivery for 43200 s at most: split"
        with pytest.raises(ConfigError, match=refused):
            await app.queue().push(Simple(), handle_timeout=50_000)
        assert await counts(app) == {}
        await app.queue().push(Simple(), handle_timeout=43_200)
        assert await counts(app) == {"waiting": 1}


async def test_what_a_push_does_with_duplicates_may_be_said_of_a_key_that_the_job_declares(make_app: MakeApp) -> None:
    async with make_app() as app:
        first = await app.queue().push(OnePerText(text="a"))
        assert await app.queue().push(OnePerText(text="a"), on_duplicate="keep") == first


async def test_an_id_is_not_taken_for_a_list_of_ids(make_app: MakeApp) -> None:
    async with make_app() as app:
        id_ = await app.queue().push(Simple(), id="abc")
        for refused in (app.queue().reload("failed", ids=id_), app.queue().flush("waiting", ids=id_)):
            with pytest.raises(TypeError, match=r"ids is 'abc'; it must be a list of ids: \['abc'\]"):
                await refused
        assert await app.queue().flush("waiting", ids=[id_]) == 1


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"max_messages": -1}, ValueError, "max_messages is -1; it must be 0 or more"),
        ({"max_messages": 1.0}, TypeError, "max_messages is 1.0; it must be a whole number, 0 or more"),
        ({"concurrency": 0}, ValueError, "concurrency is 0; it must be 1 or more"),
        ({"concurrency": 2.5}, TypeError, "concurrency is 2.5; it must be a whole number, 1 or more"),
        ({"concurrency": True}, TypeError, "concurrency is True"),
    ],
)
def test_a_worker_is_not_made_with_a_wrong_number(
    make_app: MakeApp, wrong: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_app().worker(**wrong)


@pytest.mark.parametrize("limit", [-1, True, 1.5])
async def test_a_wrong_limit_is_refused(make_app: MakeApp, limit: Any) -> None:
    async with make_app() as app:
        for refused in (app.queue().list("failed", limit=limit), app.queue().reload("failed", limit=limit)):
            with pytest.raises(ConfigError, match=r"limit is .*; it must be a whole number, 0 or more"):
                await refused
        assert await app.queue().list("waiting", limit=0) == []
        assert await app.queue().reload("failed", limit=0) == 0


async def test_a_wrong_argument_is_refused_when_pushed_naming_the_field(make_app: MakeApp) -> None:
    async with make_app() as app:
        with pytest.raises(InvalidPayload, match=r"at `\$.text`"):
            await app.queue().push(Simple(text=5))  # type: ignore[arg-type]
        with pytest.raises(InvalidPayload, match=r"function: .*at `\$.text`"):
            await app.queue().push(function.job(5))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="missing a required argument: 'text'"):
            function.job()  # type: ignore[call-arg]
        with pytest.raises(InvalidPayload):
            await app.queue().push_many([Simple(), Simple(text=5)])  # type: ignore[arg-type]
        assert await counts(app) == {}


async def test_too_large_a_payload_names_size_and_limit(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    limit(app, monkeypatch, max_body=100)
    async with app:
        with pytest.raises(MessageTooLarge, match=r"of 111 bytes is over the 100 bytes"):
            await app.queue().push(Simple(text="x" * 100))


async def test_a_missing_capability_is_an_error_naming_it(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    limit(app, monkeypatch, unique=False, cancel=False, peek=frozenset(), selective=frozenset())
    name = app.config.backend
    async with app:
        queue = app.queue()
        calls = {
            "unique": [queue.push(Simple(), unique="a"), queue.push(OnePerText(text="a"))],
            "cancel": [queue.cancel("a")],
            "peek": [queue.list("waiting"), queue.find("a")],
            "selective": [queue.reload("failed", ids=["a"]), queue.flush("failed", job="a")],
        }
        for capability, refused in calls.items():
            for call in refused:
                with pytest.raises(CapabilityError, match=f"{name!r} does not offer {capability!r}"):
                    await call


async def test_a_channel_that_a_capability_does_not_have_is_an_error_naming_it(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    limit(app, monkeypatch, peek=frozenset({"failed", "timeout"}), selective=frozenset({"failed", "waiting"}))
    name = app.config.backend
    async with app:
        queue = app.queue()
        pushed = await queue.push(Simple())
        refused = {
            ("peek", "waiting"): [queue.list("waiting"), queue.flush("waiting", job="Simple")],
            ("selective", "timeout"): [queue.reload("timeout", ids=[pushed]), queue.flush("timeout", job="Simple")],
        }
        for (capability, channel), calls in refused.items():
            for call in calls:
                with pytest.raises(
                    CapabilityError, match=f"{name!r} does not offer {capability!r} for {channel!r}: only"
                ):
                    await call
        assert await queue.list("failed") == []
        assert await queue.find(pushed) is None
        assert await queue.flush("waiting", ids=[pushed]) == 1


async def test_a_batch_stored_in_part_tells_which_part(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    async with make_app() as app:
        driver = await app.queue().driver()
        honest = driver.push

        async def push(messages: Sequence[Message]) -> Sequence[str | BackendError]:
            stored = await honest([messages[0], messages[2]])
            return [stored[0], BackendError("refused by the test"), stored[1]]

        monkeypatch.setattr(driver, "push", push)
        with pytest.raises(PushFailed, match="1 of 3 messages were not stored; the first, at position 1") as error:
            await app.queue().push_many([Simple(), Simple(), Simple()])
        assert list(error.value.errors) == [1]
        assert len(error.value.stored_ids) == 2
        assert await counts(app) == {"waiting": 2}


async def test_a_push_that_gets_no_answer_raises_in_time(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    async with make_app(push_timeout=0.05) as app:
        driver = await app.queue().driver()

        async def push(messages: Sequence[Message]) -> Sequence[str | BackendError]:
            await asyncio.sleep(60)
            return []

        monkeypatch.setattr(driver, "push", push)
        with pytest.raises(
            BackendUnavailable, match=r"no answer within 0.05 s; whether the push was stored is unknown"
        ):
            await app.queue().push(Simple())


async def test_after_a_batch_without_an_answer_no_other_is_sent(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(push_timeout=0.05)
    limit(app, monkeypatch, max_batch=2)
    async with app:
        driver = await app.queue().driver()
        honest, calls = driver.push, 0

        async def push(messages: Sequence[Message]) -> Sequence[str | BackendError]:
            nonlocal calls
            calls += 1
            stored = await honest(messages)
            if calls > 1:
                await asyncio.sleep(60)
            return stored

        monkeypatch.setattr(driver, "push", push)
        with pytest.raises(
            PushFailed, match=r"3 of 7 messages were not stored, and of 2 that is unknown; .* position 2: .* no answer"
        ) as error:
            await app.queue().push_many([Simple() for _ in range(7)])
        assert calls == 2
        assert len(error.value.stored_ids) == 2
        assert error.value.unknown == [2, 3]
        assert [str(error.value.errors[n]).partition(",")[0] for n in (4, 5, 6)] == ["not sent"] * 3
        assert await counts(app) == {"waiting": 4}


async def test_a_driver_that_returns_too_few_results_is_an_error_that_says_so(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_app() as app:
        driver = await app.queue().driver()

        async def push(messages: Sequence[Message]) -> Sequence[str | BackendError]:
            return []

        monkeypatch.setattr(driver, "push", push)
        with pytest.raises(BackendError, match="returned 0 results for 1 messages"):
            await app.queue().push(Simple())
        with pytest.raises(PushFailed, match="returned 0 results for 2 messages"):
            await app.queue().push_many([Simple(), Simple()])


async def test_no_verb_waits_for_ever(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.queue._ANSWER", 0.05)
    monkeypatch.setattr("headrace.queue._WHOLE_CHANNEL", 0.05)

    async def hang(*arguments: Any, **named: Any) -> Any:
        await asyncio.sleep(60)

    async with make_app() as app:
        queue = app.queue()
        driver = await queue.driver()
        for verb in ("info", "peek", "reload", "flush", "forget", "cancel"):
            monkeypatch.setattr(driver, verb, hang)
        for asked in (queue.info(), queue.list("failed"), queue.find("a"), queue.flush("failed", job="a")):
            with pytest.raises(BackendUnavailable, match=r"gave no answer within 0.05 s$"):
                await asked
        for told in (
            queue.reload("failed"),
            queue.reload("failed", ids=["a"]),
            queue.flush("failed"),
            queue.flush("failed", ids=["a"]),
            queue.cancel("a"),
        ):
            with pytest.raises(BackendUnavailable, match="whether that was done is unknown"):
                await told


async def test_nothing_larger_than_the_largest_batch_is_asked_of_a_driver(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    limit(app, monkeypatch, max_batch=3)
    async with app:
        queue = app.queue()
        ids = await queue.push_many([Simple(text=str(n)) for n in range(8)])
        driver = await queue.driver()
        sizes: list[int] = []
        honest_peek, honest_forget = driver.peek, driver.forget

        async def peek(channel: Any, limit: int, **named: Any) -> Page:
            sizes.append(limit)
            return await honest_peek(channel, limit, **named)

        async def forget(channel: Any, ids: Sequence[str]) -> int:
            sizes.append(len(ids))
            return await honest_forget(channel, ids)

        monkeypatch.setattr(driver, "peek", peek)
        monkeypatch.setattr(driver, "forget", forget)
        assert [each.message.id for each in await queue.list("waiting")] == ids
        assert len(await queue.list("waiting", job="Simple", limit=4)) == 4
        assert await queue.flush("waiting", ids=ids[:4]) == 4
        assert await queue.flush("waiting", job="Simple") == 4
        assert max(sizes) == 3


async def test_chosen_messages_are_reloaded_up_to_the_limit(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    limit(app, monkeypatch, max_batch=2)
    async with app:
        queue = app.queue()
        driver = await queue.driver()
        ids = await queue.push_many([Simple(text=str(n)) for n in range(7)])
        while deliveries := await driver.pop(2, 0):
            await driver.fail([(each.receipt, each.message) for each in deliveries], "failed")
        assert await queue.reload("failed", ids=["nobody", *ids], limit=3) == 3
        assert await counts(app) == {"waiting": 3, "failed": 4}
        assert await queue.reload("failed", job="Simple", limit=1) == 1
        assert await queue.reload("failed", job="Simple", ids=ids[-1:], limit=5) == 1
        assert await counts(app) == {"waiting": 5, "failed": 2}


async def test_a_sync_handler_that_shall_be_cancelled_is_refused_at_start(make_app: MakeApp) -> None:
    async with make_app(queues={"strict": {}}) as app:
        with pytest.raises(ConfigError, match="SyncCancelled has a sync handler, and a thread cannot be cancelled"):
            await app.worker("strict").run(until_empty=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the module 'broken_jobs' does not import: ModuleNotFoundError"),
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("x = (", "SyntaxError"),
        ("raise ValueError('at import')", "ValueError: at import"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_job_module_that_does_not_import_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "broken_jobs.py").write_text(text)
    (tmp_path / "headrace.toml").write_text('imports = ["broken_jobs"]')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(ConfigError) as error:
            Headrace.load(tmp_path / "headrace.toml").load_jobs()
    assert message in str(error.value)
    assert "imports: the module 'broken_jobs'" in str(error.value)


async def test_listeners_and_middleware_that_are_not_there_are_named(make_app: MakeApp) -> None:
    for top, message in [
        ({"listeners": ["no_such_module"]}, "listeners: the module 'no_such_module' does not import"),
        ({"listeners": ["json"]}, "has no function marked with @listen"),
        ({"middleware": ["json:nothing"]}, "middleware: the module 'json' has no 'nothing'"),
        ({"lifespan": "json:nothing"}, "lifespan: the module 'json' has no 'nothing'"),
    ]:
        app = make_app(top=top)
        with pytest.raises(ConfigError, match=message):
            await app.worker().run(until_empty=True)
