"""Settling: what ack, retry, fail and extend do to a delivery, and that they do nothing to one that is over."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from headrace.conformance.case import case
from headrace.conformance.lab import Lab, ids, pairs, receipts
from headrace.conformance.moves import bring, hold, long_delay
from headrace.conformance.promises import Promise
from headrace.driver import Channel, Delivery, Driver, Note, RestingChannel, Settled

DONE, STALE = Settled.DONE, Settled.STALE

#: What a retry or a failure may change in a message, in values that are hard to carry.
CHANGED: Final[dict[str, Any]] = {
    "name": "conformance.Renamed",
    "attempt": 2,
    "deaths": 1,
    "headers": {"trace": "\N{SNOWMAN}", "empty": ""},
    "note": Note(type="ValueError", message="no \0 such\n\N{SNOWMAN}", traceback="x" * 15_000, time=1.5),
}

#: Messages in a largest batch at most: a backend that claims more is not asked for all of them.
MANY: Final = 10_000

#: A call that ends deliveries, or tries to.
Settle: TypeAlias = Callable[[Lab, Driver, Sequence[Delivery]], Awaitable[Sequence[Any]]]


async def _ack(lab: Lab, queue: Driver, held: Sequence[Delivery]) -> Sequence[Any]:
    return await queue.ack(receipts(held))


async def _retry(lab: Lab, queue: Driver, held: Sequence[Delivery]) -> Sequence[Any]:
    return await queue.retry(pairs(held, attempt=1))


async def _retry_later(lab: Lab, queue: Driver, held: Sequence[Delivery]) -> Sequence[Any]:
    return await queue.retry(pairs(held, attempt=1, delay=long_delay(lab)))


async def _fail(lab: Lab, queue: Driver, held: Sequence[Delivery]) -> Sequence[Any]:
    return await queue.fail(pairs(held, attempt=1), "failed")


async def _time_out(lab: Lab, queue: Driver, held: Sequence[Delivery]) -> Sequence[Any]:
    return await queue.fail(pairs(held, attempt=1), "timeout")


async def _fail_and_reload(lab: Lab, queue: Driver, held: Sequence[Delivery]) -> Sequence[Any]:
    results = await queue.fail(pairs(held), "failed")
    await queue.reload("failed")
    return results


async def _destroy(lab: Lab, queue: Driver, held: Sequence[Delivery]) -> Sequence[Any]:
    await queue.destroy()
    return [DONE] * len(held)


#: The verbs that settle, and the channel where each leaves its messages.
SETTLING: Final[dict[str, tuple[Settle, Channel | None]]] = {
    "ack": (_ack, None),
    "retry": (_retry, "waiting"),
    "fail": (_fail, "failed"),
}

#: Every way in which a caller ends a delivery himself, and where the message then is.
ENDINGS: Final[dict[str, tuple[Settle, Channel | None]]] = {
    "acked": (_ack, None),
    "given back": (_retry, "waiting"),
    "given back for later": (_retry_later, "delayed"),
    "failed": (_fail, "failed"),
    "timed out": (_time_out, "timeout"),
    "failed and reloaded": (_fail_and_reload, "waiting"),
    "destroyed with its queue": (_destroy, None),
}

#: From each channel, by each verb, to another one; ``None`` is out of the queue.
TRANSITIONS: Final[tuple[tuple[Channel, str, Channel | None], ...]] = (
    ("waiting", "pop", "reserved"),
    ("reserved", "ack", None),
    ("reserved", "retry", "waiting"),
    ("reserved", "retry later", "delayed"),
    ("reserved", "fail", "failed"),
    ("reserved", "fail as timeout", "timeout"),
    ("failed", "reload", "waiting"),
    ("timeout", "reload", "waiting"),
    ("waiting", "flush", None),
    ("delayed", "flush", None),
    ("failed", "flush", None),
    ("timeout", "flush", None),
)


@case(Promise.MOVING)
async def every_verb_moves_a_message_to_the_channel_that_it_names(lab: Lab) -> None:
    """Pop, ack, retry, fail, reload and flush move a message from the channel where it is to the one that they name,
    and nowhere else.
    """
    for source, verb, target in TRANSITIONS:
        if verb == "flush" and source not in lab.removable:
            continue
        queue = lab.queue(title=f"{source} {verb}")
        held = await bring(lab, queue, source, [lab.message()])
        await lab.expect_counts(f"before {verb}", queue, **{source: 1})
        await _move(lab, queue, source, verb, held)
        await lab.expect_counts(f"after {verb} of what was {source}", queue, **({target: 1} if target else {}))


async def _move(lab: Lab, queue: Driver, source: Any, verb: str, held: Sequence[Delivery]) -> None:
    if verb == "pop":
        await lab.take_one(queue)
    elif verb == "reload":
        lab.expect_number("how many were reloaded", await queue.reload(source), 1)
    elif verb == "flush":
        lab.expect_number("how many were flushed", await queue.flush(source), 1)
    else:
        moves: dict[str, Callable[[], Awaitable[Sequence[Any]]]] = {
            "ack": lambda: queue.ack(receipts(held)),
            "retry": lambda: queue.retry(pairs(held)),
            "retry later": lambda: queue.retry(pairs(held, delay=long_delay(lab))),
            "fail": lambda: queue.fail(pairs(held), "failed"),
            "fail as timeout": lambda: queue.fail(pairs(held), "timeout"),
        }
        lab.expect(f"the results of {verb}", list(await moves[verb]()), [DONE])


@case(Promise.BATCHES)
async def a_batch_is_answered_item_by_item_in_its_order(lab: Lab) -> None:
    """Ack, retry and fail give one result for each item, in the order of the items; a stale one among them keeps none
    of the others from being settled.
    """
    for verb, (settle, channel) in SETTLING.items():
        queue = lab.queue(title=verb)
        first, over, last = await hold(lab, queue, 3)
        await queue.ack([over.receipt])
        results = await lab.in_batches(partial(settle, lab, queue), [over, first, last])
        lab.expect(f"the results of {verb}", results, [STALE, DONE, DONE])
        await lab.expect_counts(f"after {verb}", queue, **({channel: 2} if channel else {}))


@case(Promise.BATCHES)
async def a_receipt_given_twice_is_stale_the_second_time(lab: Lab) -> None:
    """A receipt that is given twice to ack, retry or fail, in one call as in two, is done once and stale once."""
    for verb, (settle, channel) in SETTLING.items():
        queue = lab.queue(title=verb)
        one, other = await hold(lab, queue, 2)
        results = await lab.in_batches(partial(settle, lab, queue), [one, other, one])
        lab.expect(f"the results of {verb} in one batch", results, [DONE, DONE, STALE])
        lab.expect(f"the results of {verb} once more", list(await settle(lab, queue, [other])), [STALE])
        await lab.expect_counts(f"after {verb}", queue, **({channel: 2} if channel else {}))


@case(Promise.ZOMBIES)
async def a_receipt_of_another_queue_is_stale(lab: Lab) -> None:
    """A receipt that is given to another queue's driver is stale: nothing is changed in either queue."""
    mine, other = lab.queue(title="mine"), lab.queue(title="other")
    held = await hold(lab, mine, 1)
    await hold(lab, other, 1)
    for settle in (_ack, _retry, _fail):
        lab.expect("what the other queue answers", list(await settle(lab, other, held)), [STALE])
    lab.expect("what its own queue answers", list(await mine.ack(receipts(held))), [DONE])
    await lab.expect_counts("of the other queue", other, reserved=1)


