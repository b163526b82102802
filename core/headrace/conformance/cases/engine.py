"""The engine on this backend: an app, a worker in this process, and what becomes of jobs when things go wrong."""

import asyncio
import os
from typing import Any

from headrace.conformance.case import case
from headrace.conformance.engine import BACKEND, Engine, expect_uncounted, keys_of
from headrace.conformance.jobs import (
    ALWAYS,
    Append,
    AppendInThread,
    AskingAgain,
    Dropping,
    Failing,
    Gated,
    Sleeping,
)
from headrace.conformance.lab import PATIENCE, Lab, ids
from headrace.conformance.promises import Promise
from headrace.conformance.wrapping import LimitedBackend
from headrace.errors import CapabilityError, MessageTooLarge
from headrace.events import (
    AfterHandle,
    Event,
    FailedHandle,
    Listener,
    RetryHandle,
    TimeoutHandle,
)

# Running.


@case(Promise.AT_LEAST_ONCE)
async def pushed_jobs_run_and_leave_nothing(lab: Lab) -> None:
    """Jobs that an app pushed, one by one, many at once or with a delay, are run by a worker, and nothing is left."""
    async with Engine(lab) as engine:
        await engine.push(Append, keys_of(20))
        await engine.push(AppendInThread, ["in a thread", "\N{SNOWMAN}\0"])
        await engine.queue.push(engine.job(Append, "later"), delay=2 * lab.tick)
        keys = [*keys_of(20), "in a thread", "\N{SNOWMAN}\0", "later"]
        await engine.work_off(keys)
        engine.expect_ran_once(keys)
        await lab.expect_counts("after all jobs ran", engine.driver)


@case(Promise.AT_LEAST_ONCE)
async def jobs_pushed_from_plain_threads_run(lab: Lab) -> None:
    """Code without an event loop pushes from several threads at once, and its jobs are run like any others."""
    async with Engine(lab) as engine:
        jobs = [engine.job(Append, key) for key in keys_of(6)]
        await asyncio.gather(*(asyncio.to_thread(engine.queue.push_sync, job) for job in jobs))
        await engine.work_off(keys_of(6))
        engine.expect_ran_once(keys_of(6))


@case(Promise.IDENTICAL)
async def identical_jobs_all_run(lab: Lab) -> None:
    """Jobs that differ in nothing are separate jobs: each push of one is a run."""
    async with Engine(lab) as engine:
        await engine.push(Append, ["the same"] * 5)
        await engine.work_until("five runs", lambda: engine.ledger.counts("ran")["the same"] >= 5)
        lab.expect("how often it ran", engine.ran, {"the same": 5})
        await lab.expect_counts("after five runs", engine.driver)


@case(Promise.LOOKING, needs=("exact_counts",))
async def a_worker_that_shall_end_with_its_queue_ends_when_all_is_done(lab: Lab) -> None:
    """A worker told to run until its queue is empty waits for what is delayed or tried again, and then ends."""
    async with Engine(lab, max_retries=1, retry_seconds=lab.tick) as engine:
        await engine.push(Failing, ["again"], times=1)
        await engine.queue.push(engine.job(Append, "later"), delay=2 * lab.tick)
        async with asyncio.timeout(PATIENCE):
            lab.expect("the runs that it counted", await engine.app.worker(*engine.prefixes).run(until_empty=True), 3)
        engine.expect_ran_once(["again", "later"])


# Failing.


@case(Promise.FAILURES)
async def a_job_is_tried_again_on_its_schedule_and_then_rests_in_failed(lab: Lab) -> None:
    """A job that raises is run again after the delays of its schedule, never early; then it rests in ``failed``, and
    its ``failed()`` is called once."""
    schedule = [2 * lab.tick, 4 * lab.tick]
    async with Engine(lab, max_retries=2, retry_seconds=schedule) as engine:
        await engine.push(Failing, ["stubborn"], times=ALWAYS)
        await engine.work_until("the end of its retries", lambda: engine.ledger.keys("failed"))
        runs = engine.ledger.entries("raised")
        lab.expect("the attempts", [each.attempt for each in runs], [0, 1, 2])
        for number, delay in enumerate(schedule):
            waited = runs[number + 1].time - runs[number].time
            # A hundredth: clocks of different machines do not run alike.
            lab.expect_that(waited >= 0.99 * delay, "seconds before a retry", waited, f"{delay:g} or more")
        lab.expect("the calls of failed()", len(engine.ledger.keys("failed")), 1)
        await lab.expect_counts("when the retries are used up", engine.driver, failed=1)


