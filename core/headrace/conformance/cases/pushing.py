"""Pushing: what is stored comes back as it was sent, one result for each."""

from headrace.conformance.case import case
from headrace.conformance.lab import Lab, ids, receipts
from headrace.conformance.promises import Promise
from headrace.driver import NO_HEADERS, Note

#: Every field that a message can carry, with values that are hard to carry.
NOTE = Note(type="ValueError", message="no \0 such\n\N{SNOWMAN}", traceback="x" * 15_000, time=1.5)


@case(Promise.AT_LEAST_ONCE)
async def a_pushed_message_comes_back_as_it_was_sent(lab: Lab) -> None:
    """A push stores every field of a message, and a pop hands it out unchanged, with the count 1."""
    queue = lab.queue()
    sent = lab.message(body=b'{"a": 1}', attempt=2, deaths=1, headers={"trace": "\N{SNOWMAN}", "b": ""}, note=NOTE)
    lab.expect("the ids that were stored", await queue.push([sent]), [sent.id])
    delivery = await lab.take_one(queue)
    lab.expect_same("the message", delivery.message, sent)
    lab.expect("how often it was handed out", delivery.count, 1)


@case(Promise.AT_LEAST_ONCE)
async def a_message_without_extras_comes_back_without_them(lab: Lab) -> None:
    """What a message does not have, it does not have when it comes back: no headers, no note, no key."""
    queue = lab.queue()
    sent = lab.message()
    await queue.push([sent])
    delivery = await lab.take_one(queue)
    lab.expect_same("the message", delivery.message, sent)
    lab.expect("its headers", dict(delivery.message.headers), dict(NO_HEADERS))


@case(Promise.IDENTICAL)
async def identical_messages_are_separate_messages(lab: Lab) -> None:
    """Messages that differ in nothing but their ids are all stored, and all handed out."""
    queue = lab.queue()
    sent = lab.messages(3, body=b"the same")
    await lab.in_batches(queue.push, sent)
    deliveries = await lab.take(queue, 3)
    lab.expect("the ids that came", sorted(ids(deliveries)), sorted(each.id for each in sent))
    await lab.in_batches(queue.ack, receipts(deliveries[:1]))
    await lab.expect_counts("after one of three was acked", queue, reserved=2)
