"""Worker processes that are killed, stopped, resumed or told to end: nothing of what they leave behind is lost."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Literal

from headrace.conformance.case import Capability, case
from headrace.conformance.engine import POP_TIMEOUT, Engine, expect_uncounted, keys_of
from headrace.conformance.faulty import Fault, Verb
from headrace.conformance.jobs import ALWAYS, Append, Failing, Gated, Noting, Poison, Sleeping
from headrace.conformance.lab import PATIENCE, Lab, ids
from headrace.conformance.promises import Promise
from headrace.conformance.workers import WorkerProcess, Workers

#: What lets several processes have one queue.
NEEDS: Final[tuple[Capability, ...]] = ("durable", "shared")

#: When a process is killed by a call.
MOMENTS: Final[tuple[Literal["before", "after"], ...]] = ("before", "after")

#: Seconds for a case that starts several interpreters and waits for leases, which some backends count in whole seconds.
TIME_LIMIT: Final = 90.0


def gate_of(lab: Lab) -> Path:
    """The file that `Gated` jobs of a case wait for."""
    return lab.harness.folder / "gate"


def short_lease(lab: Lab) -> float:
    """A lease that one can wait for, and that a process on a busy machine still keeps: it is extended at a third."""
    return 6 * lab.tick


async def kill(process: WorkerProcess) -> None:
    process.signal(signal.SIGKILL)
    await process.ended(-signal.SIGKILL)


async def stop(process: WorkerProcess) -> None:
    """Tell a process to end in good order, and expect that it does."""
    process.signal(signal.SIGTERM)
    await process.ended(0)


# Killed.


@case(Promise.AT_LEAST_ONCE, needs=NEEDS, time_limit=TIME_LIMIT, processes=True)
async def workers_killed_at_random_moments_lose_nothing(lab: Lab) -> None:
    """Workers are killed by ``kill -9`` amid their jobs, one after another: those that follow run every job to its
    end."""
    kills, steady, shaky = 3, keys_of(60, "steady "), keys_of(60, "shaky ")
    async with Engine(lab, max_retries=1, retry_seconds=0) as engine:
        async with Workers(engine, lease_seconds=short_lease(lab), concurrent={"limit": 4}) as workers:
            await engine.push(Failing, steady, times=0, seconds=lab.tick / 10)
            await engine.push(Failing, shaky, times=1, seconds=lab.tick / 10)
            for _ in range(kills):
                victim = workers.start()
                await victim.until("some jobs to be run", more_than(engine, len(engine.ran) + random.randint(2, 20)))
                await asyncio.sleep(random.uniform(0, lab.tick / 2))
                await kill(victim)
        await engine.finish(short_lease(lab) + 2 * POP_TIMEOUT)
        expect_runs(engine, [*steady, *shaky], kills)
        await lab.expect_counts("when all is done", engine.driver)


def more_than(engine: Engine, count: int) -> Callable[[], bool]:
    return lambda: len(engine.ran) > count


def expect_runs(engine: Engine, keys: list[str], deaths: int, word: str = "ran") -> None:
    """Fail if a job was lost, or ran again without a reason: the death of its worker, or a lease that was lost."""
    runs = engine.ledger.counts(word)
    engine.lab.expect("jobs that were lost", sorted(set(keys) - set(runs)), [])
    most = 1 + deaths + len(engine.ledger.keys("lost"))
    engine.lab.expect_that(max(runs.values()) <= most, "most runs of one job", max(runs.values()), f"{most} at most")


async def killed_around(
    lab: Lab, verb: Verb, at: int, kind: type[Noting], count: int, *, rest: bool = False, **fields: Any
) -> None:
    """A worker dies just before a call, and one just after; others take over.

    ``rest``: the jobs end in ``failed``, and not by running well.
    """
    keys, lease = keys_of(count), short_lease(lab)
    async with AsyncExitStack() as stack:
        victims: list[tuple[Engine, WorkerProcess]] = []
        for when in MOMENTS:
            engine = await stack.enter_async_context(Engine(lab, max_retries=0 if rest else 1, retry_seconds=0))
            workers = Workers(engine, lease_seconds=lease, concurrent={"limit": 3})
            await stack.enter_async_context(workers)
            await engine.push(kind, keys, **fields)
            victims.append((engine, workers.start(Fault(verb, "kill", when=when, at=at))))
        for _, victim in victims:
            await victim.ended(-signal.SIGKILL)
        gate_of(lab).touch()
        for engine, _ in victims:
            await engine.finish(lease + 2 * POP_TIMEOUT)
            expect_runs(engine, keys, 1, "raised" if rest else "ran")
            await lab.expect_counts("when all is done", engine.driver, failed=count if rest else 0)


@case(Promise.AT_LEAST_ONCE, needs=NEEDS, time_limit=TIME_LIMIT, processes=True)
async def a_worker_killed_around_a_pop_loses_nothing(lab: Lab) -> None:
    """A worker that dies just before it asks for messages, or just after it got them, loses none."""
    await killed_around(lab, "pop", 2, Sleeping, 10, seconds=lab.tick / 10)


@case(Promise.AT_LEAST_ONCE, needs=NEEDS, time_limit=TIME_LIMIT, processes=True)
async def a_worker_killed_around_an_ack_loses_nothing(lab: Lab) -> None:
    """A worker that dies just before it acks, or just after, loses no job; what it had not acked is run again."""
    await killed_around(lab, "ack", 1, Sleeping, 10, seconds=lab.tick / 10)


@case(Promise.AT_LEAST_ONCE, needs=NEEDS, time_limit=TIME_LIMIT, processes=True)
async def a_worker_killed_around_a_retry_loses_nothing(lab: Lab) -> None:
    """A worker that dies just before it gives back a job that failed, or just after, loses none."""
    await killed_around(lab, "retry", 1, Failing, 6, times=1)


@case(Promise.AT_LEAST_ONCE, needs=NEEDS, time_limit=TIME_LIMIT, processes=True)
async def a_worker_killed_around_a_failure_loses_nothing(lab: Lab) -> None:
    """A worker that dies just before it moves a job to ``failed``, or just after, loses none: each rests there once."""
    await killed_around(lab, "fail", 1, Failing, 6, times=ALWAYS, rest=True)


@case(Promise.AT_LEAST_ONCE, needs=(*NEEDS, "timed_leases"), time_limit=TIME_LIMIT, processes=True)
async def a_worker_killed_around_an_extension_loses_nothing(lab: Lab) -> None:
    """A worker that dies just before it extends its leases, or just after, loses no job."""
    await killed_around(lab, "extend", 1, Gated, 3, gate=str(gate_of(lab)), home=os.getpid())


@case(Promise.AT_LEAST_ONCE, needs=NEEDS, time_limit=TIME_LIMIT, processes=True)
async def an_application_killed_around_a_push_loses_nothing_that_was_pushed(lab: Lab) -> None:
    """An application that dies just before a push, or just after, loses none whose id it was given."""
    for when in MOMENTS:
        async with Engine(lab) as engine, Workers(engine) as workers:
            await workers.start(Fault("push", "kill", when=when, at=5), pushes=9).ended(-signal.SIGKILL)
            pushed = engine.ledger.keys("pushed")
            lab.expect("pushes that returned", len(pushed), 4)
            found = ids([*await lab.take(engine.driver, 4), *await lab.drain(engine.driver)])
            lab.expect("what was pushed and lost", set(pushed) - set(found), set())
            lab.expect_that(len(found) <= 5, "messages that were found", len(found), "5 at most")


@case(Promise.DEAD_WORKERS, needs=NEEDS, time_limit=TIME_LIMIT, processes=True)
async def the_jobs_of_a_dead_worker_come_back_within_a_lease(lab: Lab) -> None:
    """When a worker is killed, another one that waits has its jobs within one lease and one ``pop_timeout``, however
    long they had been running."""
    lease, gate = short_lease(lab), gate_of(lab)
    async with Engine(lab) as engine, Workers(engine, lease_seconds=lease) as workers:
        await engine.push(Gated, keys_of(3), gate=str(gate), home=os.getpid())
        victim = workers.start()
        await victim.until("the start of all", lambda: len(engine.ledger.keys("began")) == 3)
        await lab.elapse(lease)
        async with engine.working():
            await kill(victim)
            gate.touch()
            patience = lease + POP_TIMEOUT + PATIENCE
            await engine.until("the jobs to come back", lambda: len(engine.ran) == 3, patience=patience)
        engine.expect_ran_once(keys_of(3))
        await lab.expect_counts("when all is done", engine.driver)


@case(Promise.POISON, needs=NEEDS, time_limit=TIME_LIMIT, processes=True)
async def a_job_that_kills_its_worker_comes_to_rest_and_takes_no_innocent_with_it(lab: Lab) -> None:
    """A job that ends every worker which runs it comes to rest in ``failed`` after a bounded number of deaths; the jobs
    beside it are all run and acked."""
    most, innocents = 1, keys_of(6)
    settings: dict[str, Any] = {"lease_seconds": short_lease(lab), "max_redeliveries": most, "concurrent": {"limit": 4}}
    async with Engine(lab) as engine, Workers(engine, **settings) as workers:
        await engine.push(Append, innocents[:2])
        poison = await engine.push_one(Poison, "poison", spared=os.getpid())
        await engine.push(Append, innocents[2:])

        def done() -> bool:
            return poison in engine.ledger.keys("gave up") and set(innocents) <= set(engine.ran)

        deaths = 0
        while not done():
            lab.expect_that(deaths <= 2 * most + 1, "workers that died", deaths, f"{2 * most + 1} at most")
            worker = workers.start()
            if await worker.outlives("the poison to rest", done):
                await stop(worker)
            else:
                await worker.ended(-signal.SIGKILL)
                deaths += 1
        lab.expect("runs of the poison", engine.ledger.counts("ran")["poison"], deaths)
        await lab.expect_counts("when it rests", engine.driver, failed=1)


# Stopped, and told to end.


@case(Promise.ZOMBIES, needs=(*NEEDS, "timed_leases"), time_limit=TIME_LIMIT, processes=True)
async def a_worker_that_was_stopped_past_its_lease_harms_nobody(lab: Lab) -> None:
    """A worker is stopped past its lease, and its jobs are run by another; when it goes on, its ack, its retry and its
    failure write nothing, it is told of the lost leases, and it goes on working."""
    gate = gate_of(lab)
    async with Engine(lab, lease_seconds=short_lease(lab)) as engine, Workers(engine) as workers:
        fields: dict[str, Any] = {"gate": str(gate), "home": os.getpid()}
        await engine.push_one(Gated, "acks", **fields)
        await engine.push_one(Gated, "fails", **fields, then_raise=True)
        await engine.queue.push(engine.job(Gated, "retries", **fields, then_raise=True), max_retries=1)
        zombie = workers.start()
        await zombie.until("the start of all", lambda: len(engine.ledger.keys("began")) == 3)
        zombie.signal(signal.SIGSTOP)
        gate.touch()
        await engine.work_off(["acks", "fails", "retries"])
        zombie.signal(signal.SIGCONT)
        await zombie.until("the lost leases to be told", lambda: len(set(engine.ledger.keys("lost"))) == 3)
        await engine.push_one(Append, "afterwards")
        await zombie.until("its next job", lambda: zombie.wrote("afterwards", "ran"))
        await stop(zombie)
        await lab.expect_counts("at the end", engine.driver)


@case(Promise.STOPPING, needs=NEEDS, time_limit=TIME_LIMIT, processes=True)
async def a_worker_told_to_end_ends_in_good_order(lab: Lab) -> None:
    """A worker that gets SIGTERM ends what runs, gives back what it had taken and not started, and goes; that costs no
    attempt and is not counted as a delivery."""
    gate = gate_of(lab)
    # It takes ten more than the quick ones and asks for no others, so that no pop is under way which may take with
    # it, until its lease, what is given back.
    async with Engine(lab) as engine, Workers(engine, concurrent={"limit": 2}, max_messages=50) as workers:
        await engine.push(Append, keys_of(40, "quick "))
        await engine.push(Gated, keys_of(20), gate=str(gate), home=os.getpid())
        worker = workers.start()
        await worker.until("two of them to run", lambda: len(engine.ledger.keys("began")) == 2)
        worker.signal(signal.SIGTERM)
        gate.touch()
        await worker.ended(0)
        began, done = engine.ledger.keys("began"), engine.ran
        lab.expect("what began and was not ended", set(began) - set(done), set())
        expect_uncounted(lab, await lab.take(engine.driver, 60 - len(done)))
        lab.expect("what is left beside that", ids(await lab.drain(engine.driver)), [])


# Many.


@case(Promise.CONCURRENCY, needs=NEEDS, time_limit=TIME_LIMIT, processes=True)
async def worker_processes_never_share_a_job(lab: Lab) -> None:
    """Several worker processes with one queue run each job once, as long as none of them dies."""
    async with Engine(lab) as engine, Workers(engine, concurrent={"limit": 4}) as workers:
        crew = [workers.start() for _ in range(3)]
        for worker in crew:
            await worker.started()
        keys = keys_of(200)
        for start in range(0, len(keys), 20):
            await engine.push(Append, keys[start : start + 20])
        await crew[0].until("all runs", lambda: len(engine.ran) == len(keys))
        for worker in crew:
            await stop(worker)
        engine.expect_ran_once(keys)
        await lab.expect_counts("when all is done", engine.driver)