@case(Promise.FAILURES)
async def a_job_that_recovers_is_done(lab: Lab) -> None:
    """A job that raises at first and then does not is done: it rests nowhere."""
    async with Engine(lab, max_retries=3, retry_seconds=0) as engine:
        await engine.push(Failing, keys_of(5), times=2)
        await engine.work_off(keys_of(5))
        lab.expect("how often each raised", dict(engine.ledger.counts("raised")), dict.fromkeys(keys_of(5), 2))
        engine.expect_ran_once(keys_of(5))
        await lab.expect_counts("after they recovered", engine.driver)


@case(Promise.FAILURES, needs=("peek:failed",))
async def the_reason_of_a_failure_stands_beside_the_message(lab: Lab) -> None:
    """A message in ``failed`` shows its job's arguments, and what was raised, where and when."""
    async with Engine(lab) as engine:
        (pushed,) = await engine.push(Failing, ["stubborn"], times=ALWAYS)
        await engine.work_until("its failure", lambda: engine.heard(FailedHandle))
        (listed,) = await engine.queue.list("failed")
        lab.expect("the id", listed.message.id, pushed)
        lab.expect("the argument 'key'", listed.arguments["key"], "stubborn")
        note = listed.message.note
        lab.expect("the note", note and (note.type, note.message), ("ValueError", "run 0 of stubborn"))
        lab.expect_that("in handle" in (note.traceback if note else ""), "its traceback", note, "the handler is in it")


@case(Promise.FAILURES)
async def a_reloaded_job_runs_as_if_new(lab: Lab) -> None:
    """What is reloaded from ``failed`` has all its runs before it again."""
    async with Engine(lab, max_retries=1, retry_seconds=0) as engine:
        await engine.push(Failing, ["stubborn"], times=ALWAYS)
        async with engine.working():
            await engine.until("its failure", lambda: len(engine.heard(FailedHandle)) == 1)
            lab.expect_number("how many were reloaded", await engine.queue.reload("failed"), 1)
            await engine.until("its second failure", lambda: len(engine.heard(FailedHandle)) == 2)
        attempts = [each.attempt for each in engine.ledger.entries("raised")]
        lab.expect("the attempts", attempts, [0, 1, 0, 1])
        await lab.expect_counts("at the end", engine.driver, failed=1)


@case(Promise.FAILURES)
async def a_job_may_ask_for_another_run_or_for_none(lab: Lab) -> None:
    """``Retry`` runs a job again after the delay that it names and spends a retry; ``Drop`` ends it without failure."""
    async with Engine(lab, max_retries=1, retry_seconds=PATIENCE * 10) as engine:
        await engine.push(AskingAgain, ["again"], seconds=2 * lab.tick)
        await engine.push(Dropping, ["dropped"])
        await engine.work_until("their ends", lambda: len(engine.heard(AfterHandle)) == 2)
        runs = [each for each in engine.ledger.entries("ran") if each.key == "again"]
        lab.expect("the attempts", [each.attempt for each in runs], [0, 1])
        waited = runs[1].time - runs[0].time
        lab.expect_that(waited >= 0.99 * 2 * lab.tick, "seconds before it", waited, f"{2 * lab.tick:g} or more")
        await lab.expect_counts("at the end", engine.driver)


# Timeouts.


@case(Promise.TIMEOUTS)
async def a_job_past_its_timeout_rests_in_timeout_and_goes_on(lab: Lab) -> None:
    """A handler that runs past its timeout goes on to its end, well or not; its message rests in ``timeout``, and is
    not tried again."""
    async with Engine(lab, handle_timeout=lab.tick, max_retries=3, retry_seconds=0) as engine:
        await engine.push(Sleeping, ["well"], seconds=3 * lab.tick)
        await engine.push(Sleeping, ["not well"], seconds=3 * lab.tick, then_raise=True)
        await engine.work_until(
            "their late ends",
            lambda: engine.heard(AfterHandle) and engine.heard(FailedHandle) and len(engine.ran) == 2,
        )
        lab.expect("timeouts told", len(engine.heard(TimeoutHandle)), 2)
        late = [each.late for each in engine.heard(AfterHandle)] + [each.late for each in engine.heard(FailedHandle)]
        lab.expect("whether their ends were told as late", late, [True, True])
        lab.expect("retries", engine.heard(RetryHandle), [])
        await lab.expect_counts("after their ends", engine.driver, timeout=2)


