"""The engine where one of its parts misbehaves: a slow queue in a group, a dead connection, a loud listener."""

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from headrace import Headrace, Job, current, listen, settling
from headrace.availability import Caller
from headrace.conformance import Fault, FaultyBackend
from headrace.consumer import QueueConsumer
from headrace.driver import Delivery, Driver, Message, Result, Settled
from headrace.errors import BackendError, BackendUnavailable, CapabilityError, JobError
from headrace.events import BackendBack, BackendLost, BeforeHandle, FailedHandle, LeaseLost, RetryHandle, WorkerStopped
from headrace.worker import Worker
from headrace_memory.backend import MemoryBackend

from .conftest import MakeApp, counts
from .test_worker import until

seen: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    seen.clear()


class OfOne(Job, queue="one"):
    async def handle(self) -> None:
        seen.append("one")
        await asyncio.sleep(0.05)


class OfMany(Job, queue="many"):
    async def handle(self) -> None:
        seen.append("many")


class Plain(Job):
    number: int = 0

    async def handle(self) -> None:
        seen.append(self.number)


class Lingering(Job):
    async def handle(self) -> None:
        seen.append("started")
        await asyncio.sleep(60)


class UntilTold(Job):
    async def handle(self) -> None:
        await until(lambda: "told" in seen)
        seen.append("ended")


class RaisesInCleanup(Job):
    async def handle(self) -> None:
        seen.append("started")
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError("the rollback failed")


class Failing(Job):
    number: int

    async def handle(self) -> None:
        raise ValueError(self.number)

    async def failed(self, error: Exception) -> None:
        seen.append((self.number, current().job == self, error.args))


class FailsLoudlyAfterwards(Job):
    async def handle(self) -> None:
        raise ValueError

    def failed(self, error: Exception) -> None:
        raise SystemExit(3)


async def test_a_limited_queue_of_a_group_neither_hoards_nor_starves_the_others(make_app: MakeApp) -> None:
    app = make_app(queues={"one": {"concurrent": {"limit": 1}}, "many": {}})
    async with app:
        await app.queue("one").push_many([OfOne() for _ in range(500)])
        await app.queue("many").push_many([OfMany() for _ in range(3000)])
        worker = app.worker("one", "many")
        running = asyncio.create_task(worker.run())
        await until(lambda: seen.count("many") == 3000)
        info = await app.queue("one").info()
        assert info.reserved is not None
        assert info.reserved <= 10
        assert seen.count("one") < 400
        worker.stop()
        await running


async def test_a_group_waits_quietly_while_one_queue_is_at_its_limit(make_app: MakeApp) -> None:
    app = make_app(queues={"default": {"concurrent": {"limit": 1}}, "many": {}})
    async with app:
        await app.queue().push_many([Lingering(), Lingering()])
        driver, pops = await app.queue().driver(), 0
        honest = driver.pop

        async def pop(limit: int, wait: float) -> Any:
            nonlocal pops
            pops += 1
            return await honest(limit, wait)

        driver.pop = pop  # type: ignore[method-assign]
        worker = app.worker("default", "many")
        running = asyncio.create_task(worker.run())
        await until(lambda: seen)
        before = pops
        await asyncio.sleep(0.5)
        assert pops - before <= 2
        worker.stop()
        worker.stop()
        await running


async def test_failed_is_part_of_its_own_run(make_app: MakeApp) -> None:
    async with make_app() as app:
        await app.queue().push_many([Failing(number=n) for n in range(5)])
        await app.worker().run(until_empty=True)
    assert sorted(seen) == [(n, True, (n,)) for n in range(5)]


async def test_a_failed_that_raises_is_logged_and_no_more(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    async with make_app() as app:
        await app.queue().push(FailsLoudlyAfterwards())
        await app.queue().push(Plain())
        assert await app.worker().run(until_empty=True) == 2
        assert await counts(app) == {"failed": 1}
    assert "failed() of FailsLoudlyAfterwards raised" in caplog.text


async def test_a_stop_that_makes_a_handlers_cleanup_fail_costs_it_nothing(make_app: MakeApp) -> None:
    async with make_app(shutdown_timeout=0.05) as app:
        await app.queue().push(RaisesInCleanup())
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: seen)
        worker.stop()
        await running
        (waiting,) = await app.queue().list("waiting")
        assert (waiting.message.attempt, waiting.message.deaths, waiting.message.note) == (0, 0, None)


