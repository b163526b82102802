"""What the RabbitMQ driver owes beyond the contract: what stands in the broker, and what becomes of messages there."""

import asyncio
import math
import time
from types import SimpleNamespace
from typing import Any

import aio_pika
import pytest
from helpers_rabbitmq import Make, eventually, take
from words import counts, ids, message, messages, pairs, receipts

from headrace.conformance.servers.rabbitmq import RabbitServer
from headrace.driver import Backend, Delivery, Settled
from headrace_rabbitmq import publishing

DONE, STALE = Settled.DONE, Settled.STALE

#: Seconds; longer than the longest delay that one pass through the levels can take.
YEAR = 365 * 24 * 3600.0


async def publish(server: RabbitServer, queue: str, *sent: aio_pika.Message) -> None:
    """As somebody would who knows nothing of headrace."""
    async with await aio_pika.connect(server.url) as connection:
        channel = await connection.channel()
        for each in sent:
            await channel.default_exchange.publish(each, queue)


async def test_everything_of_a_queue_is_durable_replicated_and_drops_nothing(
    backend: Backend, server: RabbitServer
) -> None:
    before = server.queues()
    driver = backend.driver("{mail}")
    await driver.push(messages(2))
    await driver.delay(messages(1, delay=0.01))
    first, second = await take(driver, 2)
    await driver.fail(pairs([first]), "failed")
    await driver.fail(pairs([second]), "timeout")
    queues = {name: arguments for name, arguments in server.queues().items() if name not in before}
    assert {"{mail}", "{mail}.failed", "{mail}.timeout"} < set(queues)
    for name, arguments in queues.items():
        assert name.startswith("{mail}")
        assert arguments["x-queue-type"] == "quorum"
        assert "x-expires" not in arguments
        if name in ("{mail}.failed", "{mail}.timeout"):
            assert "x-dead-letter-exchange" not in arguments
        else:
            assert arguments["x-dead-letter-strategy"] == "at-least-once"
            assert arguments["x-overflow"] == "reject-publish"
    assert queues["{mail}"]["x-dead-letter-routing-key"] == "{mail}.failed"
    assert queues["{mail}"]["x-delivery-limit"] > 1_000_000
    assert "x-message-ttl" not in queues["{mail}"]


async def test_levels_are_declared_as_far_as_delays_need_them_and_bounded(
    backend: Backend, server: RabbitServer
) -> None:
    driver = backend.driver("{mail}")
    await driver.delay(messages(1, delay=0.1))
    few = {name for name in server.queues() if ".delay." in name}
    assert 1 <= len(few) <= 7
    await driver.delay([message(delay=seconds) for seconds in (0.001, 60, 3600, YEAR)])
    levels = {name: each["x-message-ttl"] for name, each in server.queues().items() if ".delay." in name}
    assert few < set(levels)
    assert len(levels) <= 35
    assert all(math.log2(milliseconds).is_integer() for milliseconds in levels.values())
    assert sum(levels.values()) >= YEAR * 1000
    assert len(server.exchanges()) <= 35
    await eventually(lambda: counts(driver), {"waiting": 2, "delayed": 3})


async def test_all_that_a_queue_has_in_the_broker_goes_with_it(backend: Backend, server: RabbitServer) -> None:
    driver, other = backend.driver("{mail}"), backend.driver("{mails}")
    for each in (driver, other):
        await each.push(messages(4))
        await each.delay(messages(2, delay=60))
        held = await take(each, 2)
        await each.fail(pairs(held[:1]), "failed")
        await each.fail(pairs(held[1:]), "timeout")
    await driver.destroy()
    assert [name for name in {*server.queues(), *server.exchanges()} if not name.startswith("{mails}")] == []
    await other.destroy()
    assert (server.queues(), server.exchanges()) == ({}, set())


async def test_delays_are_never_short_and_hardly_long(backend: Backend) -> None:
    driver = backend.driver("{mail}")
    late = []
    for delay in (0.001, 0.05, 0.3, 1.0):
        began = time.monotonic()
        await driver.delay([message(delay=delay)])
        (held,) = await take(driver, 1)
        passed = time.monotonic() - began
        await driver.ack([held.receipt])
        assert passed >= delay
        late.append(passed - delay)
    print(f"\nlate by {', '.join(f'{each * 1000:.0f} ms' for each in late)}")
    assert max(late) < 5