@case(Promise.TIMEOUTS)
async def a_job_that_is_cancelled_at_its_timeout_has_failed(lab: Lab) -> None:
    """A job that is cancelled at its timeout has failed: it is tried again, and then rests in ``failed``."""
    async with Engine(lab) as engine:
        job = engine.job(Sleeping, "slow", seconds=10 * PATIENCE)
        words: dict[str, Any] = {"handle_timeout": lab.tick, "on_timeout": "cancel"}
        await engine.queue.push(job, max_retries=1, retry_seconds=0, **words)
        await engine.work_until("its failure", lambda: engine.heard(FailedHandle))
        lab.expect("the attempts", [each.attempt for each in engine.ledger.entries("began")], [0, 1])
        lab.expect("what it failed of", type(engine.heard(FailedHandle)[0].error).__name__, "JobTimeout")
        await lab.expect_counts("after its failure", engine.driver, failed=1)


# Unique jobs.


@case(Promise.IDENTICAL, needs=("unique",))
async def of_a_unique_job_only_one_is_pending(lab: Lab) -> None:
    """A push with a unique key replaces the job that is pending under it, or keeps it; it returns the survivor's id."""
    async with Engine(lab) as engine:
        first = await engine.queue.push(engine.job(Append, "first"), unique="k")
        second = await engine.queue.push(engine.job(Append, "second"), unique="k")
        lab.expect_that(first != second, "the ids", (first, second), "two ids")
        third = await engine.queue.push(engine.job(Append, "third"), unique="k", on_duplicate="keep")
        lab.expect("the id of what was kept", third, second)
        other = await engine.queue.push(engine.job(Append, "other"), unique="other")
        lab.expect_that(other != second, "the id under another key", other, "an id of its own")
        await engine.work_off(["second", "other"])
        engine.expect_ran_once(["second", "other"])
        await lab.expect_counts("at the end", engine.driver)


@case(Promise.IDENTICAL, needs=("unique",))
async def a_unique_job_that_runs_owns_its_key_no_more(lab: Lab) -> None:
    """A job pushed while another of its unique key is running is run as well: it may have news."""
    gate = lab.harness.folder / "gate"
    async with Engine(lab) as engine:
        fields: dict[str, Any] = {"gate": str(gate), "home": os.getpid()}
        await engine.queue.push(engine.job(Gated, "first", **fields), unique="k")
        async with engine.working():
            await engine.until("the start of the first", lambda: engine.ledger.keys("began"))
            await engine.queue.push(engine.job(Gated, "second", **fields), unique="k", on_duplicate="keep")
            await engine.until("the start of the second", lambda: len(engine.ledger.keys("began")) == 2)
            gate.touch()
            await engine.until("their ends", lambda: len(engine.ran) == 2)
        engine.expect_ran_once(["first", "second"])


# Stopping.


@case(Promise.STOPPING)
async def a_worker_that_stops_gives_back_what_never_started(lab: Lab) -> None:
    """A worker told to stop ends what runs and gives back what it had taken and not started; that costs no attempt and
    is not counted as a delivery."""
    gate = lab.harness.folder / "gate"
    quick, held = keys_of(40, "quick "), keys_of(20)
    async with Engine(lab, concurrent={"limit": 4}) as engine:
        await engine.push(Sleeping, quick, seconds=lab.tick / 25)
        await engine.push(Gated, held, gate=str(gate), home=os.getpid())
        # It asks for ten more than the quick ones, and has them a tick after its slots are full: no pop is then under
        # way which may take with it, until its lease, what is given back.
        async with engine.working(max_messages=50):
            await engine.until("four of them to run", lambda: len(engine.ledger.keys("began")) == len(quick) + 4)
            await lab.elapse(lab.tick)
            asyncio.get_running_loop().call_later(lab.tick, gate.touch)  # while it stops
        done = engine.ran
        lab.expect("what began and did not end", set(engine.ledger.keys("began")) - set(done), set())
        expect_uncounted(lab, await lab.take(engine.driver, len(quick) + len(held) - len(done)))
        engine.expect_ran_once(done)
        lab.expect("what is left beside that", ids(await lab.drain(engine.driver)), [])


