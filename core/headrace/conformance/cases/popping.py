"""Popping: no delivery is shared, none is lost, and a pop that is cancelled takes nothing."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from headrace.conformance.case import case
from headrace.conformance.lab import PATIENCE, Lab, ids, pairs, receipts
from headrace.conformance.moves import hold
from headrace.conformance.promises import Promise
from headrace.driver import Backend, Driver, Settled

#: Seconds in which a call that must not wait is over, in the fastest of `TRIES`; and how long it might wait, which
#: so many tries can afford.
AT_ONCE: Final = 0.5
TRIES: Final = 4
WAIT: Final = PATIENCE / 2

#: Steps of the event loop after which a call is cancelled, one by one: those within which local drivers work.
STEPS: Final = 12

#: Messages that compete for consumers: enough that each consumer meets every other one.
CROWD: Final = 400


@case(Promise.BATCHES)
async def a_pop_takes_no_more_than_its_limit(lab: Lab) -> None:
    """A pop hands out at most as many messages as it was asked for, and leaves the others to the next one."""
    queue = lab.queue()
    sent = lab.messages(5)
    await lab.in_batches(queue.push, sent)
    came: list[str] = []
    limit = min(2, lab.capabilities.max_batch)
    while len(came) < len(sent) and (deliveries := await queue.pop(limit, PATIENCE)):
        about = f"messages of a pop with the limit {limit}"
        lab.expect_that(len(deliveries) <= limit, about, len(deliveries), f"at most {limit}")
        came += ids(deliveries)
    lab.expect("the ids that came", sorted(came), sorted(each.id for each in sent))


@case(Promise.WAITING)
async def a_pop_does_not_wait_until_its_limit_is_reached(lab: Lab) -> None:
    """A pop returns at once with what there is, be it fewer than its limit."""
    queue = lab.queue()
    fastest = PATIENCE
    for _ in range(TRIES):
        await queue.push([lab.message()])
        began = time.monotonic()
        deliveries = await queue.pop(min(10, lab.capabilities.max_batch), WAIT)
        fastest = min(fastest, time.monotonic() - began)
        lab.expect("how many deliveries came", len(deliveries), 1)
        if fastest < AT_ONCE:
            return
    lab.expect_that(False, "seconds of the fastest pop", f"{fastest:.2f}", f"less than {AT_ONCE}, of {WAIT:g} allowed")


@case(Promise.WAITING)
async def a_pop_without_wait_does_not_wait(lab: Lab) -> None:
    """On an empty queue, a pop with ``wait=0`` returns nothing, and at once."""
    queue = lab.queue()
    fastest = PATIENCE
    for _ in range(TRIES):
        began = time.monotonic()
        lab.expect("what came of an empty queue", ids(await queue.pop(1, 0)), [])
        fastest = min(fastest, time.monotonic() - began)
        if fastest < AT_ONCE:
            return
    lab.expect_that(False, "seconds of the fastest pop", f"{fastest:.2f}", f"less than {AT_ONCE}")


@case(Promise.WAITING)
async def a_pop_that_finds_nothing_waits_as_long_as_it_was_asked_to(lab: Lab) -> None:
    """On an empty queue a pop waits for ``wait`` seconds, and then returns nothing."""
    queue = lab.queue()
    wait = 2 * lab.tick
    began = time.monotonic()
    lab.expect("what came of an empty queue", ids(await queue.pop(1, wait)), [])
    seconds = time.monotonic() - began
    lab.expect_that(seconds >= wait - lab.tolerance, "seconds of the pop", f"{seconds:.3f}", f"{wait:g}")
    lab.expect_that(
        seconds <= wait + PATIENCE / 2, "seconds of the pop", f"{seconds:.3f}", f"{wait:g}, or not much more"
    )


@case(Promise.CONCURRENCY)
async def what_is_reserved_is_not_handed_out_again(lab: Lab) -> None:
    """A message that was handed out is reserved, and no other pop gets it, of the same backend or of a clone."""
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    await hold(lab, queue)
    await lab.expect_nothing("while the only message is reserved", queue)
    await lab.expect_nothing("to a clone while the only message is reserved", lab.queue(prefix, on=await lab.clone()))
    await lab.expect_counts("while the only message is reserved", queue, reserved=1)


# Many at once.


@case(Promise.CONCURRENCY)
async def many_consumers_never_share_a_delivery(lab: Lab) -> None:
    """Consumers of one queue, on several loops and several on each, get every message between them, and each once."""
    prefix = lab.prefix()
    sent = lab.messages(CROWD)
    came: list[str] = []
    unsettled: list[Any] = []
    deadline = time.monotonic() + 2 * PATIENCE

    async def consume(queue: Driver) -> None:
        while len(came) < CROWD and time.monotonic() < deadline:
            deliveries = await queue.pop(min(7, lab.capabilities.max_batch), lab.tick)
            came.extend(ids(deliveries))
            if deliveries:
                results = await queue.ack(receipts(deliveries))
                unsettled.extend(result for result in results if result is not Settled.DONE)

    async def two_consumers(backend: Backend) -> None:
        await asyncio.gather(*(consume(lab.queue(prefix, on=backend)) for _ in range(2)))

    await asyncio.gather(
        two_consumers(lab.backend),
        two_consumers(await lab.clone()),
        lab.on_threads(2, two_consumers),
        lab.in_batches(lab.queue(prefix).push, sent),
    )
    twice = sorted(each for each, times in Counter(came).items() if times > 1)
    lab.expect("messages that were handed out twice", twice, [])
    lab.expect("messages that nobody got", sorted({each.id for each in sent} - set(came)), [])
    lab.expect("results of the acks, other than done", unsettled, [])


@case(Promise.CONCURRENCY)
async def every_kind_of_call_may_overlap(lab: Lab) -> None:
    """All verbs of one backend may be under way at once on its loop, and each has its effect."""
    queue = lab.queue()
    held = await hold(lab, queue, 30)
    await asyncio.gather(
        *(_done(lab, "ack", queue.ack([each.receipt])) for each in held[:10]),
        *(_done(lab, "retry", queue.retry(pairs([each]))) for each in held[10:20]),
        *(_done(lab, "fail", queue.fail(pairs([each]), "failed")) for each in held[20:]),
        *(queue.push([lab.message()]) for _ in range(10)),
        *(queue.info() for _ in range(5)),
    )
    await asyncio.gather(*(lab.take(queue, 1) for _ in range(15)), *(queue.push([lab.message()]) for _ in range(5)))
    await lab.expect_counts("in the end", queue, waiting=10, reserved=15, failed=10)


async def _done(lab: Lab, verb: str, call: Awaitable[Sequence[object]]) -> None:
    lab.expect(f"the result of {verb}", list(await call), [Settled.DONE])


# Cancelled, or abandoned.


@case(Promise.CANCELLATION)
async def a_pop_cancelled_while_it_waits_takes_nothing(lab: Lab) -> None:
    """A pop that is cancelled while it waits takes none of what comes later, and nothing is counted."""
    queue = lab.queue()
    pop = await lab.waiting_pop(queue)
    pop.cancel()
    await asyncio.wait([pop])
    sent = lab.message()
    await queue.push([sent])
    (delivery,) = await lab.expect_back(queue, [sent])
    lab.expect("how often it was handed out", delivery.count, 1)


@case(Promise.CANCELLATION)
async def pops_cancelled_at_any_moment_lose_nothing(lab: Lab) -> None:
    """Whenever a pop is cancelled, each message was handed out by it, is still due, or comes back with its lease."""
    prefix = lab.prefix()
    sent = lab.messages(60)
    consumer = await lab.clone()
    queue = lab.queue(prefix, on=consumer, lease_seconds=4 * lab.tick)
    producer = lab.queue(prefix, title="producer")
    left = {each.id for each in sent}
    for turn in range(len(sent) // 3):
        pop = lab.start(queue.pop(min(5, lab.capabilities.max_batch), PATIENCE))
        await asyncio.sleep(random.choice((0, 0, 0.001, 0.01)))
        push = lab.start(lab.in_batches(producer.push, sent[3 * turn : 3 * turn + 3]))
        for _ in range(min(turn, STEPS)):
            await asyncio.sleep(0)
        if turn > STEPS:
            await asyncio.sleep(random.random() / 50)  # for those that answer over a wire
        pop.cancel()
        await asyncio.wait([pop, push])
        if not pop.cancelled() and (deliveries := pop.result()):
            await queue.ack(receipts(deliveries))
            left.difference_update(ids(deliveries))
        push.result()
    await lab.shut(consumer)  # what it holds by its connection comes back now
    queue = lab.queue(prefix, title="rest")
    while left and (deliveries := await queue.pop(min(10, lab.capabilities.max_batch), PATIENCE)):
        left.difference_update(ids(deliveries))
    lab.expect("messages that were lost", sorted(left), [])


@case(Promise.CANCELLATION)
async def a_cancelled_push_has_stored_a_message_once_or_not_at_all(lab: Lab) -> None:
    """Whenever a push is cancelled, each of its messages is stored once or not at all, and later pushes work."""
    queue = lab.queue()
    for steps in range(STEPS):
        await _cancelled_after(steps, queue.push(lab.messages(min(2, lab.capabilities.max_batch))))
    last = lab.message()
    await queue.push([last])
    came = Counter(ids(await lab.drain(queue)))
    lab.expect("messages that came twice", sorted(each for each, times in came.items() if times > 1), [])
    lab.expect_that(last.id in came, "what came", sorted(came), f"{last.id} among it")


@case(Promise.CANCELLATION)
async def a_cancelled_ack_has_removed_the_message_or_can_be_repeated(lab: Lab) -> None:
    """Whenever an ack is cancelled, another one finds its receipt valid, or stale because the message is gone."""
    queue = lab.queue()
    await lab.in_batches(queue.push, lab.messages(STEPS))
    for steps in range(STEPS):
        held = await lab.take_one(queue)
        await _cancelled_after(steps, queue.ack([held.receipt]))
        await queue.ack([held.receipt])
    await lab.expect_counts("after every message was acked", queue)


@case(Promise.CANCELLATION)
async def a_cancelled_retry_has_given_the_message_back_or_can_be_repeated(lab: Lab) -> None:
    """Whenever a retry is cancelled, the message is due again, or still in the hands of who had it."""
    queue = lab.queue()
    for steps in range(STEPS):
        sent = lab.message()
        await queue.push([sent])
        held = await lab.take_one(queue)
        await _cancelled_after(steps, queue.retry(pairs([held])))
        await queue.retry(pairs([held]))
        (again,) = await lab.expect_back(queue, [sent])
        await queue.ack([again.receipt])
    await lab.expect_counts("after every message was acked", queue)


@case(Promise.CANCELLATION)
async def a_cancelled_failure_has_moved_the_message_or_can_be_repeated(lab: Lab) -> None:
    """Whenever a move to ``failed`` is cancelled, the message rests there, or is still in the hands of who had it."""
    queue = lab.queue()
    for steps in range(STEPS):
        (held,) = await hold(lab, queue)
        await _cancelled_after(steps, queue.fail(pairs([held]), "failed"))
        await queue.fail(pairs([held]), "failed")
    await lab.expect_counts("after every message was moved", queue, failed=STEPS)
    lab.expect_number("how many can be reloaded", await queue.reload("failed"), STEPS)


async def _cancelled_after(steps: int, call: Any) -> None:
    """Begin a call, and cancel it after so many steps of the event loop, if it is not over by then."""
    task = asyncio.ensure_future(call)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@case(Promise.DEAD_WORKERS, needs=("timed_leases",))
async def a_backend_that_is_abandoned_after_any_call_loses_nothing(lab: Lab) -> None:
    """A worker may die after any call, without closing anything: within a lease, what it held is due again."""
    stages = ("push", "pop", "ack", "retry", "fail")
    prefixes = {stage: lab.prefix() for stage in stages}
    expected = {}
    for stage, prefix in prefixes.items():
        worker = lab.queue(prefix, on=await lab.clone(), lease_seconds=8 * lab.tick, title=f"worker until {stage}")
        expected[stage] = await _work_until(lab, worker, stage)
    for stage, prefix in prefixes.items():
        came = ids(await lab.take(lab.queue(prefix), len(expected[stage])))
        lab.expect(f"the ids that came after a worker ended after its {stage}", sorted(came), sorted(expected[stage]))


async def _work_until(lab: Lab, queue: Driver, stage: str) -> list[str]:
    """Push three messages and settle them in three ways, up to one stage; the ids that must come again then."""
    sent = lab.messages(3)
    await lab.in_batches(queue.push, sent)
    if stage == "push":
        return [each.id for each in sent]
    held = await lab.take(queue, len(sent))
    left = ids(held)
    if stage in ("ack", "retry", "fail"):
        await _done(lab, "ack", queue.ack([held[0].receipt]))
        left.remove(held[0].message.id)
    if stage in ("retry", "fail"):
        await _done(lab, "retry", queue.retry(pairs(held[1:2])))
    if stage == "fail":
        await _done(lab, "fail", queue.fail(pairs(held[2:]), "failed"))
        left.remove(held[2].message.id)
    return left
