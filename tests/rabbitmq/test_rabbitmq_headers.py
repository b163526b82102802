"""What is not body travels in one frame: what becomes of a message for which that is too small."""

import aio_pika
import msgspec
import pytest
from helpers_rabbitmq import Make, eventually, take
from words import counts, ids, message, pairs, receipts

from headrace.conformance.servers.rabbitmq import RabbitServer
from headrace.driver import Backend, Driver, Message, Note, Settled
from headrace.errors import MessageTooLarge
from headrace_rabbitmq.codec import header_size, properties

DONE = Settled.DONE

#: A note of the longest parts that core makes, of which JSON escapes each character into six.
LONGEST = Note("E" * 256, "\0" * 4 * 1024, "\1" * 11 * 1024, 1.5)

#: Bytes of the largest header that RabbitMQ takes unless it is configured otherwise.
LARGEST = 128 * 1024 - 8


def with_headers(size: int) -> Message:
    return message(headers={"large": "x" * size})


async def publish(server: RabbitServer, sent: Message) -> None:
    """As a version would that measures nothing."""
    made = properties(sent)
    async with await aio_pika.connect(server.url) as connection:
        channel = await connection.channel()
        passed = aio_pika.Message(
            sent.body, headers=dict(made.headers or {}), message_id=made.message_id, type=made.message_type
        )
        await channel.default_exchange.publish(passed, "{mail}")


async def peeked(driver: Driver) -> list[Message]:
    return list((await driver.peek("failed", 10)).messages)


@pytest.mark.parametrize("delay", [0.0, 60.0])
async def test_headers_too_large_for_a_frame_are_refused_and_their_neighbours_stored_once(
    backend: Backend, delay: float
) -> None:
    driver = backend.driver("{mail}")
    put = driver.delay if delay else driver.push
    sent = [message(delay=delay), msgspec.structs.replace(with_headers(200_000), delay=delay), message(delay=delay)]
    first, refused, last = await put(sent)
    assert (first, last) == (sent[0].id, sent[2].id)
    assert isinstance(refused, MessageTooLarge)
    assert refused.size > 200_000
    assert str(refused.size) in str(refused) and str(refused.limit) in str(refused)
    await eventually(lambda: counts(driver), {"delayed" if delay else "waiting": 2})
    (alone,) = await put([sent[1]])
    assert isinstance(alone, MessageTooLarge)


async def test_what_is_just_taken_can_be_retried_and_failed_with_the_longest_note(backend: Backend) -> None:
    driver = backend.driver("{mail}")
    (refused,) = await driver.push([with_headers(LARGEST)])
    assert isinstance(refused, MessageTooLarge)
    sent = with_headers(LARGEST - (refused.size - refused.limit))
    stored, refused = await driver.push([sent, with_headers(len(sent.headers["large"]) + 1)])
    assert stored == sent.id
    assert isinstance(refused, MessageTooLarge)
    await eventually(lambda: counts(driver), {"waiting": 1})
    for text in ("\N{SNOWMAN}\n" * 2000, "\0" * 11 * 1024):
        (held,) = await take(driver, 1)
        note = Note("ValueError", "no", text, 1.5)
        assert await driver.retry(pairs([held], attempt=1, deaths=2, note=note, delay=0.01)) == [DONE]
    (held,) = await take(driver, 1)
    assert await driver.fail(pairs([held], attempt=10**9, deaths=10**9, note=LONGEST), "failed") == [DONE]
    (rests,) = await peeked(driver)
    assert rests.note is not None
    assert (rests.headers, rests.attempt, rests.deaths) == (sent.headers, 10**9, 10**9)
    assert (rests.note.type, rests.note.message) == (LONGEST.type, LONGEST.message)  # the traceback goes first
    assert rests.note.traceback.lstrip(".") and LONGEST.traceback.endswith(rests.note.traceback.lstrip("."))


async def test_headers_of_an_older_version_that_leave_no_room_for_a_note_fail_with_less_of_it(
    backend: Backend, server: RabbitServer
) -> None:
    driver = backend.driver("{mail}")
    await driver.push([message("a")])
    await publish(server, msgspec.structs.replace(with_headers(125_000), id="b"))
    await publish(server, msgspec.structs.replace(with_headers(LARGEST - 130), id="c"))
    held = await take(driver, 3)
    note = Note("ValueError", "no " * 1000, "Traceback\n" * 1000 + "the end", 1.5)
    assert await driver.fail(pairs(held, note=note), "failed") == [DONE] * 3
    await eventually(lambda: counts(driver), {"failed": 3})
    rest = {each.id: each for each in await peeked(driver)}
    assert rest["a"].note == note
    shorter = rest["b"].note
    assert shorter is not None
    assert shorter.message == note.message and shorter.traceback.endswith("the end")
    assert rest["c"].note is None
    assert await driver.reload("failed") == 3
    assert sorted(ids(await take(driver, 3))) == ["a", "b", "c"]