async def test_worker_stopped_is_told_when_run_is_cancelled(make_app: MakeApp, record: Any) -> None:
    app = make_app(shutdown_timeout=0.05)
    events = record(app)
    async with app:
        await app.queue().push(Lingering())
        running = asyncio.create_task(app.worker().run())
        await until(lambda: seen)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert len(events.of(WorkerStopped)) == 1


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_a_listener_that_raises_anything_changes_nothing(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    app = make_app()

    @listen(BeforeHandle)
    def loud(event: BeforeHandle) -> None:
        raise error

    app.events.add(loud)
    async with app:
        await app.queue().push(Plain())
        await app.worker().run(until_empty=True)
        assert await counts(app) == {}
    assert seen == [0]
    assert "the listener" in caplog.text


async def test_a_verb_that_is_refused_is_logged_once_while_the_others_go_on(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, record: Any
) -> None:
    caplog.set_level(logging.INFO, "headrace")
    app = make_app()
    events = record(app)
    async with app:
        driver, refuse = await app.queue().driver(), [True]
        honest = driver.ack

        async def ack(receipts: Sequence[Any]) -> Any:
            if refuse[0]:
                raise BackendError("no permission to delete")
            return await honest(receipts)

        driver.ack = ack  # type: ignore[method-assign]
        await app.queue().push_many([Plain(number=n) for n in range(5)])
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: len(seen) == 5)
        await asyncio.sleep(0.5)
        refuse[0] = False
        await until(lambda: not worker.consumers[0].held)
        worker.stop()
        await running
        assert await counts(app) == {}
    refusals = [each for each in caplog.records if "no permission to delete" in each.getMessage()]
    assert len(refusals) == 1
    assert not events.of(BackendLost, BackendBack)


async def test_one_message_that_cannot_be_settled_keeps_no_other_from_it(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "_REFUSED_LONGEST", 0.3)
    app = make_app(lease_seconds=0.5)
    async with app:
        driver, refused = await app.queue().driver(), [0]
        honest = driver.fail

        async def fail(pairs: Sequence[tuple[Any, Message]], channel: Any) -> Any:
            if refused[0] < 20 and any(b"3" in message.body for _, message in pairs):
                refused[0] += 1
                raise OverflowError("a number that is too large for it")
            return await honest(pairs, channel)

        driver.fail = fail  # type: ignore[method-assign]
        await app.queue().push_many([Failing(number=n) for n in range(5)])
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: "could not be settled" in caplog.text)
        assert await counts(app) | {"waiting": 0, "reserved": 0} == {"failed": 4, "waiting": 0, "reserved": 0}
        refused[0] = 20
        await until(lambda: sorted(number for number, *_ in seen) == [0, 1, 2, 3, 4])
        worker.stop()
        await running
        assert await counts(app) == {"failed": 5}


async def test_a_queue_that_can_be_popped_but_not_waited_for_is_looked_at_now_and_then(make_app: MakeApp) -> None:
    app = make_app(queues={"default": {"queue_length_seconds": 0}, "many": {"queue_length_seconds": 0}})
    async with app:
        calls = 0

        async def wait_ready(seconds: float) -> bool:
            nonlocal calls
            calls += 1
            raise BackendError("no permission to wait")

        for name in ("default", "many"):
            (await app.queue(name).driver()).wait_ready = wait_ready  # type: ignore[method-assign]
        worker = app.worker("default", "many")
        running = asyncio.create_task(worker.run())
        await until(lambda: calls)
        await asyncio.sleep(0.7)
        assert calls <= 12  # each has a backoff of 0.05 s that doubles
        await app.queue("many").push(OfMany())
        await until(lambda: seen == ["many"])
        worker.stop()
        await running


