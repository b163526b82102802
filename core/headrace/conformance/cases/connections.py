"""Connections: what a driver does when its server restarts, or the network between them breaks."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from headrace.conformance.case import case
from headrace.conformance.cases.claims import descriptors
from headrace.conformance.lab import PATIENCE, Lab, Mismatch, ids, pairs, receipts
from headrace.conformance.moves import bring, hold
from headrace.conformance.promises import Promise
from headrace.driver import Delivery, Driver, Message, Settled
from headrace.errors import BackendUnavailable

T = TypeVar("T")

#: Seconds that a call may take, beyond what it was asked to wait, when nobody answers: the contract's "some", and more.
SOME: Final = 15.0

#: Seconds that a case of this module may take: several calls of it may have to be given up.
LIMIT: Final = 90.0

#: Seconds before each of several breaks of the connections, so that they strike calls at different steps.
PAUSES: Final = (0.0, 0.001, 0.002, 0.004, 0.008, 0.016)

#: How often a case tries to strike calls.
ROUNDS: Final = 3

#: Callers that push at once.
PUSHERS: Final = 4

#: Descriptors, threads and tasks that others may have more of after a restart: the backend that stayed open, a
#: server that lives in this process.
OTHERS: Final = 10


async def _outcome(about: str, call: Awaitable[T], *, wait: float = 0.0) -> T | BackendUnavailable:
    """What a call gives, or the error that the contract has for a backend out of reach. Fails on anything else."""
    expected = "an answer or BackendUnavailable"
    clock = asyncio.timeout(wait + SOME)
    try:
        async with clock:
            return await call
    except BackendUnavailable as error:
        return error
    except Mismatch:
        raise
    except Exception as error:
        if clock.expired():
            raise Mismatch(about, f"no end after {wait + SOME:g} s", expected) from None
        raise Mismatch(about, f"{type(error).__module__}.{type(error).__name__}: {error}", expected) from error


async def _calm(lab: Lab) -> None:
    """Give connections that are broken the time to be found so."""
    await lab.elapse(lab.tick)


async def _expect_works(lab: Lab, queue: Driver) -> None:
    """A driver that was made before goes on as if nothing had been."""
    sent = lab.message()
    await queue.push([sent])
    deliveries = await lab.take(queue, 1)
    lab.expect("what comes of a push afterwards", ids(deliveries), [sent.id])
    await queue.ack(receipts(deliveries))


async def _gathered(lab: Lab, queue: Driver, awaited: set[str]) -> Counter[str]:
    """Take and ack, from every channel, until all of ``awaited`` have come; how often each id came."""
    found: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE  # from the last that came: there may be many
    while not awaited <= set(found) and loop.time() < deadline:
        await queue.reload("failed")
        await queue.reload("timeout")
        deliveries = await queue.pop(min(10, lab.capabilities.max_batch), lab.tick)
        found.update(each.message.id for each in deliveries)
        if deliveries:
            await queue.ack(receipts(deliveries))
            deadline = loop.time() + PATIENCE
    lab.expect("what is lost", sorted(awaited - set(found)), [])
    return found


# Restarts.


@case(Promise.AT_LEAST_ONCE, needs=("durable",), abilities=("restart",), alone=True, time_limit=LIMIT)
async def what_was_stored_survives_a_restart(lab: Lab) -> None:
    """Messages that waited, were delayed or rested are found in their channels after the server was ended and started
    again.
    """
    queue = lab.queue()
    await bring(lab, queue, "failed", lab.messages(2))
    await bring(lab, queue, "timeout", lab.messages(1))
    await bring(lab, queue, "delayed", lab.messages(2))
    sent = lab.messages(3)
    await bring(lab, queue, "waiting", sent)
    await lab.restart()
    await _calm(lab)
    await lab.expect_counts("after the restart", queue, failed=2, timeout=1, delayed=2, waiting=3)
    await lab.expect_back(queue, sent)
    lab.expect_number("how many can be reloaded", await queue.reload("failed"), 2)


@case(Promise.CONNECTIONS, abilities=("restart",), alone=True, time_limit=LIMIT)
async def a_pop_that_waits_through_a_restart_ends(lab: Lab) -> None:
    """A pop during which the server restarts returns, or raises BackendUnavailable; the same driver works again after
    it.
    """
    queue = lab.queue()
    wait = 4 * lab.tick
    pop = lab.start(_outcome("a pop through a restart", queue.pop(1, wait), wait=wait))
    await lab.elapse(lab.tick)
    await lab.restart()
    outcome = await pop
    if not isinstance(outcome, BackendUnavailable):
        lab.expect("what the pop gives", list(outcome), [])
    await _calm(lab)
    await _expect_works(lab, queue)


@case(Promise.AT_LEAST_ONCE, needs=("durable",), abilities=("restart",), alone=True, time_limit=LIMIT)
async def what_was_held_through_a_restart_is_settled_or_comes_back(lab: Lab) -> None:
    """A delivery whose server restarts before it is settled can still be settled, or is handed out again: it is never
    lost.
    """
    queue = lab.queue(lease_seconds=8 * lab.tick)
    held = await hold(lab, queue, 4)
    await lab.restart()
    await _calm(lab)
    done: list[Delivery] = []
    for delivery in held:
        outcome = await _outcome("an ack after a restart", queue.ack([delivery.receipt]))
        if not isinstance(outcome, BackendUnavailable) and list(outcome) == [Settled.DONE]:
            done.append(delivery)
    settled = {each.message.id for each in done}
    found = await _gathered(lab, queue, {each.message.id for each in held} - settled)
    lab.expect("what came though its ack was done", sorted(settled & set(found)), [])


@case(Promise.CONNECTIONS, abilities=("restart",), alone=True, time_limit=LIMIT)
async def every_call_during_a_restart_ends(lab: Lab) -> None:
    """Whatever is called while the server is away ends in bounded time, with an answer or BackendUnavailable and no
    other error.
    """
    queue = lab.queue()
    # Nothing that a stale receipt could belong to: only whether the calls end is asked here.
    (delivery,) = await hold(lab, queue)
    calls = _calls(lab, queue, delivery)
    is_back = asyncio.Event()

    async def keep_calling(verb: str) -> None:
        while not is_back.is_set():
            await _outcome(f"{verb} during a restart", calls[verb](), wait=lab.tick)
            await asyncio.sleep(lab.tick / 50)

    callers = [lab.start(keep_calling(verb)) for verb in calls]
    await lab.elapse(lab.tick)
    await lab.restart()
    is_back.set()
    await asyncio.gather(*callers)
    await _calm(lab)
    await queue.destroy()
    await _expect_works(lab, queue)


def _calls(lab: Lab, queue: Driver, delivery: Delivery) -> Mapping[str, Callable[[], Awaitable[Any]]]:
    """A call of every verb that the backend has."""
    claimed = lab.capabilities
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "push": lambda: queue.push([lab.message()]),
        "delay": lambda: queue.delay([lab.message(delay=lab.tick)]),
        "pop": lambda: queue.pop(1, lab.tick),
        "ack": lambda: queue.ack([delivery.receipt]),
        "retry": lambda: queue.retry(pairs([delivery])),
        "fail": lambda: queue.fail(pairs([delivery]), "failed"),
        "reload": lambda: queue.reload("failed"),
        "flush": lambda: queue.flush("timeout"),
        "info": queue.info,
    }
    if claimed.leases == "timed":
        calls["extend"] = lambda: queue.extend([delivery.receipt], 60.0)
    if lab.shown:
        calls["peek"] = lambda: queue.peek(lab.shown[0], 10)
    if claimed.cancel:
        calls["cancel"] = lambda: queue.cancel("unknown")
    if lab.choosable:
        calls["forget"] = lambda: queue.forget(lab.choosable[0], ["unknown"])
    if claimed.wait_ready:
        calls["wait_ready"] = lambda: queue.wait_ready(lab.tick)
    return calls


@case(Promise.CONNECTIONS, abilities=("restart",), alone=True, time_limit=LIMIT)
async def opening_during_a_restart_works_or_leaves_nothing(lab: Lab) -> None:
    """A backend that is opened while the server is away opens, or raises BackendUnavailable; closed, it has left no
    connection, thread or task; a later clone of it works.
    """
    is_back = asyncio.Event()
    before = _resources()

    async def keep_opening() -> int:
        failed = 0
        while not is_back.is_set():
            backend = lab.backend.clone()
            failed += isinstance(await _outcome("opening during a restart", backend.open()), BackendUnavailable)
            await _outcome("closing during a restart", backend.close())
            await asyncio.sleep(lab.tick / 50)
        return failed

    opener = lab.start(keep_opening())
    await lab.restart()
    is_back.set()
    failed = await opener
    await _calm(lab)
    grown = _resources() - before
    about = f"connections, threads and tasks that came to stay, of {failed} failures to open"
    lab.expect_that(grown < max(failed, OTHERS), about, grown, f"none, or fewer than {OTHERS} of others")
    await _expect_works(lab, lab.queue(on=await lab.clone()))


def _resources() -> int:
    """What a backend that was not closed properly would leave, all together."""
    return descriptors() + threading.active_count() + len(asyncio.all_tasks())


@case(Promise.DEAD_WORKERS, needs=("timed_leases",), abilities=("restart",), alone=True, time_limit=LIMIT)
async def a_clone_extends_leases_after_a_restart(lab: Lab) -> None:
    """The clone that keeps a worker's leases finds the server again too; what the server still holds is extended."""
    prefix = lab.prefix()
    keeper = lab.queue(prefix, on=await lab.clone(), title="keeper")
    queue = lab.queue(prefix)
    await lab.restart()
    await _calm(lab)
    (before,) = await hold(lab, queue)
    lab.expect("the result of extending", list(await keeper.extend([before.receipt], 60.0)), [Settled.DONE])


