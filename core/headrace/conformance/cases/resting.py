"""Resting and removing: what lies in ``failed`` and ``timeout``, and the verbs that empty channels."""

import asyncio
import time
from typing import Any, Final, get_args

from headrace.conformance.case import case
from headrace.conformance.lab import PATIENCE, Lab, Mismatch, ids, pairs, receipts
from headrace.conformance.moves import bring, hold, long_delay
from headrace.conformance.promises import Promise
from headrace.driver import Note, RestingChannel, Settled

RESTING: Final[tuple[RestingChannel, ...]] = get_args(RestingChannel)

#: What a message has spent when it comes to rest.
SPENT: Final = {"attempt": 3, "deaths": 2, "note": Note("ValueError", "no", "Traceback ...", 1.5)}

#: More than a backend moves in one piece, if it moves large numbers in pieces; fewer where batches are small, so
#: that it ends.
MANY: Final = 1100
MOST_BATCHES: Final = 50


@case(Promise.FAILURES)
async def what_rests_is_not_handed_out(lab: Lab) -> None:
    """A message in failed or timeout stays there until somebody moves it, beyond the end of the lease that it had."""
    queue = lab.queue(lease_seconds=4 * lab.tick)
    for channel in RESTING:
        results: list[Any] = [Settled.STALE]
        await queue.push([lab.message()])
        while results == [Settled.STALE]:  # on a machine that is busy beyond measure the lease ends first
            results = list(await queue.fail(pairs([await lab.take_one(queue)]), channel))
    await lab.elapse(5 * lab.tick)
    await lab.expect_nothing("of what rests", queue)
    await lab.expect_counts("of what rests", queue, failed=1, timeout=1)


@case(Promise.MOVING)
async def a_reload_starts_messages_afresh(lab: Lab) -> None:
    """Reloaded messages wait again as they were pushed: attempt and deaths 0, no note, the count 1; how many is
    returned.
    """
    for channel in RESTING:
        queue = lab.queue(title=channel)
        sent = [lab.message(body=b"\xff\0", headers={"a": "b"}), lab.message()]
        held = await bring(lab, queue, "reserved", sent)
        await lab.in_batches(queue.fail, pairs(held, **SPENT), channel)
        lab.expect_number(f"how many were reloaded from {channel}", await queue.reload(channel), 2)
        await lab.expect_counts(f"after {channel} was reloaded", queue, waiting=2)
        deliveries = await lab.expect_back(queue, sent)
        lab.expect("their counts", [each.count for each in deliveries], [1, 1])
        lab.expect_number(f"how many are left in {channel}", await queue.reload(channel), 0)


@case(Promise.MOVING)
async def a_reload_moves_no_more_than_its_limit(lab: Lab) -> None:
    """A reload with a limit moves so many, and leaves the rest, and the other resting channel, as they are."""
    queue = lab.queue()
    await bring(lab, queue, "failed", lab.messages(4))
    await bring(lab, queue, "timeout", lab.messages(1))
    lab.expect_number("how many of 4 were reloaded with the limit 0", await queue.reload("failed", 0), 0)
    lab.expect_number("how many of 4 were reloaded with the limit 3", await queue.reload("failed", 3), 3)
    await lab.expect_counts("after that", queue, waiting=3, failed=1, timeout=1)
    lab.expect_number("how many of 1 were reloaded with the limit 3", await queue.reload("failed", 3), 1)


@case(Promise.ORDER, needs=("ordered",))
async def a_reload_moves_the_oldest_first_and_behind_what_waits(lab: Lab) -> None:
    """Reloaded are those that have rested longest, in that order; they are handed out after what waited before them."""
    queue = lab.queue()
    deliveries = await bring(lab, queue, "reserved", [lab.message(id_) for id_ in "abcd"])
    held = {each.message.id: each for each in deliveries}
    for id_ in "cadb":
        await queue.fail(pairs([held[id_]]), "failed")
    await queue.push([lab.message("waiting")])
    await queue.reload("failed", 1)
    await queue.reload("failed", 2)
    await queue.push([lab.message("last")])
    order = [(await lab.take_one(queue)).message.id for _ in range(5)]
    lab.expect("the order in which they come", order, ["waiting", "c", "a", "d", "last"])


@case(Promise.MOVING, needs=("selective:failed",))
async def chosen_messages_are_reloaded(lab: Lab) -> None:
    """A reload of chosen ids moves those of them that are in the channel, up to the limit, and returns how many."""
    queue = lab.queue()
    await bring(lab, queue, "failed", [lab.message(id_) for id_ in "abcd"])
    await bring(lab, queue, "timeout", [lab.message("e")])
    await bring(lab, queue, "waiting", [lab.message("f")])
    lab.expect_number("how many of none", await queue.reload("failed", ids=[]), 0)
    moved = await queue.reload("failed", ids=["c", "a", "e", "f", "no", "c"])
    lab.expect_number("how many of two that are there", moved, 2)
    lab.expect_number("how many of two at the limit 1", await queue.reload("failed", 1, ["d", "b"]), 1)
    await lab.expect_counts("after that", queue, waiting=4, failed=1, timeout=1)
    came = set(ids(await lab.take(queue, 4)))
    lab.expect_that(came in ({*"acfb"}, {*"acfd"}), "what waits", sorted(came), "a, c, f, and one of b and d")


