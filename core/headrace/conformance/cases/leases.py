"""Leases: what a worker holds comes back when it gives no sign of life, and only then."""

import asyncio
import time
from typing import Final

from headrace.conformance.case import case
from headrace.conformance.cases.delays import JUMP
from headrace.conformance.lab import LONG_LEASE, PATIENCE, Lab, ids, pairs, receipts
from headrace.conformance.moves import hold, long_delay
from headrace.conformance.promises import Promise
from headrace.driver import Backend, Settled

DONE: Final = Settled.DONE
STALE: Final = Settled.STALE

#: Ticks of a lease that ends within a case.
SHORT: Final = 2
#: Ticks of one that must first be used or extended: beyond what a busy machine takes for a few calls.
ENOUGH: Final = 6

#: Deliveries that come and go while one is held: enough for a backend to tidy up what it keeps of them.
THOUSANDS: Final = 3000


@case(Promise.DEAD_WORKERS, needs=("timed_leases",))
async def an_expired_lease_gives_the_message_back(lab: Lab) -> None:
    """When a lease ends unsettled the message is handed out again, unchanged, and its count is one higher each time."""
    prefix = lab.prefix()
    sent = lab.message(headers={"a": "b"}, attempt=1)
    lease = SHORT * lab.tick
    workers = [lab.queue(prefix, lease_seconds=lease), lab.queue(prefix, on=await lab.clone(), lease_seconds=lease)]
    await workers[0].push([sent])
    for count, worker in enumerate((*workers, workers[0]), start=1):
        (delivery,) = await lab.expect_back(worker, [sent])
        lab.expect("how often it was handed out", delivery.count, count)


@case(Promise.DEAD_WORKERS, needs=("timed_leases",))
async def a_lease_does_not_end_early(lab: Lab) -> None:
    """Until its lease ends, counted from when it was handed out, a message is handed out to nobody else."""
    prefix = lab.prefix()
    lease = SHORT * lab.tick
    queue = lab.queue(prefix, lease_seconds=lease)
    await queue.push([lab.message()])
    await lab.elapse(lab.tick)  # a lease begins with the delivery, not with the push
    began = time.monotonic()
    await lab.take_one(queue)
    await lab.take_one(lab.queue(prefix, title="other"))
    passed = time.monotonic() - began
    lab.expect_that(passed >= lease - lab.tolerance, "seconds until it came again", f"{passed:.3f}", f"{lease:g}")


@case(Promise.DEAD_WORKERS, needs=("timed_leases", "exact_counts"))
async def what_expired_counts_as_waiting_before_anybody_pops_it(lab: Lab) -> None:
    """From the end of its lease on a message counts as waiting, though nobody has popped it."""
    queue = lab.queue(lease_seconds=SHORT * lab.tick)
    await hold(lab, queue)
    await lab.elapse((SHORT + 1) * lab.tick)
    await lab.expect_counts("after the lease has ended", queue, waiting=1)


@case(Promise.DEAD_WORKERS, needs=("timed_leases",))
async def what_expired_is_flushed_with_what_waits(lab: Lab) -> None:
    """A message whose lease has ended is deleted by a flush of ``waiting``, as are those that never were handed out."""
    queue = lab.queue(lease_seconds=SHORT * lab.tick)
    await hold(lab, queue)
    await queue.push([lab.message()])
    await lab.elapse((SHORT + 1) * lab.tick)
    lab.expect_number("how many are flushed", await queue.flush("waiting"), 2)
    await lab.expect_nothing("after that", queue)


@case(Promise.DEAD_WORKERS, needs=("timed_leases", "peek:reserved", "peek:waiting", "cancel"))
async def what_expired_can_be_seen_and_cancelled(lab: Lab) -> None:
    """A message whose lease has ended is shown in ``waiting``, not in ``reserved``, and can be cancelled there."""
    queue = lab.queue(lease_seconds=SHORT * lab.tick)
    (lost,) = await hold(lab, queue)
    await lab.elapse((SHORT + 1) * lab.tick)
    reserved, waiting = await queue.peek("reserved", 1), await queue.peek("waiting", 1)
    lab.expect("what is shown in reserved", [each.id for each in reserved.messages], [])
    lab.expect("what is shown in waiting", [each.id for each in waiting.messages], [lost.message.id])
    lab.expect("whether it could be cancelled", await queue.cancel(lost.message.id), True)
    await lab.expect_nothing("after that", queue)