@case(Promise.BATCHES, needs=("timed_leases",))
async def a_batch_of_extensions_is_answered_item_by_item_in_its_order(lab: Lab) -> None:
    """Extend gives one result for each receipt, in their order: done for what is held, stale for what is not."""
    queue = lab.queue()
    first, over, last = await hold(lab, queue, 3)
    await queue.ack([over.receipt])
    results = await lab.in_batches(queue.extend, receipts([first, over, last]), 60.0)
    lab.expect("the results", results, [DONE, STALE, DONE])
    lab.expect("what is still held", await lab.in_batches(queue.ack, receipts([last, first])), [DONE, DONE])


@case(Promise.BATCHES)
async def a_largest_batch_passes_through_every_verb(lab: Lab) -> None:
    """A batch of the claimed size is taken whole by push, extend, retry, fail and ack, and each of its items done."""
    size = min(lab.capabilities.max_batch, MANY)
    queue = lab.queue()
    sent = lab.messages(size)
    lab.expect("the ids that were stored", list(await queue.push(sent)), [each.id for each in sent])
    held = await lab.take(queue, size)
    if lab.capabilities.leases == "timed":
        lab.expect("what was extended", list(await queue.extend(receipts(held), 60.0)), [DONE] * size)
    lab.expect("what was given back", list(await queue.retry(pairs(held))), [DONE] * size)
    held = await lab.take(queue, size)
    lab.expect("what was failed", list(await queue.fail(pairs(held), "failed")), [DONE] * size)
    lab.expect_number("how many were reloaded", await queue.reload("failed"), size)
    held = await lab.take(queue, size)
    lab.expect("what was acked", list(await queue.ack(receipts(held))), [DONE] * size)
    await lab.expect_counts("after all that", queue)


