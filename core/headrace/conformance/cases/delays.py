"""Delays: never early, oldest due first, and as long as anybody asks."""

import random
import time
from typing import Final

from headrace.conformance.case import case
from headrace.conformance.cases.pushing import LARGE_BATCH, NOTE
from headrace.conformance.lab import PATIENCE, Lab, ids
from headrace.conformance.moves import bring, long_delay
from headrace.conformance.promises import Promise
from headrace.delays import after_hop, is_hop, split
from headrace.driver import Settled

#: Seconds of the longest delay that is tried: beyond what 32 bits of milliseconds hold, and beyond those of seconds.
CENTURY: Final = 100 * 365.25 * 86_400

#: Seconds by which a wall clock jumps: more than any delay or lease of these cases.
JUMP: Final = 3600.0

#: Delayed messages of the case about many; fewer where batches are small, so that it ends.
THOUSANDS: Final = 2000


@case(Promise.DELAYS)
async def a_delayed_message_comes_after_its_delay_and_not_before(lab: Lab) -> None:
    """Each delayed message is handed out once its own delay is over, counted from when it was stored: never earlier."""
    queue = lab.queue()
    sent = [lab.message(delay=ticks * lab.tick) for ticks in (4, 1, 2)]
    delays = {message.id: message.delay for message in sent}
    began = time.monotonic()
    await lab.in_batches(queue.delay, sent)
    stored = time.monotonic()
    for _ in sent:
        delivery = await lab.take_one(queue)
        now = time.monotonic()
        delay = delays[delivery.message.id]
        about = f"seconds until a message came that was delayed by {delay:g} s"
        lab.expect_that(now - began >= delay - lab.tolerance, about, f"{now - began:.3f}", "no less than that")
        lab.expect_that(now - stored <= delay + PATIENCE / 2, about, f"{now - stored:.3f}", "not much more than that")


@case(Promise.DELAYS)
async def a_delayed_message_comes_back_as_it_was_sent(lab: Lab) -> None:
    """A delay stores every field of a message; it is handed out with ``delay`` 0 and the count 1."""
    queue = lab.queue()
    sent = lab.message(body=b"\0\xff", delay=lab.tick, attempt=2, deaths=1, headers={"a": "\N{SNOWMAN}"}, note=NOTE)
    lab.expect("the ids that were stored", list(await queue.delay([sent])), [sent.id])
    (delivery,) = await lab.expect_back(queue, [sent])
    lab.expect("how often it was handed out", delivery.count, 1)


@case(Promise.DELAYS)
async def a_delayed_message_is_counted_as_delayed_and_when_due_as_waiting(lab: Lab) -> None:
    """Until its delay is over a message is in ``delayed``, and from then on in ``waiting``, popped or not."""
    later, soon = lab.queue(title="later"), lab.queue(title="soon")
    await bring(lab, later, "delayed", [lab.message()])
    await soon.delay([lab.message(delay=lab.tick)])
    await lab.expect_counts("before the message is due", later, delayed=1)
    await lab.expect_nothing("before the message is due", later)
    await lab.elapse(2 * lab.tick)
    await lab.expect_counts("after the message has fallen due", soon, waiting=1)


@case(Promise.DELAYS)
async def a_shorter_delay_does_not_wait_for_a_longer_one(lab: Lab) -> None:
    """A message with a short delay is not held up by those with longer ones that were stored before it."""
    queue = lab.queue()
    short = lab.message(delay=2 * lab.tick)
    await bring(lab, queue, "delayed", lab.messages(3))
    await queue.delay([short])
    await lab.expect_back(queue, [short])


@case(Promise.DELAYS)
async def a_push_does_not_wait_for_what_is_delayed(lab: Lab) -> None:
    """A message that is due at once comes at once, however many delayed ones were stored before it."""
    queue = lab.queue()
    await bring(lab, queue, "delayed", lab.messages(10))
    sent = lab.message()
    await queue.push([sent])
    await lab.expect_back(queue, [sent])
    await lab.expect_nothing("after the message that was due", queue)


@case(Promise.DELAYS)
async def the_shortest_delay_is_a_delay(lab: Lab) -> None:
    """A thousandth of a second is a delay like any other: the message is stored, and soon comes."""
    queue = lab.queue()
    sent = lab.message(delay=0.001)
    lab.expect("the ids that were stored", list(await queue.delay([sent])), [sent.id])
    await lab.expect_back(queue, [sent])


