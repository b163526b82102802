"""The engine between a backend that fails and jobs that must not notice."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.conformance.case import case
from headrace.conformance.engine import POP_TIMEOUT, Engine, keys_of
from headrace.conformance.faulty import Fault, FaultyBackend
from headrace.conformance.jobs import ALWAYS, Append, Blocking, Failing, Gated, Sleeping
from headrace.conformance.lab import PATIENCE, Lab
from headrace.conformance.promises import Promise
from headrace.driver import Backend
from headrace.errors import BackendUnavailable
from headrace.events import BackendBack, BackendLost, BeforeHandle, FailedHandle, LeaseLost


@case(Promise.CONNECTIONS)
async def an_outage_costs_no_message(lab: Lab) -> None:
    """While the backend cannot be reached, a worker keeps what it has and goes on trying, and a push says that it
    failed; when the backend is back, every message is accounted for."""
    shaky, gate = FaultyBackend(lab.backend), lab.harness.folder / "gate"
    # What a pop took when it was cut off comes back by its lease; the others' must outlast the outage.
    lease = 20 * lab.tick
    async with Engine(lab, backend=shaky, retry_seconds=0, lease_seconds=lease) as engine:
        fields: dict[str, Any] = {"gate": str(gate), "home": os.getpid()}
        await engine.push(Gated, ["ends well"], **fields)
        await engine.queue.push(engine.job(Failing, "recovers", times=1, seconds=2 * lab.tick), max_retries=1)
        await engine.push(Failing, ["fails"], times=ALWAYS, seconds=2 * lab.tick)
        async with engine.working():
            await engine.until("the start of all", lambda: len(engine.heard(BeforeHandle)) == 3)
            shaky.disconnect()
            gate.touch()
            await engine.until("the loss to be told", lambda: engine.heard(BackendLost))
            await engine.until("their ends", lambda: {"ends well", "recovers", "fails"} <= set(engine.ledger.keys()))
            async with lab.expect_raises("a push during the outage", BackendUnavailable):
                await engine.push_one(Append, "refused")
            shaky.heal()
            await engine.until("the return to be told", lambda: engine.heard(BackendBack))
            await engine.push(Append, ["afterwards"])
            await engine.until(
                "the end of all",
                lambda: {"recovers", "afterwards"} <= set(engine.ran) and engine.ledger.keys("failed"),
                patience=lease + PATIENCE,
            )
        engine.expect_ran_once(["ends well", "recovers", "afterwards"])
        lab.expect("leases that were lost", engine.heard(LeaseLost), [])
        await lab.expect_counts("at the end", engine.driver, failed=1)


@case(Promise.CONNECTIONS)
async def acks_that_get_no_answer_cost_nothing(lab: Lab) -> None:
    """Where an ack is lost, or its answer, it is sent again: no job is lost, and none runs again."""
    shaky = FaultyBackend(lab.backend, Fault("ack", "fail", every=3), Fault("ack", "fail", when="after", every=2))
    async with Engine(lab, backend=shaky, concurrent={"limit": 2}) as engine:
        await engine.push(Sleeping, keys_of(10), seconds=lab.tick / 25)
        await engine.work_off(keys_of(10))
        lab.expect_that(len(shaky.happened) > 1, "the faults", shaky.happened, "two or more")
        engine.expect_ran_once(keys_of(10))
        await lab.expect_counts("at the end", engine.driver)


@case(Promise.CONNECTIONS)
async def retries_that_get_no_answer_cost_nothing(lab: Lab) -> None:
    """Where a failed job is given back and the answer is lost, it is run again once, and spends one retry."""
    shaky = FaultyBackend(lab.backend, Fault("retry", "fail", when="after", every=2), Fault("retry", "fail", at=1))
    async with Engine(lab, backend=shaky, max_retries=2, retry_seconds=lab.tick) as engine:
        await engine.push(Failing, keys_of(6), times=1)
        await engine.work_off(keys_of(6))
        lab.expect_that(len(shaky.happened) > 0, "the faults", shaky.happened, "one or more")
        lab.expect("how often each raised", dict(engine.ledger.counts("raised")), dict.fromkeys(keys_of(6), 1))
        engine.expect_ran_once(keys_of(6))
        await lab.expect_counts("at the end", engine.driver)


@case(Promise.CONNECTIONS)
async def failures_that_get_no_answer_cost_nothing(lab: Lab) -> None:
    """Where a message is moved to ``failed`` and the answer is lost, it rests there once."""
    shaky = FaultyBackend(lab.backend, Fault("fail", "fail", when="after", every=2), Fault("fail", "fail", at=1))
    async with Engine(lab, backend=shaky) as engine:
        await engine.push(Failing, keys_of(6), times=ALWAYS)
        # Where the backend cannot be asked what it has, a lost answer is told as a lost lease.
        await engine.work_until("their ends", lambda: len(engine.heard(FailedHandle, LeaseLost)) == 6)
        lab.expect_that(len(shaky.happened) > 0, "the faults", shaky.happened, "one or more")
        lab.expect("how often each raised", dict(engine.ledger.counts("raised")), dict.fromkeys(keys_of(6), 1))
        if "failed" in lab.shown:
            lab.expect("calls of failed()", dict(engine.ledger.counts("failed")), dict.fromkeys(keys_of(6), 1))
        await lab.expect_counts("at the end", engine.driver, failed=6)


@case(Promise.CONNECTIONS)
async def a_push_that_gets_no_answer_says_so(lab: Lab) -> None:
    """A push whose answer is lost raises `BackendUnavailable`; what it had stored is run."""
    shaky = FaultyBackend(lab.backend, Fault("push", "fail", when="after", at=1))
    async with Engine(lab, backend=shaky) as engine:
        async with lab.expect_raises("the push", BackendUnavailable):
            await engine.push_one(Append, "stored")
        await engine.work_off(["stored"])
        await lab.expect_counts("at the end", engine.driver)


@case(Promise.CONNECTIONS)
async def a_push_that_never_ends_is_given_up(lab: Lab) -> None:
    """A push that gets no answer within ``push_timeout`` raises `BackendUnavailable`."""
    stuck = FaultyBackend(lab.backend, Fault("push", "delay", seconds=100 * PATIENCE))
    async with (
        Engine(lab, backend=stuck, push_timeout=2 * lab.tick) as engine,
        asyncio.timeout(PATIENCE),
        lab.expect_raises("the push", BackendUnavailable),
    ):
        await engine.push_one(Append, "stuck")


@case(Promise.CONNECTIONS, needs=("idempotent",))
async def a_push_repeated_with_its_id_is_stored_once(lab: Lab) -> None:
    """A push with an id of its own can be repeated when its answer was lost: the job is stored once."""
    shaky = FaultyBackend(lab.backend, Fault("push", "fail", when="after", at=1))
    async with Engine(lab, backend=shaky) as engine:
        job = engine.job(Append, "stored")
        async with lab.expect_raises("the push", BackendUnavailable):
            await engine.queue.push(job, id="mine")
        lab.expect("the id", await engine.queue.push(job, id="mine"), "mine")
        await lab.expect_counts("after two pushes", engine.driver, waiting=1)
        await engine.work_off(["stored"])
        lab.expect("how often it ran", engine.ran, {"stored": 1})


@case(Promise.CONNECTIONS, needs=("timed_leases",))
async def deliveries_that_never_arrive_come_back(lab: Lab) -> None:
    """Where a pop took messages and its answer was lost, they are handed out again when their lease ends."""
    shaky = FaultyBackend(lab.backend, Fault("pop", "fail", when="after", at=1))
    async with Engine(lab, backend=shaky, lease_seconds=4 * lab.tick) as engine:
        await engine.push(Append, keys_of(5))
        await engine.work_off(keys_of(5))
        await lab.expect_counts("at the end", engine.driver)


@case(Promise.CONNECTIONS)
async def calls_that_arrive_twice_do_what_one_does(lab: Lab) -> None:
    """A client that sends a call again, since it has got no answer, does no harm: the second one finds receipts that
    are over, and changes nothing."""
    shaky = FaultyBackend(lab.backend, *(Fault(verb, "duplicate") for verb in ("ack", "retry", "fail")))
    async with Engine(lab, backend=shaky, max_retries=1, retry_seconds=lab.tick) as engine:
        await engine.push(Append, keys_of(4))
        await engine.push(Failing, ["recovers"], times=1)
        await engine.push(Failing, ["fails"], times=ALWAYS)
        await engine.work_until(
            "all runs", lambda: len(engine.ran) == 5 and engine.ledger.counts("raised")["fails"] == 2
        )
        engine.expect_ran_once([*keys_of(4), "recovers"])
        lab.expect("how often each raised", dict(engine.ledger.counts("raised")), {"recovers": 1, "fails": 2})
        await lab.expect_counts("at the end", engine.driver, failed=1)


@case(Promise.CONNECTIONS)
async def a_slow_backend_costs_only_time(lab: Lab) -> None:
    """Where every call takes long, every job still runs once."""
    slow = FaultyBackend(lab.backend, Fault("*", "delay", seconds=lab.tick))
    async with Engine(lab, backend=slow, max_retries=1, retry_seconds=0) as engine:
        await engine.push(Append, keys_of(6))
        await engine.push(Failing, ["recovers"], times=1)
        keys = [*keys_of(6), "recovers"]
        await engine.work_off(keys)
        engine.expect_ran_once(keys)
        await lab.expect_counts("at the end", engine.driver)


# A server that is lost, where the harness can do that.


async def while_working(lab: Lab, disturb: Callable[[], Awaitable[None]]) -> None:
    """Disturb a worker amid its jobs, and expect that it goes on, and that none is lost."""
    keys, later = keys_of(60), keys_of(10, "later ")
    async with Engine(lab, lease_seconds=8 * lab.tick, concurrent={"limit": 4}) as engine:
        await engine.push(Sleeping, keys, seconds=lab.tick / 5)
        async with engine.working():
            await engine.until("some jobs to be run", lambda: len(engine.ran) >= 10)
            await disturb()
            patience = 8 * lab.tick + POP_TIMEOUT + 3 * PATIENCE
            await engine.until("the others to be run", lambda: set(keys) <= set(engine.ran), patience=patience)
            await engine.push(Append, later)
            await engine.until("what was pushed later", lambda: {*keys, *later} <= set(engine.ran), patience=patience)
        await engine.finish(8 * lab.tick + 2 * POP_TIMEOUT)
        await lab.expect_counts("when all is done", engine.driver)


@case(Promise.CONNECTIONS, needs=("durable",), abilities=("restart",), alone=True, time_limit=90)
async def a_worker_goes_on_when_its_server_has_restarted(lab: Lab) -> None:
    """A server that ends without grace while a worker is busy, and starts again, costs no job; the worker goes on."""
    await while_working(lab, lab.restart)


@case(Promise.CONNECTIONS, abilities=("disconnect",), alone=True, time_limit=90)
async def a_worker_goes_on_when_its_connections_were_broken(lab: Lab) -> None:
    """Connections that break while a worker is busy cost no job, and the worker goes on."""
    await while_working(lab, lab.disconnect)


# Leases.


@case(Promise.DEAD_WORKERS, alone=True)
async def a_handler_that_blocks_the_loop_keeps_its_job(lab: Lab) -> None:
    """A handler that blocks its worker's event loop for longer than a lease keeps its job: nobody else gets it."""
    lease = 6 * lab.tick
    async with Engine(lab, lease_seconds=lease) as engine:
        prefix = engine.prefixes[engine.queue.name]

        async def rival(backend: Backend) -> list[str]:
            queue = lab.queue(prefix, on=backend, title="rival")
            got: list[str] = []
            await engine.until("its start", lambda: engine.ledger.keys("began"))
            while not engine.ledger.keys("ran"):
                got += [each.message.id for each in await queue.pop(1, lab.tick)]
            return got

        await engine.push(Blocking, ["blocking"], seconds=1.5 * lease)
        taken = lab.start(lab.elsewhere(rival))
        await engine.work_off(["blocking"])
        lab.expect("what another consumer got meanwhile", await taken, [])
        lab.expect("how often it ran", engine.ran, {"blocking": 1})
        lab.expect("leases that were lost", engine.heard(LeaseLost), [])
        await lab.expect_counts("at the end", engine.driver)


@case(Promise.ZOMBIES, needs=("timed_leases",))
async def the_late_end_of_a_job_whose_lease_ran_out_writes_nothing(lab: Lab) -> None:
    """Where a lease could not be extended, another worker runs its job again; when the first run ends, late, nothing is
    written, and the lost lease is told."""
    shaky, gate = FaultyBackend(lab.backend, Fault("extend", "fail")), lab.harness.folder / "gate"
    async with Engine(lab, backend=shaky, lease_seconds=4 * lab.tick) as engine:
        await engine.push(Gated, ["twice"], gate=str(gate), home=os.getpid())
        # Of one slot each, so that the other one takes it: the first would go on with what it has in hand.
        async with engine.working(concurrency=1), engine.working(concurrency=1):
            await engine.until("its second start", lambda: len(engine.ledger.keys("began")) == 2)
            gate.touch()
            await engine.until("the lost lease to be told", lambda: engine.heard(LeaseLost))
        await lab.expect_counts("at the end", engine.driver)