@case(Promise.DEAD_WORKERS, needs=("timed_leases",))
async def many_leases_that_end_together_all_come_back(lab: Lab) -> None:
    """When a worker dies that held many messages, all of them come back, and each once."""
    prefix = lab.prefix()
    held = await hold(lab, lab.queue(prefix, lease_seconds=ENOUGH * lab.tick, title="worker"), 100)
    deliveries = await lab.expect_back(lab.queue(prefix), [each.message for each in held])
    lab.expect("how often each was handed out", {each.count for each in deliveries}, {2})


@case(Promise.DEAD_WORKERS)
async def what_a_closed_backend_held_comes_back(lab: Lab) -> None:
    """What a backend held when it was closed is handed out again: at the end of its connection, or of its leases."""
    prefix = lab.prefix()
    worker = await lab.clone()
    lease = ENOUGH * lab.tick if lab.capabilities.leases == "timed" else LONG_LEASE
    held = await hold(lab, lab.queue(prefix, on=worker, lease_seconds=lease, title="worker"), 2)
    await lab.shut(worker)
    deliveries = await lab.expect_back(lab.queue(prefix), [each.message for each in held])
    lab.expect("how often each was handed out", [each.count for each in deliveries], [2, 2])


@case(Promise.DEAD_WORKERS, needs=("timed_leases",), time_limit=90)
async def a_lease_ends_whatever_was_settled_meanwhile(lab: Lab) -> None:
    """What a lost worker held comes back though thousands of others were handed out and settled after it."""
    prefix = lab.prefix()
    (lost,) = await hold(lab, lab.queue(prefix, lease_seconds=ENOUGH * lab.tick, title="lost"))
    queue = lab.queue(prefix)
    others = lab.messages(min(THOUSANDS, 30 * lab.capabilities.max_batch))
    await lab.in_batches(queue.push, others)
    left = {lost.message.id, *(each.id for each in others)}
    while left and (deliveries := await queue.pop(min(100, lab.capabilities.max_batch), PATIENCE)):
        await queue.ack(receipts(deliveries))
        left.difference_update(ids(deliveries))
    lab.expect("messages that did not come", sorted(left), [])


@case(Promise.DEAD_WORKERS, needs=("timed_leases",))
async def each_driver_has_its_own_lease(lab: Lab) -> None:
    """How long a delivery stays reserved is said by the driver that popped it, not by others of its queue."""
    prefix = lab.prefix()
    long, short = lab.queue(prefix, title="long"), lab.queue(prefix, lease_seconds=SHORT * lab.tick, title="short")
    (kept,) = await hold(lab, long)
    (lost,) = await hold(lab, short)
    lab.expect("what came after the shorter lease", (await lab.take_one(long)).message.id, lost.message.id)
    await lab.expect_nothing("while the longer lease lasts", short)
    lab.expect(
        "acks of the kept and the lost delivery", await lab.in_batches(long.ack, receipts([kept, lost])), [DONE, STALE]
    )


@case(Promise.ZOMBIES, needs=("timed_leases",))
async def a_receipt_is_stale_from_the_end_of_its_lease_on(lab: Lab) -> None:
    """Though nobody has popped the message meanwhile, a receipt whose lease has ended is stale, and changes nothing."""
    queue = lab.queue(lease_seconds=SHORT * lab.tick)
    (lost,) = await hold(lab, queue)
    await lab.elapse((SHORT + 1) * lab.tick)
    other = pairs([lost], attempt=9, delay=long_delay(lab))
    results = {
        "ack": await queue.ack([lost.receipt]),
        "retry": await queue.retry(other),
        "fail": await queue.fail(other, "failed"),
        "extend": await queue.extend([lost.receipt], LONG_LEASE),
    }
    found = {verb: list(result) for verb, result in results.items()}
    lab.expect("what the receipt does after its lease has ended", found, {verb: [STALE] for verb in results})
    (delivery,) = await lab.expect_back(queue, [lost.message])
    lab.expect("how often it was handed out", delivery.count, 2)


# Extending.


@case(Promise.DEAD_WORKERS, needs=("timed_leases",))
async def an_extended_lease_keeps_the_delivery(lab: Lab) -> None:
    """A delivery whose lease is extended stays reserved beyond its first end, and is settled as usual."""
    prefix = lab.prefix()
    queue = lab.queue(prefix, lease_seconds=ENOUGH * lab.tick)
    (held,) = await hold(lab, queue)
    lab.expect("the extension", list(await queue.extend([held.receipt], LONG_LEASE)), [DONE])
    await lab.elapse((ENOUGH + 1) * lab.tick)
    await lab.expect_nothing("while the extended lease lasts", lab.queue(prefix, title="other"))
    lab.expect("the ack", list(await queue.ack([held.receipt])), [DONE])


