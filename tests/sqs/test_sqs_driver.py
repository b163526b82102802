"""What the kit cannot know of a driver on SQS: requests, hops, queues that are missing, and what others send."""

import asyncio
import time
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import boto3  # type: ignore[import-untyped]
import msgspec
import pytest
from helpers_sqs import Make, counts, ids, message, messages, pairs, receipts, take
from meddling import Before, Document, Meddler, refusal

from headrace.conformance.servers.moto import MotoServer
from headrace.driver import Delivery, Driver, Settled
from headrace.errors import BackendError, BackendUnavailable, MessageTooLarge
from headrace.notes import make_note
from headrace_sqs import delays
from headrace_sqs import receipts as receipts_module
from headrace_sqs.backend import SqsBackend
from headrace_sqs.codec import LARGEST, NOTE, RESERVE


@pytest.fixture
def client(server: MotoServer) -> Iterator[Any]:
    """boto3's own, for what others do to a queue."""
    client = boto3.client("sqs", endpoint_url=server.url)
    yield client
    client.close()


def total(backend: SqsBackend) -> int:
    return sum(backend.requests.values())


# What it costs.


async def test_a_saturated_queue_costs_a_third_of_a_request_for_each_job(backend: SqsBackend, prefix: str) -> None:
    driver = backend.driver(prefix)
    await driver.push(messages(1))
    await driver.ack(receipts(await take(driver, 1)))
    before = total(backend)
    for _ in range(5):
        await driver.push(messages(40))
    came = 0
    while came < 200:
        held = await driver.pop(40, 5)
        assert len(await driver.ack(receipts(held))) == len(held)
        came += len(held)
    assert (total(backend) - before) / 200 <= 0.35


async def test_what_many_callers_send_at_once_goes_out_in_tens(backend: SqsBackend, prefix: str) -> None:
    driver = backend.driver(prefix)
    await driver.push(messages(1))
    before = backend.requests["SendMessageBatch"]
    await asyncio.gather(*(driver.push([each]) for each in messages(60)))
    assert backend.requests["SendMessageBatch"] - before == 6
    held = await take(driver, 61)
    before = backend.requests["DeleteMessageBatch"]
    await asyncio.gather(*(driver.ack([each.receipt]) for each in held[:50]))
    assert backend.requests["DeleteMessageBatch"] - before == 5


async def test_an_idle_worker_asks_once_for_each_pop_however_long_it_waits(backend: SqsBackend, prefix: str) -> None:
    driver = backend.driver(prefix)
    await driver.pop(10, 0)
    before = backend.requests["ReceiveMessage"]
    assert await driver.pop(40, 3) == []
    assert backend.requests["ReceiveMessage"] - before == 1


@pytest.mark.parametrize("wait", [0.02, 0.25])
async def test_pops_that_wait_for_less_than_a_second_share_a_request(
    backend: SqsBackend, prefix: str, wait: float
) -> None:
    driver = backend.driver(prefix)
    await driver.pop(1, 0)
    before, began, pops = backend.requests["ReceiveMessage"], time.monotonic(), 0
    while time.monotonic() < began + 3:
        assert await driver.pop(1, wait) == []
        pops += 1
    # One that a request's end leaves with too little for another is back before its time.
    assert pops <= 3 / wait + 3 + 1
    assert backend.requests["ReceiveMessage"] - before <= time.monotonic() - began + 1


async def test_several_requests_go_out_at_once_only_while_they_come_back_full(backend: SqsBackend, prefix: str) -> None:
    driver = backend.driver(prefix)
    await driver.push(messages(35))
    sizes = [len(await driver.pop(40, 2)) for _ in range(2)]
    assert sizes[0] == 10
    assert sizes[1] == 25
    before = backend.requests["ReceiveMessage"]
    assert await driver.pop(40, 1) == []
    assert backend.requests["ReceiveMessage"] - before == 1


async def test_no_request_asks_for_more_than_there_are_free_slots(make: Make, meddler: Meddler, prefix: str) -> None:
    asked: list[int] = []

    def look(operation: str, request: Document) -> None:
        if operation == "ReceiveMessage":
            asked.append(request["MaxNumberOfMessages"])

    meddler.before = look
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push(messages(40))
    await driver.pop(10, 1)
    asked.clear()
    await driver.pop(23, 1)
    assert sorted(asked) == [3, 10, 10]