@case(Promise.WAITING)
async def a_reload_wakes_a_waiting_pop(lab: Lab) -> None:
    """A pop that waits is handed what is reloaded, at once, whoever reloads it."""
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    (held,) = await bring(lab, queue, "failed", [lab.message()])
    pop = await lab.waiting_pop(queue)
    began = time.monotonic()
    await lab.queue(prefix, on=await lab.clone(), title="another").reload("failed")
    lab.expect("what the pop that waited is handed", ids(await pop), [held.message.id])
    after = time.monotonic() - began
    lab.expect_that(
        after < PATIENCE / 2, "when it was handed out", f"after {after:.1f} s", "at once, not after its wait"
    )


@case(Promise.MOVING)
async def a_reload_ends_though_more_comes_in(lab: Lab) -> None:
    """A reload ends, though all that it moves fails again at once; and none of it is lost."""
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    sent = lab.messages(30)
    await bring(lab, queue, "failed", sent)
    other = lab.queue(prefix, on=await lab.clone(), title="worker")
    size = min(10, lab.capabilities.max_batch)
    is_over = asyncio.Event()

    async def fail_all() -> None:
        while not is_over.is_set():
            if deliveries := await other.pop(size, lab.tick):
                await other.fail(pairs(deliveries), "failed")

    worker = lab.start(fail_all())
    try:
        async with asyncio.timeout(PATIENCE):
            await queue.reload("failed")
    except TimeoutError:
        raise Mismatch("a reload", f"it runs for {PATIENCE:g} s", "it ends") from None
    is_over.set()
    await worker
    await queue.reload("failed")
    await lab.expect_back(queue, sent)


@case(Promise.MOVING)
async def a_flush_empties_one_channel(lab: Lab) -> None:
    """A flush deletes all that one channel holds, returns how many, and leaves the other channels as they are."""
    queue = lab.queue()
    await bring(lab, queue, "failed", lab.messages(2))
    await bring(lab, queue, "timeout", lab.messages(3))
    (held,) = await hold(lab, queue)
    await bring(lab, queue, "delayed", lab.messages(4))
    await bring(lab, queue, "waiting", lab.messages(3))
    counts = {"failed": 2, "timeout": 3, "reserved": 1, "delayed": 4, "waiting": 3}
    await lab.expect_counts("before", queue, **counts)
    for channel in lab.removable:
        lab.expect_number(f"how many were flushed from {channel}", await queue.flush(channel), counts.pop(channel))
        await lab.expect_counts(f"after {channel} was flushed", queue, **counts)
        lab.expect_number(f"how many were left in {channel}", await queue.flush(channel), 0)
    await lab.expect_nothing("when all is flushed", queue)
    lab.expect("the result for what was held meanwhile", list(await queue.ack([held.receipt])), [Settled.DONE])


@case(Promise.MOVING)
async def what_is_reserved_is_not_flushed(lab: Lab) -> None:
    """A flush of reserved messages is a ValueError, and a forget of them too, or not there: workers run them."""
    queue = lab.queue()
    (held,) = await hold(lab, queue)
    async with lab.expect_raises("a flush of what is reserved", ValueError):
        await queue.flush("reserved")
    async with lab.expect_raises("forgetting what is reserved", ValueError, NotImplementedError):
        await queue.forget("reserved", [held.message.id])
    lab.expect("the result for what is reserved", list(await queue.ack([held.receipt])), [Settled.DONE])


@case(Promise.MOVING, needs=("selective",))
async def chosen_messages_are_forgotten(lab: Lab) -> None:
    """Forget deletes those of the chosen ids that are in the channel and returns how many; the rest stays."""
    for channel in lab.choosable:
        queue = lab.queue(title=channel)
        sent = lab.messages(3)
        await bring(lab, queue, channel, sent)
        first, second, _ = (each.id for each in sent)
        for elsewhere in lab.choosable:
            if elsewhere != channel:
                lab.expect_number(f"how many are forgotten of {elsewhere}", await queue.forget(elsewhere, [first]), 0)
        forgotten = await queue.forget(channel, [second, "no", first, first])
        lab.expect_number(f"how many are forgotten of {channel}", forgotten, 2)
        await lab.expect_counts(f"after two were forgotten of {channel}", queue, **{channel: 1})
        lab.expect_number(f"how many are left in {channel}", await queue.flush(channel), 1)