async def test_leases_that_are_refused_one_by_one_are_told_of_once(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(lease_seconds=0.3, shutdown_timeout=0.05)
    async with app:
        driver, asked = await app.queue().driver(), [0]

        async def extend(self: Any, receipts: Sequence[Any], seconds: float) -> Any:
            asked[0] += 1
            return [BackendError("no permission to extend") for _ in receipts]

        monkeypatch.setattr(type(driver), "extend", extend)
        await app.queue().push(Lingering())
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: asked[0] >= 3)
        worker.stop()
        await running
    assert sum("no permission to extend" in each.getMessage() for each in caplog.records) == 1


async def test_leases_are_kept_though_telling_of_stalls_fails(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def show_sign(self: Worker, silent: float, problem: str) -> None:
        raise OSError("nobody listens")

    monkeypatch.setattr(Worker, "show_sign", show_sign)
    app = make_app(lease_seconds=0.3, shutdown_timeout=0.05)
    async with app:
        await app.queue().push(Lingering())
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: seen)
        await asyncio.sleep(0.8)
        (held,) = worker.consumers[0].held
        assert not held.lost
        worker.stop()
        await running
    assert seen == ["started"]
    assert sum("could not be told" in each.getMessage() for each in caplog.records) == 1


async def test_what_lay_here_past_its_lease_is_given_back_and_not_begun(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, record: Any
) -> None:
    honest, over = QueueConsumer.pop, [True]

    async def pop(self: QueueConsumer, limit: int, wait: float) -> int:
        came = await honest(self, limit, wait)
        for execution in self.buffer:
            if over[0]:
                execution.leased -= self.settings.lease_seconds
        over[0] = over[0] and not came
        return came

    monkeypatch.setattr(QueueConsumer, "pop", pop)
    app = make_app()
    events = record(app)
    async with app:
        await app.queue().push(Plain(number=7))
        assert await app.worker().run(until_empty=True) == 1
        assert await counts(app) == {}
    assert seen == [7]
    (began,) = events.of(BeforeHandle)
    assert (began.message.attempt, began.message.deaths) == (0, 0)


@pytest.fixture
def lose_lease(monkeypatch: pytest.MonkeyPatch) -> Callable[[Driver], list[Delivery]]:
    """Let the first lease of a queue run out, unnoticed, until its message has come again; what has come."""

    def lose(driver: Driver) -> list[Delivery]:
        kind, came = type(driver), list[Delivery]()
        honest, honest_extend = kind.pop, kind.extend

        async def pop(self: Driver, limit: int, wait: float) -> Sequence[Delivery]:
            deliveries = await honest(self, limit, wait)
            came.extend(deliveries)
            return deliveries

        async def extend(self: Driver, receipts: Sequence[Any], seconds: float) -> Sequence[Result]:
            return [Settled.DONE] * len(receipts) if len(came) < 2 else await honest_extend(self, receipts, seconds)

        monkeypatch.setattr(kind, "pop", pop)
        monkeypatch.setattr(kind, "extend", extend)
        return came

    return lose


async def test_a_message_that_comes_again_while_its_handler_runs_is_no_second_run(
    make_app: MakeApp, lose_lease: Callable[[Driver], list[Delivery]], record: Any
) -> None:
    """So after a lost connection, or an outage longer than a lease: nobody has died."""
    app = make_app(lease_seconds=1.0, pop_timeout=0.1)
    events = record(app)
    async with app:
        await app.queue().push(UntilTold())
        came = lose_lease(await app.queue().driver())
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: len(came) == 2)
        seen.append("told")
        await until(lambda: not worker.consumers[0].held)
        worker.stop()
        await running
        assert await counts(app) == {}
    assert seen == ["told", "ended"]
    assert not events.of(LeaseLost)


