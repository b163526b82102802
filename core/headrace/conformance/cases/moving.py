"""Moving to another queue: what `Driver.store` takes in as it rested elsewhere, and what `Driver.lend` hands out."""

import asyncio
import time
from typing import Any, Final

import msgspec

from headrace.conformance.case import CLAIMABLE, case
from headrace.conformance.lab import PATIENCE, Lab, Mismatch, ids, receipts
from headrace.conformance.moves import bring
from headrace.conformance.promises import Promise
from headrace.driver import Channel, Delivery, Driver, Note, RestingChannel, Settled, in_order

RESTING: Final[tuple[RestingChannel, ...]] = ("failed", "timeout")

#: What a message has that has been through something.
SPENT: Final[dict[str, Any]] = {
    "body": b"\xff\0",
    "attempt": 2,
    "deaths": 1,
    "headers": {"a": "\N{SNOWMAN}"},
    "note": Note("ValueError", "no", "x" * 1000, 1.5),
}


# Taking in.


@case(Promise.MOVING, needs=("store",))
async def stored_messages_rest_and_are_due_for_nobody(lab: Lab) -> None:
    """What is stored in failed or timeout is counted there, is not handed out, and can be reloaded."""
    for channel in RESTING:
        queue = lab.queue(title=channel)
        sent = lab.messages(3, **SPENT)
        stored = await lab.in_batches(queue.store, sent, channel)
        lab.expect("the ids that store returns", stored, [each.id for each in sent])
        await lab.expect_nothing(f"of {channel}", queue)
        await lab.expect_counts(f"after three were stored in {channel}", queue, **{channel: 3})
        lab.expect_number("how many are reloaded", await queue.reload(channel), 3)
        afresh = [msgspec.structs.replace(each, attempt=0, deaths=0, note=None) for each in sent]
        await lab.expect_back(queue, afresh)


@case(Promise.MOVING, needs=("store", "peek:failed", "peek:timeout"))
async def stored_messages_rest_as_they_stand(lab: Lab) -> None:
    """What is stored keeps every field: body, headers, attempt, deaths, and why it failed."""
    for channel in RESTING:
        queue = lab.queue(title=channel)
        sent = lab.message(**SPENT)
        await queue.store([msgspec.structs.replace(sent, delay=60.0)], channel)
        (shown,) = (await queue.peek(channel, 2)).messages
        lab.expect_same("the message", shown, sent)


@case(Promise.IDENTICAL, needs=("store", "idempotent"))
async def storing_an_id_that_the_queue_holds_stores_nothing_new(lab: Lab) -> None:
    """A store of an id that the queue has in whatever channel leaves that alone, and counts as stored."""
    queue = lab.queue()
    failed, waiting, new = lab.messages(3)
    await queue.store([failed], "failed")
    await queue.push([waiting])
    again = [msgspec.structs.replace(each, body=b"other") for each in (failed, waiting, new)]
    for channel in RESTING:
        stored = await lab.in_batches(queue.store, again, channel)
        lab.expect("the ids that store returns", stored, [each.id for each in again])
    lab.expect("the id that a push of it returns", list(await queue.push([failed])), [failed.id])
    await lab.expect_counts("after that", queue, waiting=1, failed=2)
    await lab.expect_back(queue, [waiting])


@case(Promise.IDENTICAL, needs=("store", "unique"))
async def what_is_stored_owns_no_key(lab: Lab) -> None:
    """A message with a unique key that is stored in failed or timeout replaces nothing, and is replaced by nothing."""
    queue = lab.queue()
    pending = lab.message(unique_key="k")
    await queue.push([pending])
    for channel in RESTING:
        await queue.store([lab.message(unique_key="k")], channel)
    await lab.expect_counts("after two were stored", queue, waiting=1, failed=1, timeout=1)
    kept = list(await queue.push([lab.message(unique_key="k", on_duplicate="keep")]))
    lab.expect("who has the key", kept, [pending.id])
    await lab.expect_back(queue, [pending])
    later = lab.message(unique_key="k")
    lab.expect("who has it then", list(await queue.push([later])), [later.id])
    await lab.expect_counts("after another push", queue, waiting=1, reserved=1, failed=1, timeout=1)


@case(Promise.SAME, lacks=("store",))
async def storing_that_is_not_claimed_is_not_there(lab: Lab) -> None:
    """Without the capability store, Driver.store raises NotImplementedError and stores nothing."""
    queue = lab.queue()
    for channel in RESTING:
        async with lab.expect_raises(f"storing in {channel}", NotImplementedError):
            await queue.store([lab.message()], channel)
    await lab.expect_counts("after that", queue)


# Handing out.


@case(Promise.MOVING, needs=("lend",))
async def what_is_lent_is_as_it_rested_and_an_ack_removes_it(lab: Lab) -> None:
    """What a channel lends has every field and the count 1; acked, it is gone for good, and its receipt is stale."""
    for channel in in_order(lab.capabilities.lend - {"delayed"}):
        queue = lab.queue(title=channel)
        sent = [lab.message(**SPENT), lab.message()]
        await bring(lab, queue, channel, sent)
        lent = {each.message.id: each for each in await _borrow(lab, queue, channel, 2)}
        for message in sent:
            lab.expect_same("the message", lent[message.id].message, message)
            lab.expect("its count", lent[message.id].count, 1)
        held = receipts(lent.values())
        lab.expect("the results of an ack", await lab.in_batches(queue.ack, held), [Settled.DONE] * 2)
        lab.expect("the results of another one", await lab.in_batches(queue.ack, held), [Settled.STALE] * 2)
        await lab.expect_counts("after that", queue)
        lab.expect("what is lent after that", ids(await queue.lend(channel, 2)), [])