@case(Promise.MOVING, needs=("cancel",))
async def what_is_pending_can_be_cancelled(lab: Lab) -> None:
    """Cancel removes a message that waits or is delayed and says true; for any other id it says false and changes
    nothing.
    """
    queue = lab.queue()
    await bring(lab, queue, "failed", [lab.message("failed")])
    await bring(lab, queue, "reserved", [lab.message("reserved")])
    await bring(lab, queue, "delayed", [lab.message("delayed")])
    await bring(lab, queue, "waiting", [lab.message("waiting"), lab.message("stays")])
    answers = {id_: await queue.cancel(id_) for id_ in ("waiting", "delayed", "reserved", "failed", "unknown")}
    expected = {"waiting": True, "delayed": True, "reserved": False, "failed": False, "unknown": False}
    lab.expect("the answers", answers, expected)
    lab.expect("the answer the second time", await queue.cancel("waiting"), False)
    await lab.expect_counts("after that", queue, waiting=1, reserved=1, failed=1)
    lab.expect("what is handed out", (await lab.take_one(queue)).message.id, "stays")


@case(Promise.MOVING)
async def destroying_removes_all_that_a_queue_holds(lab: Lab) -> None:
    """Destroy empties every channel, what is reserved too, and leaves nothing that could come back."""
    queue = lab.queue(lease_seconds=4 * lab.tick)
    await bring(lab, queue, "failed", lab.messages(2))
    await bring(lab, queue, "timeout", lab.messages(2))
    held = await hold(lab, queue, 2)
    await queue.delay(lab.messages(1, delay=2 * lab.tick))
    await bring(lab, queue, "waiting", lab.messages(2))
    await queue.destroy()
    await lab.expect_counts("after it was destroyed", queue)
    lab.expect("the result for what was held", await lab.in_batches(queue.ack, receipts(held)), [Settled.STALE] * 2)
    await lab.elapse(5 * lab.tick)
    await lab.expect_nothing("after leases and delays would have ended", queue)
    for channel in lab.removable:
        lab.expect_number(f"how many are left in {channel}", await queue.flush(channel), 0)


@case(Promise.MOVING)
async def a_destroyed_queue_is_made_anew_by_a_push(lab: Lab) -> None:
    """A queue can be destroyed when it is empty, never was used, or is destroyed already; a later push works as on a
    new one.
    """
    queue = lab.queue()
    await queue.destroy()
    first = lab.message()
    await queue.push([first])
    await lab.expect_back(queue, [first])
    await queue.destroy()
    await queue.destroy()
    # The same id again: nothing of the first is remembered.
    await queue.push([first])
    await queue.delay([lab.message(delay=long_delay(lab))])
    await lab.expect_counts("after pushes to the destroyed queue", queue, waiting=1, delayed=1)
    deliveries = await lab.expect_back(queue, [first])
    lab.expect("its count", deliveries[0].count, 1)


@case(Promise.MOVING)
async def other_queues_are_left_alone(lab: Lab) -> None:
    """Reload, flush and destroy touch no queue but their own, even one whose prefix begins alike."""
    prefixes = lab.prefixes("", "2")
    queue, other = (lab.queue(prefix, title=title) for prefix, title in zip(prefixes, ("queue", "other"), strict=True))
    for each in (queue, other):
        await bring(lab, each, "failed", lab.messages(1))
        await bring(lab, each, "timeout", lab.messages(1))
        await bring(lab, each, "delayed", lab.messages(1))
        await bring(lab, each, "waiting", lab.messages(1))
    counts = {"failed": 1, "timeout": 1, "delayed": 1, "waiting": 1}
    await queue.reload("failed")
    for channel in lab.removable:
        await queue.flush(channel)
    await lab.expect_counts("of the other queue after flushes", other, **counts)
    await queue.destroy()
    await lab.expect_counts("of the other queue after the one was destroyed", other, **counts)
    lab.expect_number("how many the other queue reloads", await other.reload("failed"), 1)


@case(Promise.MOVING, time_limit=90.0)
async def large_reloads_and_flushes_are_complete(lab: Lab) -> None:
    """Reload and flush move all of a thousand messages, and count them right."""
    queue = lab.queue()
    count = min(MANY, MOST_BATCHES * lab.capabilities.max_batch)
    rest = count // 4
    await bring(lab, queue, "failed", lab.messages(count))
    lab.expect_number("how many are reloaded at a limit", await queue.reload("failed", count - rest), count - rest)
    lab.expect_number("how many are reloaded of the rest", await queue.reload("failed"), rest)
    lab.expect_number("how many are flushed", await queue.flush("waiting"), count)
    await lab.expect_counts("after that", queue)