@pytest.mark.parametrize(
    ("verb", "job", "options", "left", "runs"),
    [
        ("ack", Plain(number=7), {}, {}, 1),
        ("retry", Failing(number=7), {"max_retries": 1, "retry_seconds": 0}, {"failed": 1}, 2),
        ("fail", Failing(number=7), {"max_retries": 0}, {"failed": 1}, 1),
    ],
)
async def test_a_message_that_comes_again_while_it_is_settled_is_settled_once_more_and_not_run(
    make_app: MakeApp,
    monkeypatch: pytest.MonkeyPatch,
    lose_lease: Callable[[Driver], list[Delivery]],
    record: Any,
    verb: str,
    job: Job,
    options: dict[str, Any],
    left: dict[str, int],
    runs: int,
) -> None:
    """So when a handler ends during an outage that is longer than its lease."""
    app = make_app(lease_seconds=1.0, pop_timeout=0.1, **options)
    events = record(app)
    async with app:
        driver, worker = await app.queue().driver(), app.worker()
        came = lose_lease(driver)
        honest, tries = getattr(type(driver), verb), itertools.count()

        async def settle(self: Driver, items: Sequence[Any], *channel: Any) -> Any:
            if not next(tries):
                await until(lambda: len(came) >= 2)
            return await honest(self, items, *channel)

        monkeypatch.setattr(type(driver), verb, settle)
        await app.queue().push(job)
        running = asyncio.create_task(worker.run())
        await until(lambda: len(came) > runs and worker.consumers[0].idle)
        worker.stop()
        await running
        assert await counts(app) == left
    assert next(tries) == 2
    assert len(events.of(BeforeHandle)) == runs
    assert [each.message.deaths for each in events.of(BeforeHandle)] == [0] * runs
    assert not events.of(LeaseLost)


async def test_a_backend_that_takes_an_older_receipt_is_not_left_with_the_later_one(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, lose_lease: Callable[[Driver], list[Delivery]]
) -> None:
    app = make_app(lease_seconds=1.0, pop_timeout=0.1)
    async with app:
        driver, worker = await app.queue().driver(), app.worker()
        came = lose_lease(driver)
        honest, tries = type(driver).ack, itertools.count()

        async def ack(self: Driver, receipts: Sequence[Any]) -> Sequence[Any]:
            if next(tries):
                return await honest(self, receipts)
            await until(lambda: len(came) >= 2)
            return [Settled.DONE] * len(receipts)

        monkeypatch.setattr(type(driver), "ack", ack)
        await app.queue().push(Plain(number=7))
        running = asyncio.create_task(worker.run())
        await until(lambda: len(came) >= 2 and worker.consumers[0].idle)
        worker.stop()
        await running
        assert await counts(app) == {}
    assert seen == [7]


def test_a_program_that_ends_costs_what_it_runs_no_attempt(make_app: MakeApp, record: Any) -> None:
    app = make_app()
    events = record(app)

    async def main() -> None:
        async with app:
            await app.queue().push_many([Lingering() for _ in range(3)])
            running = asyncio.create_task(app.worker().run())
            await until(lambda: len(seen) == 3)
            await asyncio.sleep(0)
            assert not running.done()

    asyncio.run(main())
    assert seen == ["started"] * 3
    assert not events.of(FailedHandle, RetryHandle)


async def test_a_suspect_that_goes_on_past_its_timeout_does_not_keep_its_worker(make_app: MakeApp) -> None:
    app = make_app(handle_timeout=0.1, shutdown_timeout=0.1)
    async with app:
        queue = app.queue()
        driver = await queue.driver()
        message = queue._message(Lingering(), 0.0)
        await driver.push([Message(id=message.id, name=message.name, body=message.body, deaths=3)])
        worker = app.worker()
        async with asyncio.timeout(10):
            await worker.run()
        assert worker.overrun
        assert await counts(app) == {"timeout": 1}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has no eager tasks before 3.12")
async def test_tasks_that_begin_at_once_change_nothing(make_app: MakeApp) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    app = make_app(concurrent={"limit": 100})
    async with app:
        await app.queue().push_many([Plain(number=n) for n in range(3000)])
        assert await app.worker().run(until_empty=True) == 3000
        assert await counts(app) == {}
    assert sorted(seen) == list(range(3000))