# Callers who have gone.


async def test_what_was_not_sent_when_its_push_was_given_up_is_never_sent(
    make: Make, meddler: Meddler, prefix: str
) -> None:
    """Else an outage would leave as many messages as callers were told that it failed."""
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push([message("first")])
    meddler.delay = 3.0

    async def push(number: int) -> None:
        async with asyncio.timeout(0.2):
            await (driver.delay if number % 2 else driver.push)([message(f"{number}")])

    under_way = backend.requests["SendMessageBatch"]
    pushes: list[asyncio.Task[None]] = []
    for number in range(40):
        pushes.append(asyncio.create_task(push(number)))
        await asyncio.sleep(0.02)
    outcomes = await asyncio.gather(*pushes, return_exceptions=True)
    assert {type(each) for each in outcomes} == {TimeoutError}
    under_way = backend.requests["SendMessageBatch"] - under_way
    assert under_way == 4
    meddler.delay = 0.0
    assert await driver.push([message("last")]) == ["last"]
    stored = await take(driver, 1 + under_way + 1)
    assert {each.message.id for each in stored} == {"first", *(str(number) for number in range(under_way)), "last"}
    assert await counts(driver) == {"reserved": len(stored)}


async def test_what_is_sent_and_then_deleted_goes_on_to_its_end_though_its_caller_has_gone(
    make: Make, meddler: Meddler, prefix: str
) -> None:
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push([message("a")])
    (held,) = await take(driver, 1)
    before = meddler.seen["SendMessageBatch"]
    meddler.delay = 1.0
    pushes = [asyncio.create_task(driver.push(messages(10))) for _ in range(4)]
    while meddler.seen["SendMessageBatch"] < before + 4:
        await asyncio.sleep(0.01)
    retry = asyncio.create_task(driver.retry(pairs([held], attempt=1)))
    await asyncio.sleep(0.1)
    retry.cancel()
    await asyncio.wait((retry, *pushes))
    meddler.delay = 0.0
    while await counts(driver) != {"waiting": 41}:
        await asyncio.sleep(0.05)
    assert [each.message.attempt for each in await take(driver, 41) if each.message.id == "a"] == [1]


# Pops that end early.


async def test_what_a_cancelled_pop_was_waiting_for_goes_to_the_next_pop_of_the_backend(
    backend: SqsBackend, prefix: str
) -> None:
    before = backend.requests["ReceiveMessage"]
    pop = asyncio.create_task(backend.driver(prefix).pop(1, 10))
    while backend.requests["ReceiveMessage"] == before:
        await asyncio.sleep(0.01)
    before += 1
    pop.cancel()
    await asyncio.wait((pop,))
    await backend.driver(prefix).push([message("a")])
    (delivery,) = await backend.driver(prefix).pop(1, 5)
    assert (delivery.message.id, delivery.count) == ("a", 1)
    assert backend.requests["ReceiveMessage"] == before


async def test_what_nobody_waits_for_any_more_is_given_back_uncounted(
    make: Make, backend: SqsBackend, options: dict[str, Any], prefix: str
) -> None:
    other = make(**options)
    await other.open()
    driver = backend.driver(prefix)
    pop = asyncio.create_task(driver.pop(1, 10))
    await asyncio.sleep(0.3)
    pop.cancel()
    await asyncio.wait((pop,))
    await other.driver(prefix).push([message("a", deaths=1)])
    (delivery,) = await take(other.driver(prefix), 1)
    assert (delivery.message.id, delivery.message.deaths, delivery.count) == ("a", 1, 1)
    while await counts(driver) != {"reserved": 1}:  # the original is deleted after that
        await asyncio.sleep(0.05)


async def test_closing_gives_back_what_nobody_has_taken(
    make: Make, options: dict[str, Any], backend: SqsBackend, prefix: str
) -> None:
    other = make(**options)
    await other.open()
    pop = asyncio.create_task(other.driver(prefix).pop(1, 10))
    await asyncio.sleep(0.3)
    pop.cancel()
    await asyncio.wait((pop,))
    await backend.driver(prefix).push([message("a")])
    while await counts(backend.driver(prefix)) != {"reserved": 1}:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    await other.close()
    (delivery,) = await take(backend.driver(prefix), 1)
    assert (delivery.message.id, delivery.count) == ("a", 1)