@case(Promise.MOVING, needs=("lend:delayed",))
async def a_delayed_message_is_lent_with_what_remains_of_its_delay(lab: Lab) -> None:
    """The delay of what delayed lends is the time until it falls due; 0 if it has, and was not handed out before."""
    queue = lab.queue()
    delay = 6 * lab.tick
    before = time.monotonic()
    sent = lab.message(delay=delay, **SPENT)
    await queue.delay([sent])
    after = time.monotonic()
    (lent,) = await _borrow(lab, queue, "delayed", 1)
    least, most = delay - (time.monotonic() - before), delay - (time.monotonic() - after)
    tolerance = lab.tolerance + lab.capabilities.granularity
    fits = least - tolerance <= lent.message.delay <= max(0.0, most + tolerance)
    lab.expect_that(fits, "what remains of the delay", lent.message.delay, f"between {least:.3f} and {most:.3f}")
    lab.expect_same("the message", msgspec.structs.replace(lent.message, delay=delay), sent)
    lab.expect("its count", lent.count, 1)
    lab.expect("the result of an ack", list(await queue.ack([lent.receipt])), [Settled.DONE])
    await lab.elapse(max(0.0, most) + 2 * lab.tick)
    await lab.expect_nothing("after it would have been due", queue)
    await lab.expect_counts("after that", queue)


@case(Promise.MOVING, needs=("lend",))
async def what_is_lent_is_lent_to_nobody_else(lab: Lab) -> None:
    """What was lent and is not acked is lent to no other caller, nor to the same one again."""
    clone = await lab.clone()
    for channel in in_order(lab.capabilities.lend - {"delayed"}):
        prefix = lab.prefix()
        queue, other = lab.queue(prefix, title=channel), lab.queue(prefix, on=clone, title="another")
        sent = lab.messages(4)
        await bring(lab, queue, channel, sent)
        lent = await _borrow(lab, queue, channel, 2)
        lent += await _borrow(lab, other, channel, 2)
        lab.expect("what was lent", sorted(ids(lent)), sorted(each.id for each in sent))
        lab.expect("what is lent beyond that", ids(await queue.lend(channel, 4)), [])
        await lab.in_batches(queue.ack, receipts(lent[:2]))
        await lab.in_batches(other.ack, receipts(lent[2:]))
        await lab.expect_counts("after that", queue)


@case(Promise.AT_LEAST_ONCE, needs=("lend",))
async def what_is_lent_and_not_acked_is_there_again(lab: Lab) -> None:
    """When the lease or connection of who borrowed ends, what it has not acked is in its channel again, as it was."""
    for channel in in_order(lab.capabilities.lend - {"delayed"}):
        prefix = lab.prefix()
        clone = await lab.clone()
        queue = lab.queue(prefix, title=channel)
        other = lab.queue(prefix, on=clone, lease_seconds=2 * lab.tick, title="another")
        sent = [lab.message(**SPENT), lab.message()]
        await bring(lab, queue, channel, sent)
        await _borrow(lab, other, channel, 2)
        await lab.shut(clone)
        await lab.expect_counts("after its connection or lease ended", queue, **{channel: 2})
        for delivery in await _borrow(lab, queue, channel, 2):
            (same,) = [each for each in sent if each.id == delivery.message.id]
            lab.expect_same("the message", delivery.message, same)


@case(Promise.DELAYS, needs=("lend:delayed",))
async def a_delayed_message_that_was_lent_in_vain_comes_when_it_is_due(lab: Lab) -> None:
    """What delayed lends, and nobody acks, is delayed again, or due if its time has come; and that counts no delivery
    of who runs it.
    """
    prefix = lab.prefix()
    clone = await lab.clone()
    queue = lab.queue(prefix)
    other = lab.queue(prefix, on=clone, lease_seconds=2 * lab.tick, title="another")
    sent = lab.message(delay=4 * lab.tick)
    await queue.delay([sent])
    lent = list(await other.lend("delayed", 1))
    await lab.shut(clone)
    (delivery,) = await lab.expect_back(queue, [sent])
    if not lent or lent[0].message.delay > 0:
        lab.expect("its count", delivery.count, 1)


@case(Promise.SAME, lacks=("lend:all",))
async def lending_that_is_not_claimed_is_not_there(lab: Lab) -> None:
    """Driver.lend of channels without the capability raises NotImplementedError, and hands out nothing."""
    for channel in in_order(CLAIMABLE["lend"] - lab.capabilities.lend):
        queue = lab.queue(title=channel)
        await bring(lab, queue, channel, lab.messages(2))
        async with lab.expect_raises(f"lending of {channel}", NotImplementedError):
            await queue.lend(channel, 2)
        await lab.expect_counts("after that", queue, **{channel: 2})


async def _borrow(lab: Lab, queue: Driver, channel: Channel, count: int) -> list[Delivery]:
    """Lend until so many are there: a call may hand out fewer than it could."""
    lent: list[Delivery] = []
    deadline = time.monotonic() + PATIENCE
    while len(lent) < count:
        lent += await queue.lend(channel, min(count - len(lent), lab.capabilities.max_batch))
        if len(lent) < count:
            if time.monotonic() > deadline:
                raise Mismatch(f"what {channel} lends", ids(lent), f"{count} messages")
            await asyncio.sleep(lab.tick / 5)
    return lent