@case(Promise.DEAD_WORKERS, needs=("timed_leases",))
async def an_extension_counts_from_now(lab: Lab) -> None:
    """After an extension the lease ends so many seconds from now, later or sooner than before; nothing is counted."""
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    (held,) = await hold(lab, queue)
    for seconds in (LONG_LEASE, LONG_LEASE, SHORT * lab.tick):
        lab.expect(f"the extension by {seconds:g} s", list(await queue.extend([held.receipt], seconds)), [DONE])
    (delivery,) = await lab.expect_back(lab.queue(prefix, title="other"), [held.message])
    lab.expect("how often it was handed out", delivery.count, 2)


@case(Promise.DEAD_WORKERS, needs=("timed_leases",))
async def an_extension_concerns_no_other_delivery(lab: Lab) -> None:
    """Extending or shortening one lease leaves those of other deliveries as they are, of the same pop too."""
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    kept, lost = await hold(lab, queue, 2)
    await queue.extend([lost.receipt], SHORT * lab.tick)
    other = lab.queue(prefix, title="other")
    await lab.expect_back(other, [lost.message])
    await lab.expect_nothing("while the other lease lasts", other)
    lab.expect("the ack of the other delivery", list(await queue.ack([kept.receipt])), [DONE])


@case(Promise.DEAD_WORKERS, needs=("timed_leases",))
async def a_clone_extends_with_the_receipts_of_the_original(lab: Lab) -> None:
    """A receipt does not depend on the connection: a clone of the backend extends its lease, and settles it."""
    prefix = lab.prefix()
    (held,) = await hold(lab, lab.queue(prefix, lease_seconds=ENOUGH * lab.tick))

    async def extend(backend: Backend) -> None:
        queue = lab.queue(prefix, on=backend, title="a thread's")
        lab.expect("an extension on another thread", list(await queue.extend([held.receipt], LONG_LEASE)), [DONE])

    await lab.elsewhere(extend)
    await lab.elapse((ENOUGH + 1) * lab.tick)
    other = lab.queue(prefix, on=await lab.clone(), title="a clone's")
    await lab.expect_nothing("while the extended lease lasts", other)
    lab.expect("an ack of a clone", list(await other.ack([held.receipt])), [DONE])


@case(Promise.DEAD_WORKERS, needs=("timed_leases",), alone=True)
async def leases_are_extended_while_the_loop_is_blocked(lab: Lab) -> None:
    """While a worker's event loop is blocked, a clone on another thread keeps its leases, and it settles afterwards."""
    prefix = lab.prefix()
    lease = ENOUGH * lab.tick
    queue = lab.queue(prefix, lease_seconds=lease)
    (held,) = await hold(lab, queue)

    async def extend(backend: Backend) -> None:
        keeper = lab.queue(prefix, on=backend, title="keeper")
        for _ in range(ENOUGH):
            lab.expect("an extension meanwhile", list(await keeper.extend([held.receipt], lease)), [DONE])
            await asyncio.sleep(2 * lab.tick)

    keeping = lab.start(lab.elsewhere(extend))
    await asyncio.sleep(0)  # its thread begins
    lab.calls.note("the loop is blocked")
    time.sleep(2 * ENOUGH * lab.tick)  # noqa: ASYNC251 - this is what the case is about
    lab.calls.note("the loop is free again")
    lab.expect("the ack after that", list(await queue.ack([held.receipt])), [DONE])
    await keeping


@case(Promise.DEAD_WORKERS, needs=("timed_leases",), alone=True)
async def a_wall_clock_that_jumps_changes_no_lease(lab: Lab) -> None:
    """Leases follow the server's clock or a monotonic one: a worker's wall clock that jumps changes none of them."""
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    kept, lost = await hold(lab, queue, 2)
    with lab.wall_clock_moved(JUMP):
        await lab.expect_nothing("after the wall clock jumped forward", queue)
        await queue.extend([kept.receipt], LONG_LEASE)
    await queue.extend([lost.receipt], SHORT * lab.tick)
    with lab.wall_clock_moved(-JUMP):
        lab.expect("what came when the wall clock was put back", ids([await lab.take_one(queue)]), ids([lost]))
    lab.expect("the ack of the kept delivery", list(await queue.ack([kept.receipt])), [DONE])