async def test_closing_does_not_wait_for_a_request_that_waits(make: Make, options: dict[str, Any], prefix: str) -> None:
    backend = make(**options)
    await backend.open()
    pop = asyncio.create_task(backend.driver(prefix).pop(1, 20))
    await asyncio.sleep(0.3)
    pop.cancel()
    began = time.monotonic()
    await backend.close()
    assert time.monotonic() - began < 5


# Long delays.


async def test_a_delay_that_sqs_cannot_wait_for_is_made_of_hops_by_its_clock(
    backend: SqsBackend, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With hops of 2 s instead of 900, and a worker's clock that is an hour ahead."""
    monkeypatch.setattr(delays, "LONGEST_HOP", 2)
    honest = time.time
    monkeypatch.setattr(time, "time", lambda: honest() + 3600)
    driver = backend.driver(prefix)
    sent = message(delay=5.0, headers={"a": "b"})
    began = time.monotonic()
    await driver.delay([sent])
    (delivery,) = await driver.pop(1, 20)
    took = time.monotonic() - began
    assert 5.0 <= took < 9.0
    assert (delivery.message.id, delivery.message.headers, delivery.count) == (sent.id, {"a": "b"}, 1)
    assert await driver.ack([delivery.receipt]) == [Settled.DONE]
    assert await counts(driver) == {}


async def test_what_has_only_ended_a_hop_is_lent_with_what_remains_of_its_delay(
    backend: SqsBackend, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = backend.driver(prefix)
    monkeypatch.setattr(delays, "LONGEST_HOP", 1)
    await driver.delay([message("a", delay=100)])
    lent: list[Delivery] = []
    while not lent:
        lent += await driver.lend("delayed", 10)
    assert 80 < lent[0].message.delay < 100
    assert lent[0].count == 1
    assert list(await driver.ack([lent[0].receipt])) == [Settled.DONE]
    assert await counts(driver) == {}


async def test_a_flush_of_what_waits_leaves_what_has_only_ended_a_hop(
    backend: SqsBackend, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delays, "LONGEST_HOP", 1)
    driver = backend.driver(prefix)
    await driver.push([message("now")])
    await driver.delay([message("later", delay=600.0)])
    await asyncio.sleep(1.5)
    monkeypatch.setattr(delays, "LONGEST_HOP", 900)
    assert await driver.flush("waiting") == 1
    assert await counts(driver) == {"delayed": 1}


async def test_the_longest_native_delay_is_no_hop(make: Make, meddler: Meddler, prefix: str) -> None:
    asked: list[int] = []

    def look(operation: str, request: Document) -> None:
        if operation == "SendMessageBatch":
            asked.extend(entry["DelaySeconds"] for entry in request["Entries"])

    meddler.before = look
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    await backend.driver(prefix).delay([message(delay=each) for each in (0.2, 899.5, 900.0, 900.5, 3e8)])
    assert asked == [1, 900, 900, 900, 900]


# Sizes.


async def test_a_message_that_is_too_large_is_refused_alone_before_anything_is_sent(
    backend: SqsBackend, prefix: str
) -> None:
    driver = backend.driver(prefix)
    large = message(body=b"x" * LARGEST)
    first, error, last = await driver.push([message("a"), large, message("b")])
    assert (first, last) == ("a", "b")
    assert isinstance(error, MessageTooLarge)
    assert error.size > error.limit == LARGEST - NOTE
    assert await counts(driver) == {"waiting": 2}


@pytest.mark.parametrize("headers", [14_000, 16_000, 18_000])
async def test_what_was_pushed_can_fail_with_the_longest_note(backend: SqsBackend, prefix: str, headers: int) -> None:
    """Else it would come back for ever: what has no room for a note is refused at its push."""
    driver = backend.driver(prefix)
    sent = message(body=b"x" * (LARGEST - RESERVE), headers={"h": "v" * headers})
    (stored,) = await driver.push([sent])
    if isinstance(stored, BackendError):
        assert isinstance(stored, MessageTooLarge)
        assert headers == 18_000
        return
    (held,) = await take(driver, 1)
    note = make_note("E" * 256, "m" * 4096, "t" * 11264)
    assert await driver.fail(pairs([held], note=note), "failed") == [Settled.DONE]
    (shown,) = (await driver.peek("failed", 1)).messages
    assert shown.note == note


async def test_what_others_have_sent_fails_with_as_much_of_its_note_as_there_is_room_for(
    backend: SqsBackend, client: Any, prefix: str
) -> None:
    driver = backend.driver(prefix)
    url = client.create_queue(QueueName=prefix[1:-1], Attributes={"MaximumMessageSize": str(LARGEST)})["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="x" * (LARGEST - 6000))
    (held,) = await take(driver, 1)
    note = make_note("E", "m" * 4096, "t" * 11264)
    assert await driver.fail(pairs([held], note=note), "failed") == [Settled.DONE]
    (shown,) = (await driver.peek("failed", 1)).messages
    assert shown.note is not None
    assert (shown.note.message, shown.note.traceback) == (note.message, "")


async def test_a_batch_is_split_by_its_bytes_as_well_as_by_ten(make: Make, meddler: Meddler, prefix: str) -> None:
    sizes: list[int] = []

    def look(operation: str, request: Document) -> None:
        if operation == "SendMessageBatch":
            sizes.append(sum(len(entry["MessageBody"]) for entry in request["Entries"]))

    meddler.before = look
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix)
    sent = [message(body=b"x" * 300_000) for _ in range(7)]
    assert list(await driver.push(sent)) == [each.id for each in sent]
    assert sorted(sizes) == [300_000, 900_000, 900_000]
    assert sorted(ids(await take(driver, 7))) == sorted(each.id for each in sent)


#: What queues took that were made before SQS took 1 MiB.
OLDER = 2**18


def refuse_above(largest: int) -> Before:
    """As SQS does for a queue that takes so many bytes; moto looks at what a batch has in all."""

    def before(operation: str, request: Document) -> tuple[int, Document] | None:
        if operation != "SendMessageBatch":
            return None
        sizes = [
            len(entry["MessageBody"])
            + sum(
                len(name) + len("Binary") + len(b64decode(value["BinaryValue"]))
                for name, value in entry["MessageAttributes"].items()
            )
            for entry in request["Entries"]
        ]
        if max(sizes) <= largest:
            return None
        refused = {"Code": "InvalidParameterValue", "Message": "too long", "SenderFault": True}
        return 200, {"Failed": [{**refused, "Id": entry["Id"]} for entry in request["Entries"]]}

    return before


async def make_older(make: Make, meddler: Meddler, client: Any, prefix: str, largest: int = OLDER) -> SqsBackend:
    """A backend with queues that take no more than so many bytes."""
    for end in ("", "-failed", "-timeout"):
        client.create_queue(QueueName=prefix[1:-1] + end, Attributes={"MaximumMessageSize": str(largest)})
    meddler.before = refuse_above(largest)
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    return backend


async def test_what_a_queue_of_an_older_limit_has_no_room_for_is_refused_at_its_push_naming_the_queue(
    make: Make, meddler: Meddler, client: Any, prefix: str
) -> None:
    driver = (await make_older(make, meddler, client, prefix)).driver(prefix)
    large, fits = message(body=b"x" * 250 * 1024), message("a", body=b"x" * 230 * 1024)
    error, stored = await driver.push([large, fits])
    assert stored == "a"
    assert isinstance(error, MessageTooLarge)
    assert error.limit == OLDER - NOTE
    assert f"'queue {prefix[1:-1]} of SQS at" in str(error)
    (held,) = await take(driver, 1)
    note = make_note("E" * 256, "m" * 4096, "t" * 11264)
    assert await driver.fail(pairs([held], note=note), "failed") == [Settled.DONE]
    (shown,) = (await driver.peek("failed", 1)).messages
    assert shown.note == note


async def test_what_is_in_such_a_queue_already_is_retried_and_fails_with_the_note_that_it_has_room_for(
    make: Make, meddler: Meddler, client: Any, prefix: str
) -> None:
    driver = (await make_older(make, meddler, client, prefix)).driver(prefix)
    url = client.get_queue_url(QueueName=prefix[1:-1])["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="x" * 250 * 1024)
    note = make_note("E", "m" * 4096, "t" * 11264)
    (held,) = await take(driver, 1)
    assert await driver.retry(pairs([held], attempt=1, note=note)) == [Settled.DONE]
    (held,) = await take(driver, 1)
    assert (held.message.attempt, held.message.note) == (1, msgspec.structs.replace(note, traceback=""))
    assert await driver.fail(pairs([held], note=note), "failed") == [Settled.DONE]
    (shown,) = (await driver.peek("failed", 1)).messages
    assert shown.note == msgspec.structs.replace(note, traceback="")


async def test_a_queue_for_small_messages_takes_some_though_a_note_would_not_fit(
    make: Make, meddler: Meddler, client: Any, prefix: str
) -> None:
    driver = (await make_older(make, meddler, client, prefix, 1024)).driver(prefix)
    stored, error = await driver.push([message("a"), message(body=b"x" * 600)])
    assert stored == "a"
    assert isinstance(error, MessageTooLarge)
    (held,) = await take(driver, 1)
    assert await driver.fail(pairs([held], note=make_note("E", "m" * 4096, "t")), "failed") == [Settled.DONE]
    assert await counts(driver) == {"failed": 1}


async def test_what_a_queue_takes_is_asked_once_and_again_when_it_has_refused(
    make: Make, meddler: Meddler, client: Any, prefix: str
) -> None:
    client.create_queue(QueueName=prefix[1:-1])
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix)
    await asyncio.gather(*(driver.push(messages(1)) for _ in range(5)))
    await driver.push(messages(5))
    assert backend.requests["GetQueueAttributes"] == 1
    url = client.get_queue_url(QueueName=prefix[1:-1])["QueueUrl"]
    client.set_queue_attributes(QueueUrl=url, Attributes={"MaximumMessageSize": str(OLDER)})
    meddler.before = refuse_above(OLDER)
    large = [message(body=b"x" * 300 * 1024)]
    assert [type((await driver.push(large))[0]) for _ in range(2)] == [BackendError, MessageTooLarge]
    assert backend.requests["GetQueueAttributes"] == 2


async def test_who_may_not_look_at_a_queue_pushes_all_the_same_and_does_not_ask_again(
    make: Make, meddler: Meddler, client: Any, prefix: str
) -> None:
    client.create_queue(QueueName=prefix[1:-1])
    meddler.before = lambda operation, request: (
        (403, refusal("AccessDenied")) if operation == "GetQueueAttributes" else None
    )
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    for _ in range(2):
        assert await backend.driver(prefix).push([message("a")]) == ["a"]
    assert backend.requests["GetQueueAttributes"] == 1


# Queues.


async def test_queues_are_made_to_keep_messages_as_long_as_sqs_can(
    backend: SqsBackend, client: Any, prefix: str
) -> None:
    await backend.driver(prefix).push(messages(1))
    url = client.get_queue_url(QueueName=prefix[1:-1])["QueueUrl"]
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert found["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    assert found["MaximumMessageSize"] == str(2**20)
    assert await backend.check() == []


async def test_a_missing_queue_is_named_with_what_it_needs_where_it_may_not_be_made(
    make: Make, options: dict[str, Any], prefix: str
) -> None:
    backend = make(**options, create_queues=False)
    await backend.open()
    driver = backend.driver(prefix)
    with pytest.raises(BackendError, match=f"'{prefix[1:-1]}'.*MessageRetentionPeriod=1209600"):
        await driver.info()
    with pytest.raises(BackendError, match="create_queues is false"):
        await driver.pop(1, 0)
    (error,) = await driver.push(messages(1))
    assert isinstance(error, BackendError)
    assert not isinstance(error, BackendUnavailable)
    assert "create_queues is false" in str(error)


async def test_check_names_the_queues_that_are_missing_where_none_may_be_made(
    make: Make, options: dict[str, Any], prefix: str
) -> None:
    backend = make(**options, create_queues=False)
    await backend.open()
    backend.driver(prefix)
    told = await backend.check()
    name = prefix[1:-1]
    assert [each for each in (name, f"{name}-failed", f"{name}-timeout") if any(repr(each) in line for line in told)]
    assert len(told) == 3
    assert all("MessageRetentionPeriod=1209600" in line for line in told)


async def test_check_warns_of_queues_that_others_have_made(backend: SqsBackend, client: Any, prefix: str) -> None:
    name = prefix[1:-1]
    dead = client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    attributes = {
        "MessageRetentionPeriod": "345600",
        "MaximumMessageSize": "262144",
        "RedrivePolicy": f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 5}}',
    }
    client.create_queue(QueueName=name, Attributes=attributes)
    backend.driver(prefix)
    days, size, redrive = await backend.check()
    assert "after 4 days" in days
    assert "above 262144 bytes" in size
    assert "RedrivePolicy" in redrive


async def test_a_queue_that_somebody_has_deleted_is_made_again_by_a_push_and_by_a_pop(
    backend: SqsBackend, client: Any, prefix: str
) -> None:
    driver = backend.driver(prefix)
    await driver.push(messages(1))
    for use in (lambda: driver.push([message("a")]), lambda: driver.pop(1, 0)):
        client.delete_queue(QueueUrl=client.get_queue_url(QueueName=prefix[1:-1])["QueueUrl"])
        await use()
    assert await counts(driver) == {}


async def test_a_delay_that_a_queue_has_by_itself_does_not_hold_up_what_is_due(
    backend: SqsBackend, client: Any, prefix: str
) -> None:
    client.create_queue(QueueName=prefix[1:-1], Attributes={"DelaySeconds": "600"})
    driver = backend.driver(prefix)
    await driver.push(messages(1))
    assert await counts(driver) == {"waiting": 1}


# What others put into a queue, and what is told to SQS.


async def test_what_others_send_is_handed_out_and_can_fail(backend: SqsBackend, client: Any, prefix: str) -> None:
    driver = backend.driver(prefix)
    url = client.create_queue(QueueName=prefix[1:-1])["QueueUrl"]
    sent = client.send_message(QueueUrl=url, MessageBody="hello")
    (delivery,) = await take(driver, 1)
    assert (delivery.message.id, delivery.message.name, delivery.message.body) == (sent["MessageId"], "", b"hello")
    assert await driver.fail(pairs([delivery]), "failed") == [Settled.DONE]
    (shown,) = (await driver.peek("failed", 5)).messages
    assert shown.id == sent["MessageId"]


async def test_a_field_of_the_job_is_the_group_by_which_sqs_is_fair(
    make: Make, options: dict[str, Any], client: Any, prefix: str
) -> None:
    backend = make(**options, fair="customer")
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push([message("a", body=b'{"customer": "acme"}'), message("b")])
    (held,) = [each for each in await take(driver, 2) if each.message.id == "a"]
    await driver.retry(pairs([held], attempt=1))
    url = client.get_queue_url(QueueName=prefix[1:-1])["QueueUrl"]
    (found,) = client.receive_message(QueueUrl=url, MessageSystemAttributeNames=["All"])["Messages"]
    assert found["Attributes"]["MessageGroupId"] == "acme"


async def test_what_others_send_with_our_attributes_keeps_nobody_from_the_rest(
    backend: SqsBackend, client: Any, prefix: str
) -> None:
    driver = backend.driver(prefix)
    await driver.push([message("a")])
    url = client.get_queue_url(QueueName=prefix[1:-1])["QueueUrl"]
    ours = {name: {"DataType": "String", "StringValue": "x"} for name in ("headrace", "headrace-body")}
    client.send_message(QueueUrl=url, MessageBody="hello", MessageAttributes=ours)
    assert sorted(each.message.body for each in await take(driver, 2)) == [b"hello", message("a").body]


# Receipts.


async def test_a_lease_is_extended_by_what_twelve_hours_leave_of_it(
    backend: SqsBackend, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 40 s, and then none, instead of 12 h: a request for more is refused, by moto with all that go along."""
    driver = backend.driver(prefix, lease_seconds=20)
    await driver.push(messages(2))
    monkeypatch.setattr(receipts_module, "LONGEST_LEASE", 40)
    (first,) = await take(driver, 1)
    monkeypatch.setattr(receipts_module, "LONGEST_LEASE", 0)
    (second,) = await take(driver, 1)
    done, error = await driver.extend([first.receipt, second.receipt], 60)
    assert done is Settled.DONE
    assert first.receipt.last - 1 < first.receipt.deadline <= first.receipt.last
    assert isinstance(error, BackendError)
    assert "12 hours" in str(error)
    assert await driver.ack(receipts([first, second])) == [Settled.DONE, Settled.DONE]


async def test_what_comes_again_after_the_shortest_lease_is_handed_out_at_once(
    backend: SqsBackend, prefix: str
) -> None:
    """What a dead worker held, to a pop that has waited for it long."""
    driver = backend.driver(prefix, lease_seconds=0.1)
    await driver.push(messages(1))
    await take(driver, 1)
    assert [(await driver.pop(1, 20))[0].count for _ in range(3)] == [2, 3, 4]


async def test_a_receipt_whose_lease_ended_here_is_stale_without_asking(backend: SqsBackend, prefix: str) -> None:
    driver = backend.driver(prefix, lease_seconds=2)
    await driver.push(messages(1))
    held = await take(driver, 1)
    await asyncio.sleep(2.2)
    before = total(backend)
    assert await driver.ack(receipts(held)) == [Settled.STALE]
    assert await driver.retry(pairs(held)) == [Settled.STALE]
    assert await driver.fail(pairs(held), "failed") == [Settled.STALE]
    assert await driver.extend(receipts(held), 60) == [Settled.STALE]
    assert total(backend) == before


async def test_a_lease_ends_when_it_should_though_its_message_came_late_to_a_request_that_waited(
    backend: SqsBackend, prefix: str
) -> None:
    """The lease is shorter than the wait: it begins with the delivery, not with the request."""
    driver = backend.driver(prefix, lease_seconds=3)
    for _ in range(20):  # by then it knows SQS's clock
        await driver.info()
    pop = asyncio.create_task(driver.pop(1, 10))
    await asyncio.sleep(4)
    await driver.push(messages(1))
    assert await driver.ack(receipts(await pop)) == [Settled.DONE]


async def test_a_process_that_slept_on_an_answer_knows_that_the_lease_has_ended(
    make: Make, meddler: Meddler, prefix: str
) -> None:
    """As after SIGSTOP: the answer to a request that may wait 5 s is read 5 s after it was given, 3 s too late."""
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix, lease_seconds=2)
    for _ in range(5):
        await driver.info()
    await driver.push(messages(1))

    def sleep(operation: str, request: Document, answer: Document) -> Document:
        if operation == "ReceiveMessage":
            time.sleep(5)
        return answer

    meddler.after = sleep
    began = time.monotonic()
    assert await driver.pop(1, 5) == []
    assert time.monotonic() - began >= 5


async def test_what_was_sent_on_and_not_yet_deleted_is_not_sent_twice(
    make: Make, meddler: Meddler, prefix: str
) -> None:
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push(messages(1))
    held = await take(driver, 1)
    meddler.before = lambda operation, request: (
        (500, {"__type": "InternalFailure"}) if operation == "DeleteMessageBatch" else None
    )
    (error,) = await driver.fail(pairs(held), "failed")
    assert isinstance(error, BackendUnavailable)
    assert await counts(driver) == {"reserved": 1, "failed": 1}
    meddler.before = lambda operation, request: None
    assert await driver.fail(pairs(held), "failed") == [Settled.DONE]
    assert await counts(driver) == {"failed": 1}


# The event loop.


async def test_the_event_loop_is_never_blocked(backend: SqsBackend, prefix: str) -> None:
    driver, gaps = backend.driver(prefix), [0.0]

    async def beat() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - began - 0.01)

    beating = asyncio.create_task(beat())
    await _work(driver)
    beating.cancel()
    await asyncio.wait((beating,))
    print(f"\nthe longest that the loop was late: {1000 * max(gaps):.0f} ms in {len(gaps)} beats")
    assert max(gaps) < 1


async def _work(driver: Driver) -> None:
    await driver.push(messages(40))
    await driver.ack(receipts(await take(driver, 40)))
    await driver.pop(1, 2)