async def test_a_short_delay_is_not_held_up_by_longer_ones_before_it(backend: Backend) -> None:
    driver = backend.driver("{mail}")
    await driver.delay(messages(200, delay=3600) + messages(1, delay=YEAR))
    short = [message(delay=0.1 + number / 100) for number in range(50)]
    began = time.monotonic()
    await driver.delay(short)
    taken = await take(driver, 50)
    assert sorted(ids(taken)) == sorted(each.id for each in short)
    assert time.monotonic() - began < 8
    await driver.ack(receipts(taken))
    await eventually(lambda: counts(driver), {"delayed": 201})


async def test_a_message_goes_through_delays_and_failures_as_often_as_one_likes(backend: Backend) -> None:
    """The broker drops a message that comes back with the path that it took: it takes that for a circle."""
    driver = backend.driver("{mail}")
    sent = message(body=b"\x00\xff" * 100, headers={"trace": "1"})
    await driver.push([sent])
    for attempt in range(1, 4):
        (held,) = await take(driver, 1)
        assert await driver.retry(pairs([held], attempt=attempt, delay=0.02)) == [DONE]
        (held,) = await take(driver, 1)
        assert held.message.attempt == attempt
        assert await driver.fail(pairs([held]), "failed") == [DONE]
        assert await driver.reload("failed") == 1
    (held,) = await take(driver, 1)
    assert (held.message, held.count) == (sent, 1)


async def test_a_message_that_was_given_back_thirty_times_is_still_there(
    backend: Backend, server: RabbitServer
) -> None:
    """From 4.0 on a broker that is not told otherwise drops it after twenty."""
    driver = backend.driver("mail")
    sent = message()
    await driver.push([sent])
    async with await aio_pika.connect(server.url) as connection:
        channel = await connection.channel()
        await channel.set_qos(1)
        given = 0
        queue = await channel.get_queue("mail", ensure=False)
        async with queue.iterator() as deliveries:
            async for delivery in deliveries:
                given += 1
                await delivery.reject(requeue=True)
                if given == 30:
                    break
    (held,) = await take(driver, 1)
    assert held.message == sent
    assert held.count > 30
    assert await driver.ack([held.receipt]) == [DONE]


@pytest.mark.parametrize(
    ("properties", "headers"),
    [
        ({}, {}),
        ({"type": "Job"}, {}),
        ({"message_id": "mine"}, {"headrace": 17}),
        ({"message_id": "mine", "type": "Job"}, {"headrace": "{"}),
        ({"message_id": "mine"}, {"headrace": {"attempt": [1]}, "x-death": "nonsense", "x-delivery-count": "many"}),
    ],
)
async def test_what_somebody_else_published_can_be_settled_and_holds_nobody_up(
    backend: Backend, server: RabbitServer, properties: dict[str, Any], headers: Any
) -> None:
    driver = backend.driver("{mail}")
    await driver.info()
    foreign = aio_pika.Message(b"\xff\x00 not ours", headers=headers, **properties)
    await publish(server, "{mail}", foreign)
    sent = message()
    await driver.push([sent])
    held = {each.message.body: each for each in await take(driver, 2)}
    other = held[b"\xff\x00 not ours"]
    assert other.message.id == properties.get("message_id", other.message.id) != ""
    assert other.message.name == properties.get("type", "")
    assert await driver.fail(pairs([other]), "failed") == [DONE]
    assert await driver.ack([held[sent.body].receipt]) == [DONE]
    (shown,) = (await driver.peek("failed", 10)).messages
    assert (shown.id, shown.body) == (other.message.id, other.message.body)
    assert await driver.forget("failed", [shown.id]) == 1


async def test_what_is_unpopped_for_a_second_goes_back_uncounted(make: Make, server: RabbitServer) -> None:
    hoarder, other = make(server.url), make(server.url)
    await hoarder.open()
    await other.open()
    driver = hoarder.driver("{mail}")
    sent = messages(40)
    await driver.push(sent)
    # Ready for all of them, and then only one is popped.
    assert await driver.wait_ready(5)
    first = await driver.pop(1, 1)
    rest = await take(other.driver("{mail}"), 39)
    assert sorted(ids([*first, *rest])) == sorted(each.id for each in sent)
    assert {each.count for each in rest} == {1}
    assert await other.driver("{mail}").ack(receipts(rest)) == [DONE] * 39
    assert await driver.ack(receipts(first)) == [DONE]