# Connections that break while the server lives.


@case(Promise.CONNECTIONS, abilities=("disconnect",), alone=True, time_limit=LIMIT)
async def a_pop_whose_connection_breaks_ends(lab: Lab) -> None:
    """A pop whose connection breaks while it waits returns, or raises BackendUnavailable; what is pushed after that is
    not lost.
    """
    queue = lab.queue(lease_seconds=4 * lab.tick)
    wait = 4 * lab.tick
    pop = lab.start(_outcome("a pop whose connection breaks", queue.pop(1, wait), wait=wait))
    await lab.elapse(lab.tick)
    await lab.disconnect()
    await _calm(lab)
    sent = lab.message()
    await queue.push([sent])
    outcome = await pop
    if not isinstance(outcome, BackendUnavailable) and outcome:
        lab.expect("what the pop gives", ids(outcome), [sent.id])
    await _gathered(lab, queue, {sent.id})
    await _expect_works(lab, queue)


@case(Promise.AT_LEAST_ONCE, abilities=("disconnect",), alone=True, time_limit=LIMIT)
async def connections_that_break_in_mid_call_lose_nothing(lab: Lab) -> None:
    """Whatever is under way when connections break ends with an answer or BackendUnavailable, and every message whose
    removal was not asked for is still there, or comes back by its lease."""
    for _ in range(ROUNDS):
        await _break_in_mid_call(lab)