async def test_an_item_that_alone_was_out_of_reach_is_sent_again(make_app: MakeApp, record: Any) -> None:
    app = make_app()
    events = record(app)
    async with app:
        driver, throttled = await app.queue().driver(), [0]
        honest = driver.ack

        async def ack(receipts: Sequence[Any]) -> Any:
            results = list(await honest(receipts[1:])) if len(receipts) > 1 else []
            throttled[0] += 1
            if throttled[0] < 3:
                return [BackendUnavailable("throttled"), *results]
            return await honest(receipts[:1]) + results

        driver.ack = ack  # type: ignore[method-assign]
        await app.queue().push_many([Plain(number=n) for n in range(3)])
        await app.worker().run(until_empty=True)
        assert await counts(app) == {}
    assert sorted(seen) == [0, 1, 2]
    assert not events.of(LeaseLost)
    assert throttled[0] >= 3


async def test_a_move_whose_answer_was_lost_is_told_all_the_same(make_app: MakeApp, record: Any) -> None:
    app = make_app()
    events = record(app)
    async with app:
        driver, cut = await app.queue().driver(), [True]
        honest = driver.fail

        async def fail(pairs: Sequence[tuple[Any, Message]], channel: Any) -> Any:
            results = await honest(pairs, channel)
            if cut[0]:
                cut[0] = False
                raise BackendUnavailable("the answer was lost")
            assert set(results) == {Settled.STALE}
            return results

        driver.fail = fail  # type: ignore[method-assign]
        await app.queue().push(Failing(number=7))
        await app.worker().run(until_empty=True)
        assert await counts(app) == {"failed": 1}
    assert len(seen) == 1
    assert len(events.of(FailedHandle)) == 1
    assert not events.of(LeaseLost)


async def test_a_lease_keeper_whose_connection_hangs_does_not_hold_up_the_stop(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(lease_seconds=0.3, shutdown_timeout=0.05)
    async with app:
        driver = await app.queue().driver()

        async def extend(self: Any, receipts: Sequence[Any], seconds: float) -> Any:
            seen.append("extend")
            await asyncio.sleep(60)

        monkeypatch.setattr(type(driver), "extend", extend)
        await app.queue().push(Lingering())
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: "extend" in seen)
        worker.stop()
        async with asyncio.timeout(5):
            await running


async def test_until_empty_is_refused_where_nobody_can_tell_when_that_is(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    backend = app.backend(app.config.backend)
    unknown = dataclasses.replace(backend.capabilities, counts="unknown")
    monkeypatch.setattr(type(backend), "capabilities", property(lambda self: unknown))
    with pytest.raises(CapabilityError, match="cannot tell when a queue is empty"):
        await app.worker().run(until_empty=True)


async def test_two_queues_of_one_backend_tell_of_its_loss_once(make_app: MakeApp, record: Any) -> None:
    app = make_app(queues={"default": {}, "many": {}})
    events = record(app)
    async with app:
        down = [False]

        def breakable(verb: Callable[..., Any]) -> Callable[..., Any]:
            async def call(*arguments: Any) -> Any:
                if down[0]:
                    raise BackendUnavailable("the test took it down")
                return await verb(*arguments)

            return call

        for name in ("default", "many"):
            driver = await app.queue(name).driver()
            driver.pop = breakable(driver.pop)  # type: ignore[method-assign]
            driver.wait_ready = breakable(driver.wait_ready)  # type: ignore[method-assign]
        worker = app.worker("default", "many")
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0.05)
        down[0] = True
        await app.queue("many").push(OfMany())
        await until(lambda: events.of(BackendLost))
        await asyncio.sleep(0.3)
        down[0] = False
        began = time.monotonic()
        await until(lambda: seen == ["many"])
        await until(lambda: events.of(BackendBack))
        assert time.monotonic() - began < 5
        worker.stop()
        await running
    assert (len(events.of(BackendLost)), len(events.of(BackendBack))) == (1, 1)


class Overrunning(Job, queue="one", handle_timeout=0.05):
    async def handle(self) -> None:
        seen.append("overrunning")
        await asyncio.sleep(60)


class Unprintable(Job):
    async def handle(self) -> None:
        raise SyntaxError("odd", (5, "x", None, {}, 7, 8))  # type: ignore[arg-type]


