"""Pushing: what is stored comes back as it was sent, one result for each."""

import asyncio
import statistics
import time
from typing import Final

from headrace.conformance.case import case
from headrace.conformance.lab import LONG_LEASE, PATIENCE, Lab, ids, receipts
from headrace.conformance.moves import bring
from headrace.conformance.promises import Promise
from headrace.driver import NO_HEADERS, Backend, Channel, Driver, Message, Note

#: Why a message failed, with text that is hard to carry, and nearly as long as a note can be.
NOTE: Final = Note(type="ValueError", message="no \0 such\n\N{SNOWMAN}", traceback="x" * 16_000, time=1.5)

#: Bytes that are hard to carry: none, ends of strings, no text in any encoding, other formats' values.
HARD_BODIES: Final = (b"", b"\0", b"\0a\0", b"\xff\xfe", bytes(range(256)), b" \r\n", b"0", b"null", b"\x80\x04N.")

#: Texts that are hard to carry: ends of strings, quotes, wildcards and separators of stores, whole planes, long ones.
HARD_TEXTS: Final = (
    *("\0", "a\0b", "'\"\\`", "{q}", "a:b", "a/b", "a.b", "*", "#", "%", "?[a-z]", "$1", "-1", "0", "None"),
    *("\N{SNOWMAN}", "\N{GRINNING FACE}", "\u202e\u0301", "x" * 200),
)

#: And those that no prefix has, but ids and names may.
SPACED_TEXTS: Final = (" ", "a b", "a\nb", "x" * 1000)

#: Texts that some collation or normal form takes for one another.
ALIKE: Final = ("a", "A", "\u00e1", "a\u0301", "ss", "\u00df", "1", "01", "1.0")

#: Items of the largest batch that a case makes: more than any driver sends in one piece, few enough to be quick.
LARGE_BATCH: Final = 2000

#: Bytes of the largest body that a case makes, where the backend claims larger ones.
LARGE_BODY: Final = 4 * 2**20

#: Messages of the long case, the most calls that it may cost to push them, and seconds for all of it: a disk that
#: is slow to sync, or a network, takes its time for thousands of calls.
MILLION: Final = 1_000_000
MOST_CALLS: Final = 2000
MILLION_LIMIT: Final = 600.0


@case(Promise.AT_LEAST_ONCE)
async def a_pushed_message_comes_back_as_it_was_sent(lab: Lab) -> None:
    """A push stores every field of a message, and a pop hands it out unchanged, with the count 1."""
    queue = lab.queue()
    sent = lab.message(body=b'{"a": 1}', attempt=2, deaths=1, headers={"trace": "\N{SNOWMAN}", "b": ""}, note=NOTE)
    lab.expect("the ids that were stored", await queue.push([sent]), [sent.id])
    (delivery,) = await lab.expect_back(queue, [sent])
    lab.expect("how often it was handed out", delivery.count, 1)


@case(Promise.AT_LEAST_ONCE)
async def a_message_without_extras_comes_back_without_them(lab: Lab) -> None:
    """What a message does not have, it does not have when it comes back: no headers, no note, no key."""
    queue = lab.queue()
    sent = lab.message()
    await queue.push([sent])
    (delivery,) = await lab.expect_back(queue, [sent])
    lab.expect("its headers", dict(delivery.message.headers), dict(NO_HEADERS))


@case(Promise.AT_LEAST_ONCE)
async def a_pushed_message_waits(lab: Lab) -> None:
    """A message that was pushed is in the channel ``waiting``, and in no other."""
    queue = lab.queue()
    await queue.push([lab.message()])
    await lab.expect_counts("after a push", queue, waiting=1)


@case(Promise.IDENTICAL)
async def identical_messages_are_separate_messages(lab: Lab) -> None:
    """Messages that differ in nothing but their ids are all stored, and all handed out."""
    queue = lab.queue()
    sent = lab.messages(3, body=b"the same")
    await lab.in_batches(queue.push, sent)
    deliveries = await lab.expect_back(queue, sent)
    await lab.in_batches(queue.ack, receipts(deliveries[:1]))
    await lab.expect_counts("after one of three was acked", queue, reserved=2)


# Batches.


@case(Promise.BATCHES)
async def the_largest_batch_is_stored_whole(lab: Lab) -> None:
    """A push takes as many messages at once as the backend claims, answers each with its id, and stores them all."""
    queue = lab.queue()
    sent = lab.messages(min(lab.capabilities.max_batch, LARGE_BATCH))
    lab.expect("the ids that were stored", list(await queue.push(sent)), [each.id for each in sent])
    await lab.expect_back(queue, sent)


