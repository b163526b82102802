"""Order: with one consumer and ``limit=1``, exactly first pushed, first delivered; without the claim, roughly."""

from typing import Final

from headrace.conformance.case import case
from headrace.conformance.lab import Lab, ids, pairs
from headrace.conformance.promises import Promise
from headrace.driver import Driver

#: Messages of the case about rough order, and the largest batches that they may take.
SEVERAL: Final = 200
MOST_BATCHES: Final = 20

#: The mean place of the first quarter that comes, of all places: 1/8 is exact order, 1/2 chance, 7/8 the reverse.
ROUGHLY: Final = 0.7


async def _one_by_one(lab: Lab, queue: Driver, count: int) -> list[str]:
    """The ids of so many messages, in the order in which pops of one hand them out."""
    return [(await lab.take_one(queue)).message.id for _ in range(count)]


@case(Promise.ORDER, needs=("ordered",))
async def first_pushed_is_first_popped(lab: Lab) -> None:
    """Messages come in the order in which they were pushed, within a batch and from one push to the next."""
    queue = lab.queue()
    sent = lab.messages(30)
    for start, end in ((0, 1), (1, 17), (17, 30)):
        await lab.in_batches(queue.push, sent[start:end])
    lab.expect(
        "the ids, in the order in which they came", await _one_by_one(lab, queue, 30), [each.id for each in sent]
    )


@case(Promise.ORDER)
async def what_waits_longest_is_not_left_for_last(lab: Lab) -> None:
    """Messages come roughly oldest first, whether or not an exact order is claimed: the latest do not go before all."""
    queue = lab.queue()
    sent = lab.messages(min(SEVERAL, MOST_BATCHES * lab.capabilities.max_batch))
    await lab.in_batches(queue.push, sent)
    places = {message.id: place / len(sent) for place, message in enumerate(sent)}
    came = [places[each] for each in ids(await lab.take(queue, len(sent) // 4))]
    mean = sum(came) / len(came)
    lab.expect_that(
        mean <= ROUGHLY, "the mean place of the first quarter that came, of all", f"{mean:.2f}", f"{ROUGHLY:g} or less"
    )


@case(Promise.ORDER, needs=("ordered",))
async def a_pop_of_many_hands_them_out_in_order(lab: Lab) -> None:
    """What one pop hands out is in the order of pushing, and goes on where the pop before it ended."""
    queue = lab.queue()
    sent = lab.messages(min(4 * lab.capabilities.max_batch, 2000))
    await lab.in_batches(queue.push, sent)
    lab.expect(
        "the ids, in the order in which they came", ids(await lab.take(queue, len(sent))), [each.id for each in sent]
    )


@case(Promise.ORDER, needs=("ordered",))
async def the_order_does_not_depend_on_who_pushed(lab: Lab) -> None:
    """Messages that clones pushed one after the other come in that order, whoever pops them."""
    prefix = lab.prefix()
    queues = [lab.queue(prefix, title="one"), lab.queue(prefix, on=await lab.clone(), title="other")]
    sent = lab.messages(10)
    for number, message in enumerate(sent):
        await queues[number % 2].push([message])
    came = [(await lab.take_one(queues[number // 3 % 2])).message.id for number in range(10)]
    lab.expect("the ids, in the order in which they came", came, [each.id for each in sent])


@case(Promise.ORDER, needs=("ordered",))
async def what_is_given_back_at_once_has_its_old_place(lab: Lab) -> None:
    """A message that is retried with ``delay`` 0 comes before those that were pushed after it."""
    queue = lab.queue()
    await lab.in_batches(queue.push, [lab.message(each) for each in "abc"])
    held = [await lab.take_one(queue), await lab.take_one(queue)]
    for delivery in reversed(held):
        await queue.retry(pairs([delivery], attempt=1))
    await queue.push([lab.message("d")])
    lab.expect("the ids, in the order in which they came", await _one_by_one(lab, queue, 4), ["a", "b", "c", "d"])


@case(Promise.ORDER, needs=("ordered", "timed_leases"))
async def what_expired_has_its_old_place(lab: Lab) -> None:
    """A message whose lease has ended comes before those that were pushed after it."""
    prefix = lab.prefix()
    await lab.in_batches(lab.queue(prefix).push, [lab.message(each) for each in "abc"])
    await _one_by_one(lab, lab.queue(prefix, lease_seconds=2 * lab.tick, title="worker"), 2)
    await lab.elapse(3 * lab.tick)
    queue = lab.queue(prefix)
    await queue.push([lab.message("d")])
    lab.expect("the ids, in the order in which they came", await _one_by_one(lab, queue, 4), ["a", "b", "c", "d"])


@case(Promise.ORDER, needs=("ordered",))
async def what_was_delayed_takes_its_place_by_when_it_fell_due(lab: Lab) -> None:
    """A delayed message comes after what was pushed before it fell due, and before what was pushed later."""
    queue = lab.queue()
    await queue.delay([lab.message("delayed", delay=3 * lab.tick)])
    await queue.push([lab.message("before")])
    await lab.elapse(4 * lab.tick)
    await queue.push([lab.message("after")])
    expected = ["before", "delayed", "after"]
    lab.expect("the ids, in the order in which they came", await _one_by_one(lab, queue, 3), expected)


@case(Promise.ORDER, needs=("ordered", "durable"))
async def the_order_outlives_every_process_of_ours(lab: Lab) -> None:
    """Messages come in the order of pushing after everything was closed and opened again."""
    prefix = lab.prefix()
    sent = lab.messages(10)
    await lab.in_batches(lab.queue(prefix).push, sent[:5])
    await lab.reopen()
    queue = lab.queue(prefix)
    await lab.in_batches(queue.push, sent[5:])
    lab.expect(
        "the ids, in the order in which they came", await _one_by_one(lab, queue, 10), [each.id for each in sent]
    )


@case(Promise.ORDER, needs=("ordered",))
async def ids_do_not_change_the_order(lab: Lab) -> None:
    """Ids have no say in the order: those that sort last may come first."""
    queue = lab.queue()
    names = ["z", "a", "10", "9", "m", "\N{SNOWMAN}", "A"]
    await lab.in_batches(queue.push, [lab.message(each) for each in names])
    lab.expect("the ids, in the order in which they came", await _one_by_one(lab, queue, len(names)), names)