async def test_a_stored_message_keeps_as_much_of_its_note_as_there_is_room_for(backend: Backend) -> None:
    driver = backend.driver("{mail}")
    sent = msgspec.structs.replace(with_headers(90_000), note=LONGEST)
    large = msgspec.structs.replace(with_headers(LARGEST), note=LONGEST)
    stored, refused = await driver.store([sent, large], "failed")
    assert stored == sent.id
    assert isinstance(refused, MessageTooLarge)
    (rests,) = await peeked(driver)
    assert rests.headers == sent.headers
    assert rests.note is not None and rests.note.message == LONGEST.message


async def test_what_nobody_popped_is_given_back_though_its_header_had_no_room_for_the_count_of_deliveries(
    make: Make, backend: Backend, server: RabbitServer
) -> None:
    driver = backend.driver("{mail}")
    assert await driver.pop(1, 0) == []  # so that there is the queue
    sent = msgspec.structs.replace(with_headers(100_000), note=Note("ValueError", "no", "", 1.5))
    trace = "x" * (LARGEST - header_size(properties(sent)) - 10)
    await publish(server, msgspec.structs.replace(sent, note=Note("ValueError", "no", trace, 1.5)))
    other = make(server.url)
    await other.open()
    assert ids(await take(other.driver("{mail}"), 1)) == [sent.id]
    await other.close()  # as its process would end: that is a delivery to be counted
    await eventually(lambda: driver.wait_ready(0.5), True)
    third = make(server.url)
    await third.open()
    (held,) = await take(third.driver("{mail}"), 1)
    assert (held.message.id, held.count) == (sent.id, 2)
    assert held.message.headers == sent.headers
    assert held.message.note is not None and trace.endswith(held.message.note.traceback.lstrip("."))


async def test_where_frames_are_smaller_less_is_taken_and_what_is_there_breaks_no_connection(make: Make) -> None:
    with RabbitServer() as server:
        backend = make(server.url)
        await backend.open()
        driver = backend.driver("{mail}")
        large = with_headers(20_000)
        assert list(await driver.push([message("a"), large])) == ["a", large.id]
        file = server.folder / "rabbitmq.conf"
        server.stop()
        file.write_text(file.read_text() + "frame_max = 8192\n")
        server.start()
        held = await take(driver, 2)
        results = dict(zip(ids(held), await driver.fail(pairs(held, note=LONGEST), "failed"), strict=True))
        assert results["a"] is DONE
        assert isinstance(results[large.id], MessageTooLarge)
        refused, stored = await driver.push([with_headers(6500), with_headers(6000)])
        assert isinstance(refused, MessageTooLarge) and isinstance(stored, str)
        (other,) = await take(driver, 1)
        assert await driver.fail(pairs([other], note=LONGEST), "failed") == [DONE]
        body = message(body=b"x" * 100_000)
        assert list(await driver.push([body])) == [body.id]
        (held_body,) = await take(driver, 1)
        assert held_body.message.body == body.body
        left = [each for each in held if each.message.id == large.id]
        assert await driver.ack(receipts([*left, held_body])) == [DONE] * 2  # the consuming connection lives, too
        await eventually(lambda: counts(driver), {"failed": 2})
        await backend.close()


async def test_a_broker_that_sets_no_limit_to_frames_is_sent_whole_bodies(make: Make) -> None:
    with RabbitServer(options={"frame_max": 0}) as server:
        backend = make(server.url)
        await backend.open()
        driver = backend.driver("{mail}")
        sent = message(body=b"x" * 300_000, headers={"a": "b"})
        assert list(await driver.push([sent])) == [sent.id]
        (held,) = await take(driver, 1)
        assert held.message == sent
        await backend.close()


@pytest.mark.parametrize("long", ["i" * 300, "\N{SNOWMAN}" * 80, "i" * 60_000])
async def test_an_id_longer_than_the_protocol_has_room_for_comes_back_whole(backend: Backend, long: str) -> None:
    driver = backend.driver("{mail}")
    assert list(await driver.push([message(long)])) == [long]
    (held,) = await take(driver, 1)
    assert held.message.id == long
    assert await driver.fail(pairs([held], note=LONGEST), "failed") == [DONE]
    assert [each.id for each in (await driver.peek("failed", 1, ids=[long])).messages] == [long]


async def test_an_id_too_long_for_a_frame_is_refused(backend: Backend) -> None:
    driver = backend.driver("{mail}")
    refused, stored = await driver.push([message("i" * 200_000), message("a")])
    assert isinstance(refused, MessageTooLarge)
    assert stored == "a"