@case(Promise.BATCHES)
async def the_messages_of_a_batch_keep_their_own_fields(lab: Lab) -> None:
    """In a batch, each message keeps its own body, headers, counters and note, whatever its neighbours have."""
    queue = lab.queue()
    sent = [
        lab.message(body=b"", headers={"a": "1"}),
        lab.message(name="another", body=b"2"),
        lab.message(attempt=3, note=NOTE),
        lab.message(deaths=2, headers={"b": "1", "a": "2"}),
        lab.message(),
    ]
    lab.expect("the ids", await lab.in_batches(queue.push, sent), [each.id for each in sent])
    await lab.expect_back(queue, sent)


# Any bytes, any text, any length.


@case(Promise.SIZES)
async def any_bytes_survive_as_body(lab: Lab) -> None:
    """A body comes back byte for byte, whatever it is: nothing, zeros, no text in any encoding."""
    queue = lab.queue()
    sent = [lab.message(body=body) for body in HARD_BODIES]
    await lab.in_batches(queue.push, sent)
    await lab.expect_back(queue, sent)


@case(Promise.SIZES)
async def the_largest_body_survives_with_the_largest_note(lab: Lab) -> None:
    """A body of the largest size that the backend claims is stored, beside headers and a note as long as can be."""
    queue = lab.queue()
    size = min(lab.capabilities.max_body, LARGE_BODY)
    body = bytes(range(256)) * (size // 256) + b"\0" * (size % 256)
    sent = lab.message(body=body, headers={"a": "b" * 200}, note=NOTE)
    lab.expect("the ids that were stored", await queue.push([sent]), [sent.id])
    await lab.expect_back(queue, [sent])


@case(Promise.SIZES)
async def any_text_survives_as_id_and_name(lab: Lab) -> None:
    """Ids and job names are any text: other alphabets, zeros, quotes, wildcards, spaces, a thousand characters."""
    queue = lab.queue()
    sent = [lab.message(id=text, name=text) for text in (*HARD_TEXTS, *SPACED_TEXTS)]
    lab.expect("the ids", await lab.in_batches(queue.push, sent), [each.id for each in sent])
    deliveries = await lab.expect_back(queue, sent)
    await lab.in_batches(queue.ack, receipts(deliveries))
    await lab.expect_counts("after all were acked", queue)


@case(Promise.SIZES, needs=("peek:failed", "selective:failed"), time_limit=90)
async def any_text_is_found_again_as_id(lab: Lab) -> None:
    """A message can be shown and reloaded by its id, and cancelled where there is cancel, whatever text that is."""
    queue = lab.queue()
    texts = [*HARD_TEXTS, *SPACED_TEXTS]
    await bring(lab, queue, "failed", [lab.message(id=text) for text in texts])
    for text in texts:
        shown = (await queue.peek("failed", 2, ids=[text])).messages
        lab.expect(f"what is shown of the id {text!r}", [each.id for each in shown], [text])
        lab.expect_number(f"how many are reloaded of the id {text!r}", await queue.reload("failed", ids=[text]), 1)
        if lab.capabilities.cancel:
            lab.expect(f"whether the id {text!r} could be cancelled", await queue.cancel(text), True)
        else:
            delivery = await lab.take_one(queue)
            lab.expect(f"what is handed out of the id {text!r}", delivery.message.id, text)
            await queue.ack([delivery.receipt])
    await lab.expect_counts("after all were removed", queue)


@case(Promise.SIZES, needs=("unique",))
async def any_text_serves_as_unique_key(lab: Lab) -> None:
    """Unique keys are any text, and those that look alike are different keys."""
    queue = lab.queue()
    sent = [lab.message(unique_key=text) for text in (*HARD_TEXTS, *SPACED_TEXTS, *ALIKE)]
    for message in sent:
        await queue.push([lab.message(unique_key=message.unique_key)])  # to be replaced
    await lab.in_batches(queue.push, sent)
    await lab.expect_back(queue, sent)
    await lab.expect_nothing("after one message for each key", queue)


@case(Promise.SIZES)
async def ids_that_look_alike_are_different_ids(lab: Lab) -> None:
    """Ids are compared character by character: capitals, accents, their composition and leading zeros differ."""
    queue = lab.queue()
    sent = [lab.message(id=text) for text in ALIKE]
    await lab.in_batches(queue.push, sent)
    await lab.expect_back(queue, sent)


@case(Promise.SIZES)
async def any_text_survives_in_headers(lab: Lab) -> None:
    """Names and values of headers are any text, an empty value among them, and there may be many."""
    queue = lab.queue()
    sent = [
        lab.message(headers={text: text for text in HARD_TEXTS}),
        lab.message(headers={"empty": "", "lines": "a\r\nb", "spaces": " a "}),
        lab.message(headers={"Case": "1", "case": "2"}),
    ]
    await lab.in_batches(queue.push, sent)
    await lab.expect_back(queue, sent)


@case(Promise.SIZES)
async def any_text_without_spaces_serves_as_prefix(lab: Lab) -> None:
    """A queue works whatever its prefix is, and prefixes that look alike or like wildcards are different queues."""
    queues = [lab.queue(prefix, title=repr(prefix)) for prefix in lab.prefixes("", *HARD_TEXTS, *ALIKE)]
    sent = [lab.message() for _ in queues]
    for queue, message in zip(queues, sent, strict=True):
        await queue.push([message])
    for queue, message in zip(queues, sent, strict=True):
        await lab.expect_back(queue, [message])
    await asyncio.gather(*(lab.expect_nothing("by a queue that held one message", queue) for queue in queues))


# Ids that are repeated.


@case(Promise.IDENTICAL, needs=("idempotent",))
async def an_id_is_stored_once_however_often_it_is_pushed(lab: Lab) -> None:
    """An id that is repeated, in one batch or in the next push, counts as stored; the first message of it stays."""
    queue = lab.queue()
    first, other = lab.message("a", body=b"1"), lab.message("b")
    batch = [first, other, lab.message("a", body=b"2")]
    lab.expect("the ids of a batch", await lab.in_batches(queue.push, batch), ["a", "b", "a"])
    lab.expect("the ids of the next push", list(await queue.push([lab.message("a", body=b"3")])), ["a"])
    await lab.expect_counts("after two ids were pushed four times", queue, waiting=2)
    await lab.expect_back(queue, [first, other])


@case(Promise.IDENTICAL, needs=("idempotent",))
async def an_id_that_the_queue_holds_in_any_channel_is_left_alone(lab: Lab) -> None:
    """A push or delay whose id is in any channel of the queue changes nothing there, and counts as stored."""
    for channel in ("waiting", "reserved", "delayed", "failed", "timeout"):
        queue = lab.queue(title=channel)
        await bring(lab, queue, channel, [lab.message("a")])
        again = lab.message("a", body=b"again", delay=lab.tick)
        lab.expect(f"the ids of a push beside {channel}", list(await queue.push([lab.message("a")])), ["a"])
        lab.expect(f"the ids of a delay beside {channel}", list(await queue.delay([again])), ["a"])
        await lab.expect_counts(f"after that, beside {channel}", queue, **{channel: 1})


@case(Promise.IDENTICAL, needs=("idempotent",))
async def an_id_is_free_again_when_its_message_is_gone(lab: Lab) -> None:
    """After its message was acked or flushed, an id may be pushed again, and is stored."""
    queue = lab.queue()
    for number, leave in enumerate((_ack, _flush)):
        sent = lab.message("a", body=b"%d" % number)
        await queue.push([sent])
        await lab.expect_counts(f"after push {number + 1} of the id", queue, waiting=1)
        await leave(lab, queue, sent)
    await lab.expect_counts("in the end", queue)


async def _ack(lab: Lab, queue: Driver, sent: Message) -> None:
    (delivery,) = await lab.expect_back(queue, [sent])
    await queue.ack([delivery.receipt])


async def _flush(lab: Lab, queue: Driver, sent: Message) -> None:
    await queue.flush("waiting")


@case(Promise.IDENTICAL, needs=("idempotent",))
async def pushes_of_one_id_at_once_store_one_message(lab: Lab) -> None:
    """When several processes push the same id in the same moment, one message is stored."""
    prefix = lab.prefix()
    sent = lab.message("a")

    async def push(backend: Backend) -> None:
        queue = lab.queue(prefix, on=backend)
        await asyncio.gather(*(queue.push([sent]) for _ in range(5)))

    await asyncio.gather(push(lab.backend), lab.on_threads(3, push))
    queue = lab.queue(prefix)
    await lab.expect_back(queue, [sent])
    await lab.expect_nothing("after the one message", queue)


# Queues and backends.


@case(Promise.SAME)
async def two_drivers_of_one_prefix_are_one_queue(lab: Lab) -> None:
    """A prefix is one queue for every driver of it: of the same backend, and of a clone."""
    prefix = lab.prefix()
    one = lab.queue(prefix, title="one")
    for other in (lab.queue(prefix, title="another"), lab.queue(prefix, on=await lab.clone(), title="a clone's")):
        there, back = lab.message(), lab.message()
        await one.push([there])
        await lab.expect_back(other, [there])
        await other.push([back])
        await lab.expect_back(one, [back])


@case(Promise.SAME)
async def queues_of_one_backend_do_not_see_each_other(lab: Lab) -> None:
    """What is pushed to one queue, even under the same id, is neither popped, counted nor flushed by another."""
    one, other = lab.queue(title="one"), lab.queue(title="other")
    mine, its = [lab.message("a", body=b"1"), lab.message("b")], [lab.message("a", body=b"2"), lab.message("c")]
    await lab.in_batches(one.push, mine)
    await lab.in_batches(other.push, its)
    await lab.expect_back(one, mine)
    await lab.expect_nothing("by a queue whose messages are all reserved", one)
    await other.flush("waiting")
    await lab.expect_counts("of one queue after the other was flushed", one, reserved=2)
    await lab.expect_counts("of the flushed queue", other)


@case(Promise.CONCURRENCY)
async def pushes_from_many_loops_at_once_all_arrive(lab: Lab) -> None:
    """Pushes of several processes, each with several calls under way at once, are all stored, and each once."""
    prefix = lab.prefix()

    async def push(backend: Backend) -> list[Message]:
        queue = lab.queue(prefix, on=backend)
        batches = [lab.messages(10) for _ in range(5)]
        await asyncio.gather(*(lab.in_batches(queue.push, batch) for batch in batches))
        return [message for batch in batches for message in batch]

    here, clones, threads = await asyncio.gather(push(lab.backend), push(await lab.clone()), lab.on_threads(3, push))
    await lab.expect_back(lab.queue(prefix), [*here, *clones, *(message for sent in threads for message in sent)])


@case(Promise.CONCURRENCY)
async def fifty_queues_are_served_by_one_backend(lab: Lab) -> None:
    """One backend serves fifty queues at once: fifty pops wait side by side, and each gets what its queue was given."""
    queues = [lab.queue(title=f"queue {number}") for number in range(50)]
    waiting = [lab.start(lab.take_one(queue)) for queue in queues]
    await asyncio.sleep(lab.tick)
    sent = [lab.message() for _ in queues]
    await asyncio.gather(*(queue.push([message]) for queue, message in zip(queues, sent, strict=True)))
    lab.expect("what came, queue by queue", ids(await asyncio.gather(*waiting)), [each.id for each in sent])


# Lasting.


@case(Promise.AT_LEAST_ONCE, needs=("durable",))
async def what_was_stored_outlives_every_process_of_ours(lab: Lab) -> None:
    """After everything that was open is closed, a new backend finds each message in the channel where it was left."""
    channels: tuple[Channel, ...] = ("waiting", "delayed", "failed", "timeout")
    prefixes: dict[Channel, str] = {channel: lab.prefix() for channel in channels}
    sent = {channel: lab.message(body=channel.encode(), headers={"a": "b"}, note=NOTE) for channel in prefixes}
    for channel, prefix in prefixes.items():
        await bring(lab, lab.queue(prefix), channel, [sent[channel]])
    await lab.reopen()
    for channel, prefix in prefixes.items():
        await lab.expect_counts(f"of what was {channel}", lab.queue(prefix), **{channel: 1})
    await lab.expect_back(lab.queue(prefixes["waiting"]), [sent["waiting"]])


@case(Promise.AT_LEAST_ONCE, needs=("durable",))
async def what_was_reserved_comes_back_to_a_new_backend(lab: Lab) -> None:
    """A delivery whose worker is gone, with all that was open, is handed out again by a backend that comes later."""
    prefix = lab.prefix()
    sent = lab.message(headers={"a": "b"})
    await bring(lab, lab.queue(prefix, lease_seconds=4 * lab.tick), "reserved", [sent])
    await lab.reopen()
    await lab.expect_back(lab.queue(prefix), [sent])


@case(Promise.AT_LEAST_ONCE, alone=True, long=True, time_limit=MILLION_LIMIT)
async def a_million_messages_are_popped_as_fast_as_few(lab: Lab) -> None:
    """A queue may grow to a million messages: popping takes no longer than from a short one, and none is lost."""
    batch = min(lab.capabilities.max_batch, 1000)
    count = min(MILLION, MOST_CALLS * batch)
    queue = lab.queue(lease_seconds=10 * LONG_LEASE)
    left: set[str] = set()

    async def push(total: int) -> None:
        for _ in range(0, total, batch):
            left.update(str(stored) for stored in await queue.push(lab.messages(batch)))

    async def pop() -> float:
        began = time.monotonic()
        deliveries = await queue.pop(min(10, batch), PATIENCE)
        seconds = time.monotonic() - began
        await queue.ack(receipts(deliveries))
        left.difference_update(ids(deliveries))
        return seconds

    await push(1000)
    few = statistics.median([await pop() for _ in range(20)])
    await push(count)
    many = statistics.median([await pop() for _ in range(20)])
    limit = 10 * few + 0.02  # a slow pop is no growth; one that looks through all of them takes seconds
    lab.expect_that(many <= limit, f"a pop from {count} messages", f"{many:.4f} s", f"at most {limit:.4f} s")
    while left and (deliveries := await queue.pop(batch, PATIENCE)):
        await queue.ack(receipts(deliveries))
        left.difference_update(ids(deliveries))
    lab.expect("how many were lost", len(left), 0)
    await lab.expect_counts("in the end", queue)