async def test_a_worker_of_so_many_messages_ends_though_one_is_past_its_timeout(make_app: MakeApp) -> None:
    async with make_app(queues={"one": {"shutdown_timeout": 0.05}}) as app:
        await app.queue("one").push_many([Overrunning(), *[OfOne() for _ in range(9)]])
        async with asyncio.timeout(5):
            await app.worker("one", max_messages=5).run()
        assert seen.count("one") == 4
        assert await counts(app, "one") == {"waiting": 5, "timeout": 1}


async def test_a_worker_until_empty_ends_though_one_is_past_its_timeout(make_app: MakeApp) -> None:
    async with make_app(queues={"one": {"shutdown_timeout": 0.05}}) as app:
        await app.queue("one").push_many([Overrunning(), OfOne()])
        async with asyncio.timeout(5):
            await app.worker("one").run(until_empty=True)
        assert await counts(app, "one") == {"timeout": 1}


async def test_a_worker_ends_when_one_queue_of_its_group_can_run_no_more(make_app: MakeApp) -> None:
    async with make_app(
        queues={"one": {"concurrent": {"limit": 1}, "shutdown_timeout": 0.05}, "many": {"shutdown_timeout": 0.05}}
    ) as app:
        await app.queue("one").push_many([Overrunning(), OfOne()])
        worker = app.worker("one", "many")
        async with asyncio.timeout(40):
            await worker.run()
        assert worker.overrun
        assert await counts(app, "one") == {"waiting": 1, "timeout": 1}


async def test_an_error_that_cannot_be_printed_fails_its_job_as_any_other(make_app: MakeApp) -> None:
    async with make_app() as app:
        await app.queue().push(Unprintable())
        assert await app.worker().run(until_empty=True) == 1
        (listed,) = await app.queue().list("failed")
        assert listed.message.note is not None
        assert listed.message.note.type == "SyntaxError"


async def test_cancelling_run_again_hurries_it_and_leaves_nothing_behind(make_app: MakeApp) -> None:
    async with make_app(shutdown_timeout=60) as app:
        await app.queue().push_many([Lingering() for _ in range(5)])
        running = asyncio.create_task(app.worker().run())
        await until(lambda: len(seen) == 5)
        running.cancel()
        await asyncio.sleep(0.05)
        assert not running.done()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(5):
                await running
        assert await counts(app) == {"waiting": 5}
        assert asyncio.all_tasks() <= {asyncio.current_task(), *app._opening.values()}


async def test_a_suspect_takes_no_other_suspect_along(make_app: MakeApp) -> None:
    """With the configuration in code, suspects run here; those that wait must not share one's death."""
    app = make_app()
    held: list[Any] = []

    class LooksAround(Job):
        number: int

        async def handle(self) -> None:
            info = await app.queue().info()
            held.append((self.number, info.reserved))

    async with app:
        queue = app.queue()
        driver = await queue.driver()
        jobs = [LooksAround(number=n) for n in range(6)]
        messages = [queue._message(each, 0.0) for each in jobs]
        await driver.push([Message(id=each.id, name=each.name, body=each.body, deaths=3) for each in messages])
        await app.worker().run(until_empty=True)
        assert await counts(app) == {}
    assert sorted(held) == [(n, 1) for n in range(6)]


async def test_the_app_is_the_one_entered_last() -> None:
    outer, inner = Headrace({"backend": "memory"}), Headrace({"backend": "memory"})
    async with outer:
        async with inner:
            await Plain().push()
            assert await counts(inner) == {"waiting": 1}
        await Plain().push()
        assert await counts(outer) == {"waiting": 1}
    with pytest.raises(JobError):
        await outer.queue().push("no job")  # type: ignore[arg-type]


async def test_a_backoff_that_ends_between_two_looks_at_it_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = itertools.count()
    # Too early at the first look after a failure, and not any more at the next.
    monkeypatch.setattr(Caller, "ready", property(lambda caller: not caller._tries or next(looks) > 0))
    shaky = FaultyBackend(MemoryBackend(), Fault("pop", "fail", at=1))
    app = Headrace({"backend": "shaky", "listeners": []}, backends={"shaky": shaky})
    async with app, asyncio.timeout(20):
        await app.queue().push(Plain(number=1))
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        while not worker.handled:
            await asyncio.sleep(0.01)
        worker.stop()
        await running