async def _disconnect_often(lab: Lab) -> None:
    for pause in PAUSES:
        await asyncio.sleep(pause)
        await lab.disconnect()


async def _break_in_mid_call(lab: Lab) -> None:
    queue = lab.queue(lease_seconds=8 * lab.tick)
    (resting,) = await bring(lab, queue, "failed", [lab.message("resting")])
    names = ["acked", "given back", "failed", "extended"]
    held = dict(zip(names, await bring(lab, queue, "reserved", [lab.message(name) for name in names]), strict=True))
    await queue.push([lab.message("waiting")])
    calls: dict[str, Awaitable[Any]] = {
        "push": queue.push([lab.message("pushed")]),
        "delay": queue.delay([lab.message("delayed", delay=lab.tick)]),
        "pop": queue.pop(1, lab.tick),
        "ack": queue.ack([held["acked"].receipt]),
        "retry": queue.retry(pairs([held["given back"]])),
        "fail": queue.fail(pairs([held["failed"]]), "timeout"),
        "reload": queue.reload("failed"),
        "info": queue.info(),
    }
    if lab.capabilities.leases == "timed":
        calls["extend"] = queue.extend([held["extended"].receipt], 4 * lab.tick)
    running = {
        verb: lab.start(_outcome(f"{verb} when connections break", call, wait=lab.tick)) for verb, call in calls.items()
    }
    await _disconnect_often(lab)
    outcomes = {verb: await task for verb, task in running.items()}
    await _calm(lab)
    kept = {resting.message.id, "waiting", "given back", "failed", "extended"}
    if _stored(outcomes["push"]):
        kept.add("pushed")
    if _stored(outcomes["delay"]):
        kept.add("delayed")
    found = await _gathered(lab, queue, kept)
    known = {*kept, "pushed", "delayed"}
    # What was acked on its connection is only known to have been sent there.
    confirmed = lab.capabilities.leases == "timed"
    if isinstance(outcomes["ack"], BackendUnavailable) or list(outcomes["ack"]) != [Settled.DONE] or not confirmed:
        known.add("acked")
    lab.expect("what comes that was never pushed, or whose ack was done", sorted(set(found) - known), [])
    await _expect_works(lab, lab.queue())


def _stored(outcome: Any) -> bool:
    return not isinstance(outcome, BackendUnavailable) and isinstance(outcome[0], str)


@case(Promise.IDENTICAL, needs=("idempotent",), abilities=("disconnect",), alone=True, time_limit=LIMIT)
async def a_push_whose_connection_broke_can_be_repeated(lab: Lab) -> None:
    """A push that got no answer is repeated with its id until it gets one; then there is one message of that id, not
    two.
    """
    queue = lab.queue()
    sent: list[Message] = []
    is_over = asyncio.Event()

    async def keep_pushing() -> None:
        while not is_over.is_set():
            message = lab.message()
            sent.append(message)
            for _ in range(10 * len(PAUSES)):
                if _stored(await _outcome("a push whose connection breaks", queue.push([message]))):
                    break
                await asyncio.sleep(lab.tick / 50)
            else:
                raise Mismatch("a push that is repeated", "it gets no answer", "it is stored when connections work")

    pushers = [lab.start(keep_pushing()) for _ in range(PUSHERS)]
    for _ in range(ROUNDS):
        await _disconnect_often(lab)
    is_over.set()
    await asyncio.gather(*pushers)
    pushed = {each.id for each in sent}
    found = await _gathered(lab, queue, pushed)
    found.update(ids(await lab.drain(queue)))
    wrong = {id_: count for id_, count in found.items() if count > 1 or id_ not in pushed}
    lab.expect("what came more than once, or was never pushed", wrong, {})