@case(Promise.DELAYS)
async def the_longest_delay_that_is_claimed_is_stored(lab: Lab) -> None:
    """A message delayed by as much as the backend claims, up to a century, is stored and not handed out."""
    queue = lab.queue()
    sent = lab.message(delay=min(lab.capabilities.max_delay, CENTURY))
    lab.expect("the ids that were stored", list(await queue.delay([sent])), [sent.id])
    await lab.elapse(lab.tick)
    await lab.expect_nothing("of what is delayed by the longest delay", queue)
    await lab.expect_counts("of what is delayed by the longest delay", queue, delayed=1)
    if "delayed" in lab.shown:
        (shown,) = (await queue.peek("delayed", 1)).messages
        nearly = abs(sent.delay - shown.delay) < PATIENCE
        lab.expect_that(nearly, "seconds that remain", f"{shown.delay:.3f}", f"nearly {sent.delay:g}")


@case(Promise.BATCHES)
async def the_largest_batch_is_delayed_whole(lab: Lab) -> None:
    """A delay takes as many messages at once as the backend claims, answers each with its id, and stores them all."""
    queue = lab.queue()
    delay = long_delay(lab)
    sent = lab.messages(min(lab.capabilities.max_batch, LARGE_BATCH), delay=delay)
    lab.expect("the ids that were stored", list(await queue.delay(sent)), [each.id for each in sent])
    await lab.expect_counts("after the largest batch", queue, delayed=len(sent))


@case(Promise.DELAYS, time_limit=90.0)
async def thousands_of_delayed_messages_all_come(lab: Lab) -> None:
    """When thousands of messages fall due within moments, in any order, each of them comes, and once."""
    queue = lab.queue()
    count = min(THOUSANDS, 50 * lab.capabilities.max_batch)
    sent = [lab.message(delay=(1 + 2 * random.random()) * lab.tick) for _ in range(count)]
    await lab.in_batches(queue.delay, sent)
    await lab.expect_back(queue, sent)


@case(Promise.DELAYS, needs=("durable",))
async def a_delay_outlives_every_process_of_ours(lab: Lab) -> None:
    """A message that was delayed before everything was closed comes to a new backend, when it is due and not before."""
    prefix = lab.prefix()
    sent = lab.message(delay=3 * lab.tick)
    began = time.monotonic()
    await lab.queue(prefix).delay([sent])
    await lab.reopen()
    await lab.expect_back(lab.queue(prefix), [sent])
    passed = time.monotonic() - began
    lab.expect_that(passed >= sent.delay - lab.tolerance, "seconds until it came", f"{passed:.3f}", f"{sent.delay:g}")


@case(Promise.DELAYS)
async def a_delay_beyond_the_longest_is_made_of_shorter_ones(lab: Lab) -> None:
    """A delay that is cut into hops, as core does with one beyond the backend's longest, lasts as long as it should.

    Between two hops the message is delivered and given back with the next delay; what is left
    of the whole stands in its headers.
    """
    queue = lab.queue()
    sent = lab.message(headers={"own": "kept"})
    whole, longest = 5 * lab.tick, 2 * lab.tick
    began = time.monotonic()
    await queue.delay([split(sent, whole, longest)])
    delivery = await lab.take_one(queue)
    while is_hop(delivery.message):
        rest = after_hop(delivery.message)
        results = await queue.retry([(delivery.receipt, split(rest, rest.delay, longest))])
        lab.expect("what became of a message that was given back", list(results), [Settled.DONE])
        delivery = await lab.take_one(queue)
    passed = time.monotonic() - began
    lab.expect_that(passed >= whole - lab.tolerance, "seconds until it came", f"{passed:.3f}", f"{whole:g} or more")
    lab.expect_same("the message", delivery.message, sent)


@case(Promise.DELAYS, alone=True)
async def a_wall_clock_that_jumps_changes_no_delay(lab: Lab) -> None:
    """Delays follow the server's clock or a monotonic one: a worker's wall clock that jumps moves no message."""
    later, soon = lab.queue(title="later"), lab.queue(title="soon")
    sent = lab.message(delay=3 * lab.tick)
    await bring(lab, later, "delayed", [lab.message()])
    await soon.delay([sent])
    with lab.wall_clock_moved(JUMP):
        await lab.expect_nothing("after the wall clock jumped forward", later)
    with lab.wall_clock_moved(-JUMP):
        await lab.expect_back(soon, [sent])


@case(Promise.ORDER, needs=("ordered",))
async def due_messages_come_oldest_due_time_first(lab: Lab) -> None:
    """Of messages that are due, those come first that fell due first, in whatever order they were stored."""
    queue = lab.queue()
    count = min(lab.capabilities.max_batch, LARGE_BATCH)
    sent = [lab.message(delay=random.choice((1, 2, 3)) * lab.tick) for _ in range(count)]
    delays = {message.id: message.delay for message in sent}
    await queue.delay(sent)
    await lab.elapse(4 * lab.tick)
    came = [delays[each] for each in ids(await lab.take(queue, count))]
    lab.expect("the delays of what came, in the order in which it came", came, sorted(came))