@case(Promise.STOPPING)
async def a_worker_that_stops_gives_back_what_does_not_end(lab: Lab) -> None:
    """A handler that has not ended when the time for stopping is over is cancelled, and its message given back; that
    costs no attempt and is not counted as a delivery."""
    # No slot is left, so that no pop is under way which may take with it, until its lease, what is given back.
    async with Engine(lab, shutdown_timeout=0.1, concurrent={"limit": 3}) as engine:
        await engine.push(Sleeping, keys_of(3), seconds=10 * PATIENCE)
        await engine.work_until("their starts", lambda: len(engine.ledger.keys("began")) == 3)
        expect_uncounted(lab, await lab.take(engine.driver, 3))


# What cannot be run.


@case(Promise.KEEPING)
async def bytes_that_are_no_job_fail_at_once(lab: Lab) -> None:
    """A message whose bytes do not make a job goes to ``failed`` at once, whatever retries are configured; the reason
    is told, and its neighbours are run."""
    async with Engine(lab, max_retries=5) as engine:
        bodies = [b"\xff\x00", b"", b"[1]", b'{"ledger": 5, "key": "x"}']
        wrong = [lab.message(name=Append.job_options.name, body=body) for body in bodies]
        await lab.in_batches(engine.driver.push, wrong)
        await engine.push(Append, ["good"])
        await engine.work_until("their ends", lambda: len(engine.heard(FailedHandle, AfterHandle)) == 5)
        failures = engine.heard(FailedHandle)
        lab.expect("what failed", sorted(each.message.id for each in failures), sorted(each.id for each in wrong))
        lab.expect("what of", {type(each.error).__name__ for each in failures}, {"InvalidPayload"})
        lab.expect("the good neighbour", engine.ran, {"good": 1})
        await lab.expect_counts("at the end", engine.driver, failed=4)


@case(Promise.KEEPING)
async def an_unknown_job_is_handed_on_for_a_while_and_then_fails(lab: Lab) -> None:
    """A job that this worker does not know, or a field, is given back for others to find, without spending an attempt;
    when the time for that is over it goes to ``failed``."""
    async with Engine(lab, unknown_job_seconds=1.0) as engine:  # the first pause of those that it is handed on with
        newer = lab.message(name="headrace.conformance.OfNextWeek")
        changed = lab.message(name=Append.job_options.name, body=b'{"ledger": "x", "key": "x", "colour": "red"}')
        await lab.in_batches(engine.driver.push, [newer, changed])
        await engine.work_until("their failures", lambda: len(engine.heard(FailedHandle)) == 2)
        lab.expect("how often each was given back", len(engine.heard(RetryHandle)), 2)
        failures = engine.heard(FailedHandle)
        lab.expect("what they failed of", {type(each.error).__name__ for each in failures}, {"UnknownJob"})
        lab.expect("their attempts", [each.message.attempt for each in failures], [0, 0])
        await lab.expect_counts("at the end", engine.driver, failed=2)


# Order.


@case(Promise.ORDER, needs=("ordered",))
async def one_worker_starts_jobs_as_they_were_pushed(lab: Lab) -> None:
    """A worker that runs one job at a time starts them in the order in which they were pushed."""
    async with Engine(lab, concurrent={"limit": 1}) as engine:
        await engine.push(Append, keys_of(10))
        await engine.push(Append, keys_of(10, "then "))
        await engine.work_off([*keys_of(10), *keys_of(10, "then ")])
        lab.expect("the order", engine.ledger.keys("ran"), [*keys_of(10), *keys_of(10, "then ")])


@case(Promise.ORDER)
async def one_worker_serves_fifty_queues(lab: Lab) -> None:
    """One worker serves a group of fifty queues: jobs that wait on any of them, and those that come while it idles."""
    names = keys_of(50, "queue-")
    async with Engine(lab, queues=names) as engine:
        await asyncio.gather(*(engine.app.queue(name).push(engine.job(Append, name)) for name in names))
        async with engine.working():
            await engine.until("all jobs to run", lambda: len(engine.ran) == 50)
            await engine.app.queue(names[-1]).push(engine.job(Append, "last"))
            await engine.app.queue(names[0]).push(engine.job(Append, "first"))
            await engine.until("what was pushed later", lambda: len(engine.ran) == 52)
        engine.expect_ran_once([*names, "last", "first"])


