"""Looking: what `Driver.info` counts and what `Driver.peek` shows, neither of which changes anything."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from headrace.conformance.case import case
from headrace.conformance.lab import CHANNELS, PATIENCE, Lab, Mismatch, pairs
from headrace.conformance.moves import bring, hold, long_delay, with_delay
from headrace.conformance.promises import Promise
from headrace.driver import Channel, Driver, Message, Note, Settled


@case(Promise.LOOKING)
async def counts_follow_a_message_through_its_life(lab: Lab) -> None:
    """Every channel is counted: info shows a message where it is, at each step of its life, and nowhere else."""
    queue = lab.queue()
    await lab.expect_counts("of a queue that nobody has used", queue)
    await queue.delay([lab.message(delay=2 * lab.tick)])
    delivery = await lab.take_one(queue)
    await lab.expect_counts("when it is reserved", queue, reserved=1)
    await queue.retry(pairs([delivery], delay=long_delay(lab)))
    await lab.expect_counts("when it was given back for later", queue, delayed=1)
    queue = lab.queue(title="another")  # with nothing in it that somebody would have to flush
    (delivery,) = await hold(lab, queue)
    await queue.fail(pairs([delivery]), "timeout")
    await lab.expect_counts("when it ran too long", queue, timeout=1)
    await queue.reload("timeout")
    await lab.expect_counts("when it was reloaded", queue, waiting=1)
    await queue.ack([(await lab.take_one(queue)).receipt])
    await lab.expect_counts("when it was acked", queue)


@case(Promise.LOOKING)
async def counts_of_full_channels_are_right(lab: Lab) -> None:
    """Info tells how many messages each channel holds, while all of them hold some."""
    queue = lab.queue()
    counts: dict[Channel, int] = {"failed": 4, "timeout": 2, "reserved": 5, "delayed": 3, "waiting": 7}
    for channel, count in counts.items():
        await bring(lab, queue, channel, lab.messages(count))
    await lab.expect_counts("when every channel holds some", queue, **counts)


@case(Promise.LOOKING, needs=("exact_counts",))
async def exact_counts_leave_nothing_out(lab: Lab) -> None:
    """Who claims exact counts knows the number of every channel, after every call and while others push, and the age of
    the oldest.
    """
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    info = await queue.info()
    unknown = [channel for channel in CHANNELS if getattr(info, channel) is None]
    lab.expect("channels whose count is not known", unknown, [])
    others = [lab.queue(prefix, on=await lab.clone(), title=f"pusher {number}") for number in range(2)]
    await asyncio.gather(*(each.push([lab.message()]) for each in others for _ in range(10)))
    await lab.expect_counts("after twenty pushes at once", queue, waiting=20)
    lab.expect_that((await queue.info()).oldest_seconds is not None, "the age of the oldest", None, "some seconds")


@case(Promise.LOOKING)
async def the_age_of_the_oldest_is_that_of_what_waits(lab: Lab) -> None:
    """There is no age when nothing waits, be there delayed or reserved messages."""
    queue = lab.queue()
    lab.expect("the age in an empty queue", (await queue.info()).oldest_seconds, None)
    await hold(lab, queue)
    await bring(lab, queue, "delayed", lab.messages(1))
    await lab.elapse(lab.tick)
    await _expect_no_age(lab, queue)


async def _expect_no_age(lab: Lab, queue: Driver) -> None:
    """None; within `PATIENCE` where counts are approximate."""
    deadline = time.monotonic() + (0 if lab.capabilities.counts == "exact" else PATIENCE)
    while (age := (await queue.info()).oldest_seconds) is not None:
        if time.monotonic() > deadline:
            raise Mismatch("the age of the oldest when none waits", f"{age:g} s", "None")
        await asyncio.sleep(lab.tick)


@case(Promise.LOOKING, needs=("exact_counts",))
async def the_age_of_the_oldest_counts_from_its_due_time(lab: Lab) -> None:
    """The age is how long the oldest waiting message has been due: it grows with time, and a delay that is over does
    not count.
    """
    queue = lab.queue()
    delay = 2 * lab.tick
    before = time.monotonic()
    await queue.delay([lab.message(delay=delay)])
    after = time.monotonic()
    await lab.elapse(delay + lab.tick)
    await queue.push([lab.message()])
    for _ in range(2):
        asked = time.monotonic()
        age = (await queue.info()).oldest_seconds
        answered = time.monotonic()
        least, most = asked - after - delay - lab.tolerance, answered - before - delay + lab.tolerance
        expected = f"between {least:.3f} and {most:.3f} s"
        lab.expect_that(age is not None and least <= age <= most, "the age of the oldest", age, expected)
        await lab.elapse(lab.tick)


# Listing, where there is `Driver.peek`.


@case(Promise.LOOKING, needs=("peek",))
async def peek_shows_every_field_of_a_message(lab: Lab) -> None:
    """Peek shows messages of any channel in full: body, headers, attempt, deaths, key and note."""
    fields: dict[str, Any] = {
        "body": b"\xff\0",
        "attempt": 2,
        "deaths": 1,
        "headers": {"a": "\N{SNOWMAN}"},
        "note": Note("ValueError", "no", "x" * 15_000, 1.5),
        "unique_key": "k" if lab.capabilities.unique else None,
    }
    for channel in lab.shown:
        queue = lab.queue(title=channel)
        sent = lab.message(**fields)
        await bring(lab, queue, channel, [sent])
        page = await queue.peek(channel, 10)
        lab.expect(f"how many are shown in {channel}", len(page.messages), 1)
        (shown,) = page.messages
        lab.expect_same(f"the message in {channel}", with_delay(shown, 0.0) if channel == "delayed" else shown, sent)
        others = [other for other in lab.shown if other != channel and (await queue.peek(other, 10)).messages]
        lab.expect("other channels that show something", others, [])


@case(Promise.LOOKING, needs=("peek",))
async def an_empty_channel_is_an_empty_page(lab: Lab) -> None:
    """Peek of a channel that holds nothing shows nothing, and says that there is no more."""
    queue = lab.queue()
    for channel in lab.shown:
        page = await queue.peek(channel, 10)
        lab.expect(f"what {channel} shows", (list(page.messages), page.cursor), ([], None))


@case(Promise.LOOKING, needs=("peek",))
async def pages_show_each_message_once(lab: Lab) -> None:
    """Going on from cursor to cursor shows every message of a channel exactly once, each page within the limit."""
    for channel in lab.shown:
        queue = lab.queue(title=channel)
        sent = lab.messages(10)
        await bring(lab, queue, channel, sent)
        pages = await _pages(lab, queue, channel, 3)
        shown = [message.id for page in pages for message in page]
        lab.expect(f"what {channel} shows", sorted(shown), sorted(each.id for each in sent))
        singly = await _pages(lab, queue, channel, 1)
        lab.expect(f"what {channel} shows one by one", [message.id for page in singly for message in page], shown)
        whole = await queue.peek(channel, 1000)
        lab.expect(f"what {channel} shows in one page", [each.id for each in whole.messages], shown)
        lab.expect("the cursor of a page that is all", whole.cursor, None)


@case(Promise.LOOKING, needs=("peek", "ordered"))
async def peek_shows_the_oldest_first(lab: Lab) -> None:
    """A channel is shown oldest first: what was pushed, falls due or came to rest before the others."""
    for channel in lab.shown:
        if channel == "reserved":  # of deliveries none is the older one
            continue
        queue = lab.queue(title=channel)
        names = ["c", "a", "d", "b"]
        if channel == "delayed":
            step = min(1.0, long_delay(lab) / 20)
            delays = zip(names, (10, 11, 12, 13), strict=True)
            await lab.in_batches(queue.delay, [lab.message(id_, delay=step * at) for id_, at in reversed([*delays])])
        else:
            for id_ in names:
                await bring(lab, queue, channel, [lab.message(id_)])
        pages = await _pages(lab, queue, channel, 3)
        lab.expect(f"the order in {channel}", [each.id for page in pages for each in page], names)
        chosen = await queue.peek(channel, 10, ids=sorted(names))
        lab.expect(f"the order of chosen ones in {channel}", [each.id for each in chosen.messages], names)


@case(Promise.LOOKING, needs=("peek",))
async def pages_stay_whole_while_others_push(lab: Lab) -> None:
    """What comes in while somebody pages through a channel may be shown or not; what was there before is shown once."""
    clone = await lab.clone()
    for channel in lab.shown:
        prefix = lab.prefix()
        queue, other = lab.queue(prefix, title=channel), lab.queue(prefix, on=clone, title="another")
        sent = lab.messages(12)
        await bring(lab, queue, channel, sent)
        later: list[str] = []
        shown: list[str] = []
        cursor = None
        for _ in range(100):
            page = await queue.peek(channel, 3, cursor=cursor)
            shown += [message.id for message in page.messages]
            cursor = page.cursor
            if cursor is None:
                break
            if len(later) < 10:
                more = lab.messages(2)
                later += [message.id for message in more]
                await bring(lab, other, channel, more)
        before, found = sorted(each.id for each in sent), sorted(id_ for id_ in shown if id_ not in later)
        lab.expect(f"what {channel} shows of what was there before", found, before)
        twice = sorted({id_ for id_ in shown if shown.count(id_) > 1})
        lab.expect(f"what {channel} shows more than once", twice, [])


@case(Promise.LOOKING, needs=("peek",))
async def chosen_messages_are_shown(lab: Lab) -> None:
    """Peek with ids shows those of them that are in the channel, page by page like all others."""
    for channel in lab.shown:
        queue = lab.queue(title=channel)
        sent = lab.messages(5)
        await bring(lab, queue, channel, sent)
        chosen = [sent[4].id, "unknown", sent[0].id, sent[2].id, sent[2].id]
        pages = await _pages(lab, queue, channel, 2, ids=chosen)
        shown = sorted(each.id for page in pages for each in page)
        lab.expect(f"what {channel} shows of those", shown, sorted({*chosen} - {"unknown"}))
        for elsewhere in lab.shown:
            if elsewhere != channel:
                page = await queue.peek(elsewhere, 10, ids=chosen)
                lab.expect(f"what {elsewhere} shows of those", (list(page.messages), page.cursor), ([], None))


@case(Promise.LOOKING, needs=("peek:delayed",))
async def a_delayed_message_shows_what_remains_of_its_delay(lab: Lab) -> None:
    """The delay of a message that peek shows in delayed is the time until it falls due; anywhere else it is 0."""
    queue = lab.queue()
    delay = long_delay(lab)
    before = time.monotonic()
    await queue.delay([lab.message(delay=delay)])
    after = time.monotonic()
    await lab.elapse(lab.tick)
    asked = time.monotonic()
    (message,) = (await queue.peek("delayed", 1)).messages
    least, most = delay - (time.monotonic() - before) - lab.tolerance, delay - (asked - after) + lab.tolerance
    expected = f"between {least:.3f} and {most:.3f}"
    lab.expect_that(least <= message.delay <= most, "what remains of the delay", message.delay, expected)
    for channel in lab.shown:
        if channel != "delayed":
            await bring(lab, queue, channel, lab.messages(1))
            page = await queue.peek(channel, 1)
            lab.expect(f"the delay in {channel}", [each.delay for each in page.messages], [0])
            await queue.destroy()


@case(Promise.LOOKING, needs=("peek",))
async def looking_changes_nothing(lab: Lab) -> None:
    """Whoever looks reserves nothing, counts nothing and moves nothing: what waits comes as if nobody had looked."""
    queue = lab.queue()
    await bring(lab, queue, "failed", lab.messages(2))
    (held,) = await hold(lab, queue)
    await bring(lab, queue, "delayed", lab.messages(2))
    sent = lab.messages(3)
    await lab.in_batches(queue.push, sent)
    counts = {"failed": 2, "reserved": 1, "delayed": 2, "waiting": 3}
    for _ in range(2):
        for channel in lab.shown:
            await _pages(lab, queue, channel, 2)
            await queue.peek(channel, 10, ids=[sent[0].id, held.message.id])
        await lab.expect_counts("after looking", queue, **counts)
    deliveries = await lab.expect_back(queue, sent)
    lab.expect("the counts of what waited", [each.count for each in deliveries], [1, 1, 1])
    lab.expect("the result for what was held", list(await queue.ack([held.receipt])), [Settled.DONE])


async def _pages(
    lab: Lab, queue: Driver, channel: Channel, limit: int, ids: Sequence[str] | None = None
) -> list[Sequence[Message]]:
    pages: list[Sequence[Message]] = []
    cursor = None
    while True:
        page = await queue.peek(channel, limit, cursor=cursor, ids=ids)
        pages.append(page.messages)
        cursor = page.cursor
        if cursor is None:
            return pages
        lab.expect_that(len(pages) < 100, f"pages of {channel}", "no end", "the last one has no cursor")