@case(Promise.BATCHES)
async def receipts_of_many_pops_settle_in_one_call(lab: Lab) -> None:
    """One call settles deliveries of different pops, each as its own."""
    queue = lab.queue()
    size = min(6, lab.capabilities.max_batch)
    await lab.in_batches(queue.push, lab.messages(3 * size))
    held = [await lab.take_one(queue) for _ in range(3 * size)]
    lab.expect("what was acked", list(await queue.ack(receipts(held[::3]))), [DONE] * size)
    lab.expect("what was given back", list(await queue.retry(pairs(held[1::3]))), [DONE] * size)
    lab.expect("what was failed", list(await queue.fail(pairs(held[2::3]), "failed")), [DONE] * size)
    lab.expect("what was given back", sorted(ids(await lab.take(queue, size))), sorted(ids(held[1::3])))
    await queue.reload("failed")
    lab.expect("what was failed", sorted(ids(await lab.take(queue, size))), sorted(ids(held[2::3])))


@case(Promise.AT_LEAST_ONCE)
async def an_acked_message_is_gone_for_good(lab: Lab) -> None:
    """An ack removes a message for good: its lease, when it would have ended, brings nothing back."""
    queue = lab.queue(lease_seconds=4 * lab.tick)
    await queue.push([lab.message()])
    results: list[Any] = [STALE]
    while results == [STALE]:  # on a machine that is busy beyond measure the lease ends first, and it comes again
        results = list(await queue.ack([(await lab.take_one(queue)).receipt]))
    lab.expect("the result", results, [DONE])
    await lab.elapse(5 * lab.tick)
    await lab.expect_nothing("after the ack", queue)
    await lab.expect_counts("after the ack", queue)


@case(Promise.FAILURES)
async def a_message_given_back_comes_again_as_it_stands_in_the_pair(lab: Lab) -> None:
    """A retry with delay 0 makes a message due at once, with the attempt, deaths, headers, note and name that the pair
    has, and its count starts again at 1.
    """
    queue = lab.queue()
    (delivery,) = await bring(lab, queue, "reserved", [lab.message(body=b"\xff\0", headers={"old": "1"})])
    ((receipt, changed),) = pairs([delivery], **CHANGED)
    lab.expect("the result", list(await queue.retry([(receipt, changed)])), [DONE])
    again = await lab.take_one(queue)
    lab.expect_same("the message", again.message, changed)
    lab.expect("its count", again.count, 1)
    # What was written once can be taken back.
    cleared = pairs([again], attempt=0, deaths=0, headers={}, note=None)
    lab.expect("the result", list(await queue.retry(cleared)), [DONE])
    last = await lab.take_one(queue)
    lab.expect_same("the message, cleared", last.message, cleared[0][1])


@case(Promise.POISON)
async def a_retry_starts_the_count_of_deliveries_again(lab: Lab) -> None:
    """A message whose delivery ended with its worker comes again with the count 2; once it has been retried, with 1."""
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    await queue.push([lab.message()])
    worker = await lab.clone()
    await lab.take_one(lab.queue(prefix, on=worker, lease_seconds=2 * lab.tick, title="lost worker"))
    await lab.shut(worker)
    delivery = await lab.take_one(queue)
    lab.expect("the count after a lost worker", delivery.count, 2)
    await queue.retry(pairs([delivery], deaths=1))
    again = await lab.take_one(queue)
    lab.expect("the count and the deaths after a retry", (again.count, again.message.deaths), (1, 1))


@case(Promise.FAILURES)
async def a_message_retried_later_comes_after_its_delay(lab: Lab) -> None:
    """A retry with a delay hands the message out when the delay is over and not before, as it stands in the pair, its
    delay spent.
    """
    queue = lab.queue()
    (delivery,) = await hold(lab, queue)
    delay = 2 * lab.tick
    began = time.monotonic()
    lab.expect("the result", list(await queue.retry(pairs([delivery], **CHANGED, delay=delay))), [DONE])
    again = await lab.take_one(queue)
    after = time.monotonic() - began
    lab.expect_that(after >= delay - lab.tolerance, "when it came", f"after {after:.3f} s", f"not before {delay:g} s")
    lab.expect_same("the message", again.message, pairs([delivery], **CHANGED)[0][1])


@case(Promise.FAILURES, needs=("peek:failed", "peek:timeout"))
async def a_failed_message_is_kept_as_it_stands_in_the_pair(lab: Lab) -> None:
    """What is moved to failed or timeout keeps its body, and has the attempt, deaths, headers, name and note that the
    pair has, however long the traceback.
    """
    resting: tuple[RestingChannel, ...] = ("failed", "timeout")
    for channel in resting:
        queue = lab.queue(title=channel)
        (delivery,) = await bring(lab, queue, "reserved", [lab.message(body=b"\xff\0")])
        ((receipt, changed),) = pairs([delivery], **CHANGED)
        lab.expect("the result", list(await queue.fail([(receipt, changed)], channel)), [DONE])
        page = await queue.peek(channel, 10)
        lab.expect(f"how many are shown in {channel}", len(page.messages), 1)
        lab.expect_same(f"the message in {channel}", page.messages[0], changed)