@case(Promise.ORDER, needs=("wait_ready",))
async def a_group_of_queues_is_served_in_strict_order(lab: Lab) -> None:
    """A worker of several queues takes nothing from one while an earlier one has something waiting."""
    async with Engine(lab, queues=("high", "middle", "low")) as engine:
        for name in ("low", "middle", "high"):
            await engine.app.queue(name).push_many([engine.job(Append, name) for _ in range(5)])
        await engine.work_until("all runs", lambda: len(engine.ledger.keys("ran")) == 15, concurrency=1)
        lab.expect("the order", engine.ledger.keys("ran"), ["high"] * 5 + ["middle"] * 5 + ["low"] * 5)


# What is the same everywhere.


@case(Promise.SAME)
async def a_delay_beyond_the_backends_longest_is_kept(lab: Lab) -> None:
    """A delay that is longer than the backend's longest is carried in several hops; the job is not run early, and the
    hops cost it nothing."""
    limited = LimitedBackend(lab.backend, max_delay=2 * lab.tick)
    async with Engine(lab, backend=limited) as engine:
        engine.ledger.write("pushed", "late")
        await engine.queue.push(engine.job(Append, "late"), delay=5 * lab.tick)
        await engine.work_off(["late"])
        pushed, run = engine.ledger.entries()
        waited = run.time - pushed.time
        lab.expect_that(waited >= 0.99 * 5 * lab.tick, "seconds before its run", waited, f"{5 * lab.tick:g} or more")
        lab.expect("its attempt", run.attempt, 0)
        await lab.expect_counts("at the end", engine.driver)


@case(Promise.SIZES)
async def a_body_beyond_the_backends_largest_is_refused_before_it_is_sent(lab: Lab) -> None:
    """A push of more than the backend takes raises `MessageTooLarge`, and nothing is stored; a smaller one is run."""
    limit = min(4000, lab.capabilities.max_body)
    async with Engine(lab, backend=LimitedBackend(lab.backend, max_body=limit)) as engine:
        async with lab.expect_raises("the push", MessageTooLarge):
            await engine.push_one(Append, "x" * limit)
        await lab.expect_counts("after it was refused", engine.driver)
        await engine.push_one(Append, "small")
        await engine.work_off(["small"])


@case(Promise.SAME)
async def what_a_backend_does_not_declare_is_refused_by_name(lab: Lab) -> None:
    """A feature that the backend does not declare is refused before anything is sent, naming backend and capability."""
    limited = LimitedBackend(lab.backend, unique=False, peek=frozenset(), cancel=False, selective=frozenset())
    async with Engine(lab, backend=limited) as engine:
        queue = engine.queue
        asked: dict[str, Any] = {
            "unique": lambda: queue.push(engine.job(Append, "unique"), unique="k"),
            "peek": lambda: queue.list("failed"),
            "cancel": lambda: queue.cancel("x"),
            "selective": lambda: queue.reload("failed", ids=["x"]),
        }
        for capability, ask in asked.items():
            try:
                await ask()
            except CapabilityError as error:
                lab.expect("what the refusal names", (error.backend, error.capability), (BACKEND, capability))
            else:
                lab.expect_that(False, f"asked for {capability}", "no error", "CapabilityError")
        await lab.expect_counts("after the refusals", engine.driver)


@case(Promise.LISTENERS)
async def a_listener_that_raises_changes_nothing(lab: Lab) -> None:
    """Listeners that raise at every event, plain ones and asynchronous ones, change no job's outcome."""

    def loud(event: Event) -> None:
        raise RuntimeError("a listener that raises")

    async def loud_later(event: Event) -> None:
        raise RuntimeError("a listener that raises in a task of its own")

    async with Engine(lab, max_retries=1, retry_seconds=0) as engine:
        engine.app.events.add(Listener((Event,), loud))
        engine.app.events.add(Listener((Event,), loud_later))
        await engine.push(Append, keys_of(3))
        await engine.push(Failing, ["recovers"], times=1)
        await engine.push(Failing, ["fails"], times=ALWAYS)
        await engine.work_until("all ends", lambda: len(engine.ran) == 4 and engine.ledger.keys("failed"))
        engine.expect_ran_once([*keys_of(3), "recovers"])
        await lab.expect_counts("at the end", engine.driver, failed=1)