async def test_neighbours_of_a_message_whose_worker_dies_again_and_again_are_not_blamed(
    make: Make, server: RabbitServer
) -> None:
    sent = messages(5)
    backend = make(server.url)
    await backend.open()
    await backend.driver("{mail}").push(sent)
    deaths: dict[str, int] = {}
    for _ in range(3):
        (held,) = await take(backend.driver("{mail}"), 1)
        deaths[held.message.id] = deaths.get(held.message.id, 0) + 1
        await asyncio.to_thread(server.disconnect)
    taken = await take(backend.driver("{mail}"), 5)
    assert {each.message.id: each.count - 1 for each in taken} == {each.id: deaths.get(each.id, 0) for each in sent}


async def test_fifty_queues_of_one_backend_share_its_two_connections(backend: Backend, server: RabbitServer) -> None:
    drivers = [backend.driver(f"{{queue {number}}}") for number in range(50)]
    popping = [asyncio.create_task(driver.pop(1, 60)) for driver in drivers]
    await asyncio.sleep(1)
    sent = messages(50)
    for driver, each in zip(drivers, sent, strict=True):
        await driver.push([each])
    assert [ids(taken) for taken in await asyncio.gather(*popping)] == [[each.id] for each in sent]
    assert server.connections() == 2
    for driver, popped in zip(drivers, popping, strict=True):
        assert await driver.ack(receipts(popped.result())) == [DONE]


async def test_acks_in_any_order_settle_just_what_they_name(backend: Backend) -> None:
    driver = backend.driver("{mail}")
    await driver.push(messages(100))
    held = await take(driver, 100)
    assert await driver.ack(receipts(held[50:60])) == [DONE] * 10
    assert await driver.ack(receipts(held[0:10:3])) == [DONE] * 4
    left = [each for at, each in enumerate(held) if not (50 <= at < 60 or at in range(0, 10, 3))]
    assert await driver.fail(pairs(left[:20]), "failed") == [DONE] * 20
    assert await driver.ack(receipts(left)) == [STALE] * 20 + [DONE] * 66
    await eventually(lambda: counts(driver), {"failed": 20})


async def test_a_receipt_of_a_connection_that_was_lost_is_stale_and_its_message_comes_again(
    backend: Backend, server: RabbitServer
) -> None:
    driver = backend.driver("{mail}")
    sent = messages(3)
    await driver.push(sent)
    held = await take(driver, 3)
    await asyncio.to_thread(server.disconnect)
    again = await take(driver, 3)
    assert sorted(ids(again)) == sorted(each.id for each in sent)
    assert [each.count for each in again] == [2, 2, 2]
    assert await driver.ack(receipts(held)) == [STALE] * 3
    assert await driver.retry(pairs(held)) == [STALE] * 3
    assert await driver.ack(receipts(again)) == [DONE] * 3
    assert await counts(driver) == {}


async def test_a_handler_that_blocks_the_loop_for_longer_than_heartbeats_keeps_its_messages(
    make: Make, server: RabbitServer
) -> None:
    backend = make(server.url, heartbeat=1)
    await backend.open()
    driver = backend.driver("{mail}")
    await driver.push(messages(2))
    held = await take(driver, 2)
    time.sleep(4)
    assert await driver.ack(receipts(held)) == [DONE, DONE]
    assert await counts(driver) == {}


async def test_what_is_held_longer_than_the_broker_allows_comes_again_or_is_held(
    make: Make, server: RabbitServer
) -> None:
    """Where a consumer cannot ask for longer, the broker ends its channel, which heals; else nothing is taken away."""
    server.set_consumer_timeout(1)
    backend = make(server.url, consumer_timeout=1)
    await backend.open()
    driver = backend.driver("{mail}")
    sent = messages(3)
    await driver.push(sent)
    held = await take(driver, 3)
    await asyncio.sleep(3)
    if backend.capabilities.max_run == math.inf:
        assert await driver.ack(receipts(held)) == [DONE] * 3
    else:
        assert backend.capabilities.max_run == 1
        assert "consumer_timeout" in backend.capabilities.max_run_hint
        assert await driver.ack(receipts(held)) == [STALE] * 3
        again = await take(driver, 3)
        assert sorted(ids(again)) == sorted(each.id for each in sent)
        assert await driver.ack(receipts(again)) == [DONE] * 3
    assert await counts(driver) == {}