@case(Promise.ZOMBIES)
async def a_receipt_is_stale_once_its_delivery_was_ended(lab: Lab) -> None:
    """When a delivery was acked, given back, failed, or destroyed with its queue, its receipt is stale for every verb,
    and changes nothing.
    """
    for ending, (end, channel) in ENDINGS.items():
        queue = lab.queue(title=ending)
        (delivery,) = await hold(lab, queue)
        lab.expect(f"the result when it was {ending}", list(await end(lab, queue, [delivery])), [DONE])
        await _expect_stale(lab, queue, delivery, f"after it was {ending}")
        await lab.expect_counts(f"after stale calls on what was {ending}", queue, **({channel: 1} if channel else {}))
        if channel == "waiting":
            again = await lab.take_one(queue)
            attempt = 1 if ending == "given back" else 0
            lab.expect_same(f"the message that was {ending}", again.message, pairs([delivery], attempt=attempt)[0][1])


@case(Promise.ZOMBIES, needs=("timed_leases",))
async def a_receipt_is_stale_once_its_message_was_handed_out_again(lab: Lab) -> None:
    """When a lease has ended and the message was handed out again, the old receipt is stale for every verb, and the new
    delivery is as good as before.
    """
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    await queue.push([lab.message()])
    old = await lab.take_one(lab.queue(prefix, lease_seconds=2 * lab.tick, title="zombie"))
    new = await lab.take_one(queue)
    await _expect_stale(lab, queue, old, "after it was handed out again")
    await lab.expect_counts("after the zombie's calls", queue, reserved=1)
    lab.expect("the result for the new receipt", list(await queue.ack([new.receipt])), [DONE])
    await lab.expect_counts("after that", queue)


async def _expect_stale(lab: Lab, queue: Driver, delivery: Delivery, about: str) -> None:
    late = pairs([delivery], attempt=9, name="conformance.Late")
    later = pairs([delivery], attempt=9, delay=lab.tick)
    results = {
        "ack": await queue.ack([delivery.receipt]),
        "retry": await queue.retry(late),
        "retry later": await queue.retry(later),
        "fail": await queue.fail(late, "failed"),
        "fail as timeout": await queue.fail(late, "timeout"),
    }
    if lab.capabilities.leases == "timed":
        results["extend"] = await queue.extend([delivery.receipt], 60.0)
    found = {verb: list(each) for verb, each in results.items()}
    lab.expect(f"the results {about}", found, {verb: [STALE] for verb in found})


@case(Promise.ZOMBIES)
async def of_all_who_settle_one_delivery_at_once_one_succeeds(lab: Lab) -> None:
    """When several calls settle one delivery at the same time, exactly one is done, and the message is where that one
    put it.
    """
    for _ in range(4):
        prefix = lab.prefix()
        queue, other = lab.queue(prefix, title="queue"), lab.queue(prefix, title="other")
        (delivery,) = await hold(lab, queue)
        verbs = [(verb, driver) for verb in SETTLING for driver in (queue, other)]
        answers = await asyncio.gather(*(SETTLING[verb][0](lab, driver, [delivery]) for verb, driver in verbs))
        done = [verb for (verb, _), results in zip(verbs, answers, strict=True) if list(results) == [DONE]]
        lab.expect_that(len(done) == 1, "the calls that were done", done, "exactly one")
        channel = SETTLING[done[0]][1]
        await lab.expect_counts(f"after {done[0]} came first", queue, **({channel: 1} if channel else {}))


@case(Promise.AT_LEAST_ONCE, needs=("durable",))
async def what_was_settled_is_settled_for_who_opens_the_place_later(lab: Lab) -> None:
    """Acks, retries and failures that were done are found so by a backend that is opened after the first was closed."""
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    acked, again, failed, late = await hold(lab, queue, 4)
    await queue.ack([acked.receipt])
    await queue.retry(pairs([again], attempt=1))
    await queue.fail(pairs([failed]), "failed")
    await queue.fail(pairs([late]), "timeout")
    await lab.reopen()
    reopened = lab.queue(prefix, title="reopened")
    await lab.expect_counts("after it was opened again", reopened, waiting=1, failed=1, timeout=1)
    delivery = await lab.take_one(reopened)
    lab.expect("what waits", (delivery.message.id, delivery.message.attempt), (again.message.id, 1))