async def test_channels_that_the_broker_closes_are_opened_again(backend: Backend, server: RabbitServer) -> None:
    driver = backend.driver("{mail}")
    for _ in range(3):
        sent = messages(3)
        await driver.push(sent)
        first = await take(driver, 1)
        taking = asyncio.create_task(take(backend.driver("{other}"), 1))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(server.close_channels)
        await asyncio.sleep(0.3)  # until it is heard of: what was given before is not ours any more
        again = await take(driver, 3)
        assert sorted(ids(again)) == sorted(each.id for each in sent)
        assert await driver.ack(receipts(first)) == [STALE]
        assert await driver.ack(receipts(again)) == [DONE] * 3
        await backend.driver("{other}").push([message("awaited")])
        assert ids(await taking) == ["awaited"]
        await backend.driver("{other}").destroy()


async def test_a_queue_that_is_deleted_under_a_waiting_pop_is_made_again(
    backend: Backend, server: RabbitServer
) -> None:
    driver = backend.driver("{mail}")
    taking = asyncio.create_task(take(driver, 1))
    await asyncio.sleep(0.3)
    await asyncio.to_thread(server.delete_queue, "{mail}")

    async def there() -> bool:
        return "{mail}" in await asyncio.to_thread(server.queues)

    await eventually(there, True)  # by the pop: nobody else would
    sent = message()
    assert await driver.push([sent]) == [sent.id]
    (held,) = await taking
    assert held.message.id == sent.id
    assert await driver.ack([held.receipt]) == [DONE]


@pytest.mark.parametrize("gone", ["{mail}", "{mail}.failed", "{mail}.delay.03"])
async def test_what_is_stored_after_a_queue_was_deleted_is_found(
    backend: Backend, server: RabbitServer, gone: str
) -> None:
    driver = backend.driver("{mail}")
    await driver.delay(messages(1, delay=0.01))
    await driver.fail(pairs(await take(driver, 1)), "failed")
    assert await driver.flush("failed") == 1
    await asyncio.to_thread(server.delete_queue, gone)
    pushed, delayed = messages(2), [message(delay=0.008), message(delay=0.016), message(delay=0.3)]
    await driver.push(pushed)
    await driver.delay(delayed)
    held = await take(driver, 5)
    assert sorted(ids(held)) == sorted(each.id for each in [*pushed, *delayed])
    assert await driver.fail(pairs(held), "failed") == [DONE] * 5
    assert await driver.reload("failed") == 5


async def test_delayed_messages_find_their_way_when_only_a_worker_has_made_their_queue_again(
    make: Make, server: RabbitServer
) -> None:
    producer, worker = make(server.url), make(server.url)
    await producer.open()
    await worker.open()
    delayed = [message(delay=delay) for delay in (1.5, 1.508, 1.516)]
    await producer.driver("{mail}").delay(delayed)
    await asyncio.to_thread(server.delete_queue, "{mail}")
    held = await take(worker.driver("{mail}"), 3)
    assert sorted(ids(held)) == sorted(each.id for each in delayed)
    assert await worker.driver("{mail}").ack(receipts(held)) == [DONE] * 3


async def test_counts_are_those_of_all_workers_where_the_broker_tells(make: Make, server: RabbitServer) -> None:
    backend = make(server.url)
    await backend.open()
    driver = backend.driver("{mail}")
    await driver.push(messages(6))
    await driver.delay(messages(4, delay=60))
    held = await take(driver, 3)
    await driver.fail(pairs(held[:1]), "failed")
    await driver.fail(pairs(held[1:2]), "timeout")
    other = make(server.url)
    await other.open()
    for each in (driver, other.driver("{mail}")):
        await eventually(lambda each=each: counts(each), {"waiting": 3, "delayed": 4, "failed": 1, "timeout": 1})
        info = await each.info()
        assert (info.reserved, info.oldest_seconds) == (None, None)


async def test_nothing_stays_connected_when_a_backend_is_closed(make: Make, server: RabbitServer) -> None:
    async def connections() -> int:
        return server.connections()

    pauses = (0, 0.05, 0.3)
    for pause in pauses:
        backend = make(server.url)
        await backend.open()
        driver = backend.driver(f"{{mail {pause}}}")
        popping = asyncio.create_task(driver.pop(10, 10))
        await asyncio.sleep(pause)
        popping.cancel()
        await asyncio.wait((popping,))
        await driver.push(messages(2))
        await backend.close()
        await eventually(connections, 0)
    last = make(server.url)
    await last.open()
    for pause in pauses:  # what came to the pop's consumer after the pop had ended was given back, as if it had not
        assert [each.count for each in await take(last.driver(f"{{mail {pause}}}"), 2)] == [1, 1]


async def test_large_bodies_and_many_at_once_come_back_as_they_were(backend: Backend) -> None:
    driver = backend.driver("{mail}")
    sent = [message(body=bytes([number % 256]) * (number * 40_000 + 1)) for number in range(20)]
    assert await driver.push(sent) == [each.id for each in sent]
    taken = await take(driver, 20)
    assert {each.message.id: each.message.body for each in taken} == {each.id: each.body for each in sent}
    assert await driver.ack(receipts(taken)) == [DONE] * 20
    many = messages(1000)
    assert list(await driver.push(many)) == [each.id for each in many]
    taken = await take(driver, 1000)
    assert sorted(ids(taken)) == sorted(each.id for each in many)
    assert await driver.ack(receipts(taken)) == [DONE] * 1000


async def test_whoever_asks_for_more_than_is_there_can_still_ack(backend: Backend) -> None:
    """A consumer with more credit could come only after the first has used up what it has, which it never does."""
    driver = backend.driver("{mail}")
    sent = messages(12)
    await driver.push(sent)
    first = await take(driver, 10)
    assert await driver.ack(receipts(first)) == [DONE] * 10
    rest = await driver.pop(500, 1.0)
    while len(rest) < 2:
        rest += await driver.pop(500, 1.0)
    assert await driver.ack(receipts(rest)) == [DONE] * 2
    assert sorted(ids([*first, *rest])) == sorted(each.id for each in sent)
    assert {each.count for each in [*first, *rest]} == {1}
    await eventually(lambda: counts(driver), {})
    assert await driver.pop(500, 0) == []


# Moving to another queue.


@pytest.mark.parametrize(("ahead", "least", "most"), [(0.0, 95.0, 100.0), (3600.0, 99.9, 100.1), (-3600.0, 34.4, 34.5)])
async def test_what_remains_of_a_delay_goes_by_clocks_only_as_far_as_the_broker_does_not_tell(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, ahead: float, least: float, most: float
) -> None:
    """100 s are 65.5 s in the first queue, and the rest in others. ``ahead``: seconds, of the clock that delays."""
    driver = backend.driver("{mail}")
    monkeypatch.setattr(publishing, "time", SimpleNamespace(time=lambda: time.time() + ahead))
    await driver.delay([message("a", delay=100.0)])
    (lent,) = await driver.lend("delayed", 10)
    assert least <= lent.message.delay <= most
    assert list(await driver.ack([lent.receipt])) == [DONE]


async def test_what_waits_is_lent_with_the_count_of_its_deliveries_and_can_be_given_back(
    make: Make, backend: Backend, server: RabbitServer
) -> None:
    other = make(server.url)
    await other.open()
    driver = backend.driver("{mail}")
    await driver.push([message("a")])
    assert len(await other.driver("{mail}").lend("waiting", 1)) == 1
    await other.close()  # as its process would end
    found: list[Delivery] = []

    async def lend() -> int:  # the broker gives back what a connection held a moment after its end
        found.extend(await driver.lend("waiting", 1))
        return len(found)

    await eventually(lend, 1)
    (lent,) = found
    assert lent.count == 2
    assert list(await driver.retry([(lent.receipt, lent.message)])) == [DONE]
    (delivery,) = await take(driver, 1)
    assert delivery.count == 1


async def test_receipts_of_what_was_lent_end_with_the_queue(backend: Backend) -> None:
    driver = backend.driver("{mail}")
    await driver.store([message("a")], "failed")
    (lent,) = await driver.lend("failed", 1)
    await driver.destroy()
    assert list(await driver.ack([lent.receipt])) == [STALE]
