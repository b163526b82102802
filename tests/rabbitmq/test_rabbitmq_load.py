"""What holds when messages are large, networks slow, and many things happen in one moment."""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from helpers_rabbitmq import Make, eventually, push_when_back, stored, take
from words import counts, ids, message, messages, pairs, receipts

from headrace.conformance.servers.proxy import Proxy
from headrace.conformance.servers.rabbitmq import RabbitServer
from headrace.driver import Backend, Settled
from headrace.errors import BackendError, BackendUnavailable

#: Bytes of a message that takes seconds on the slow network of these tests.
LARGE = 15 * 2**20

#: Seconds that each 64 KiB take there.
SLOW = 0.02


async def test_a_large_message_on_a_slow_network_is_stored_once(make: Make, server: RabbitServer, proxy: Proxy) -> None:
    """It takes longer than an answer may take, and something of it goes on all the time."""
    backend = make(f"amqp://127.0.0.1:{proxy.port}/", timeout_seconds=3)
    await backend.open()
    driver = backend.driver("{mail}")
    sent = message(body=bytes(LARGE))
    await stored(driver.push([message("small")]))
    proxy.delay(SLOW)
    await stored(driver.push([sent]))
    proxy.heal()
    held = await take(driver, 2)
    assert sorted(ids(held)) == sorted(["small", sent.id])
    proxy.delay(SLOW)
    assert await driver.fail(pairs(held), "failed") == [Settled.DONE] * 2
    proxy.heal()
    await eventually(lambda: counts(driver), {"failed": 2})


async def test_who_waits_behind_large_messages_is_stored_once_or_not_at_all(
    make: Make, server: RabbitServer, proxy: Proxy
) -> None:
    backend = make(f"amqp://127.0.0.1:{proxy.port}/", timeout_seconds=3)
    await backend.open()
    driver = backend.driver("{mail}")
    await driver.info()
    proxy.delay(SLOW)
    sent = [message(body=bytes(10 if number else LARGE)) for number in range(5)]
    outcomes = await asyncio.gather(*(driver.push([each]) for each in sent))
    proxy.heal()
    done = [each.id for each, (outcome,) in zip(sent, outcomes, strict=True) if outcome == each.id]
    assert sent[0].id in done
    assert sorted(ids(await take(driver, len(done)))) == sorted(done)
    await eventually(lambda: counts(driver), {})


async def test_what_rests_is_read_to_its_end_over_a_slow_network(
    make: Make, server: RabbitServer, proxy: Proxy, backend: Backend
) -> None:
    sent = messages(5)
    await backend.driver("{mail}").push(sent)
    await backend.driver("{mail}").fail(pairs(await take(backend.driver("{mail}"), 5)), "failed")
    slow = make(f"amqp://127.0.0.1:{proxy.port}/")
    await slow.open()
    driver = slow.driver("{mail}")
    await driver.info()
    proxy.delay(0.15)
    page = await driver.peek("failed", 10)
    assert [each.id for each in page.messages] == [each.id for each in sent]
    assert await driver.reload("failed") == 5


async def test_more_messages_rest_than_are_read_at_once(backend: Backend) -> None:
    driver = backend.driver("{mail}")
    sent = messages(700)
    await driver.push(sent)
    await driver.fail(pairs(await take(driver, 700)), "failed")
    for _ in range(2):  # looked at once, it is as it was
        page = await driver.peek("failed", 600)
        assert {each.id for each in page.messages} < {each.id for each in sent}
        rest = await driver.peek("failed", 600, cursor=page.cursor)
        assert {each.id for each in (*page.messages, *rest.messages)} == {each.id for each in sent}
    assert await driver.reload("failed", 300) == 300
    assert await driver.reload("failed") == 400


async def test_a_blocked_broker_is_sent_one_message_at_a_time_on_whatever_connection(
    make: Make, server: RabbitServer
) -> None:
    """Each connection that has not published yet takes what it is sent, and the broker stores that in the end."""
    backend = make(server.url, timeout_seconds=0.5)
    await backend.open()
    drivers = [backend.driver(f"{{mail {number}}}") for number in range(8)]
    for driver in drivers:
        await driver.info()
    await asyncio.to_thread(server.raise_alarm)
    for _ in range(2):
        for driver in drivers[:2]:
            await _unstored(driver.push(messages(1)))
        await asyncio.to_thread(server.disconnect)
        await asyncio.gather(*(_unstored(driver.push(messages(1))) for driver in drivers))
    other = backend.driver("{other}")
    await other.info()
    await other.destroy()  # an alarm is no reason to keep it
    await asyncio.to_thread(server.lift_alarm)
    await push_when_back(drivers[0], [message("afterwards")])
    kept = [await driver.info() for driver in drivers]
    assert sum(each.waiting or 0 for each in kept) <= 1 + 3  # one for each connection


async def _unstored(pushing: Awaitable[Sequence[str | BackendError]]) -> None:
    with pytest.raises(BackendUnavailable):
        await stored(pushing)


async def test_what_is_too_much_for_one_worker_stays_at_the_head_for_others(make: Make, server: RabbitServer) -> None:
    sent = messages(400)
    one, other = make(server.url), make(server.url)
    await one.open()
    await other.open()
    await one.driver("{mail}").push(sent)
    held = await take(one.driver("{mail}"), 100)
    assert ids(held) == [each.id for each in sent[:100]]
    (first,) = await take(other.driver("{mail}"), 1)
    assert first.message.id == sent[100].id


async def test_what_a_process_publishes_while_it_stops_fetching_is_not_counted(
    make: Make, server: RabbitServer
) -> None:
    """A worker that stops gives back to a queue which it has just fetched from, and may still be sent from."""
    loop = asyncio.get_running_loop()

    async def count(name: str) -> list[int]:
        backend = make(server.url)
        await backend.open()
        driver, total = backend.driver(name), 10
        await driver.push(messages(total))
        held = await take(driver, total)
        await driver.pop(100, 0.05)
        began = loop.time()
        await asyncio.sleep(0.9)
        await driver.retry(pairs(held))
        while loop.time() < began + 1.25:
            await asyncio.gather(*(driver.push(messages(1)) for _ in range(3)))
            total += 3
        await backend.close()
        after = make(server.url)
        await after.open()
        return [each.count for each in await take(after.driver(name), total)]

    for seen in await asyncio.gather(*(count(f"{{mail {number}}}") for number in range(8))):
        assert set(seen) == {1}


async def test_acks_in_the_moment_when_more_is_fetched_count_nothing(backend: Backend) -> None:
    driver = backend.driver("{mail}")
    sent = messages(4000)
    left = {each.id for each in sent}
    for start in range(0, len(sent), 1000):
        await driver.push(sent[start : start + 1000])
    acking: set[asyncio.Task[None]] = set()

    async def ack(held: list[Any]) -> None:
        for start in range(0, len(held), 5):
            await driver.ack(held[start : start + 5])

    seen = []
    while left:
        held = await driver.pop(random.choice((1, 5, 20, 60, 120)), 1)
        seen += [each.count for each in held]
        left -= set(ids(held))
        acking.add(asyncio.create_task(ack(receipts(held))))
    await asyncio.gather(*acking)
    assert seen == [1] * len(sent)


async def test_a_delay_finds_its_way_when_all_levels_have_gone_with_the_queue(make: Make, server: RabbitServer) -> None:
    one, other = make(server.url), make(server.url)
    await one.open()
    await other.open()
    for _ in range(2):
        delayed = [message(delay=delay) for delay in (0.3, 0.02, 0.1)]
        assert await one.driver("{mail}").delay(delayed) == [each.id for each in delayed]
        held = await take(one.driver("{mail}"), 3)
        assert sorted(ids(held)) == sorted(each.id for each in delayed)
        await other.driver("{mail}").destroy()


async def test_a_queue_that_is_destroyed_while_it_is_declared_works_afterwards(
    make: Make, server: RabbitServer
) -> None:
    one, other = make(server.url), make(server.url)
    await one.open()
    await other.open()
    driver = one.driver("{mail}")
    for _ in range(2):
        calls = (driver.delay([message(delay=60)]), driver.push(messages(1)), other.driver("{mail}").destroy())
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert not isinstance(outcome, BaseException) or isinstance(outcome, BackendError), outcome
        await asyncio.to_thread(server.mend)
    sent = [message(delay=0.5), message(delay=0.02)]
    await push_when_back(driver, sent)
    await driver.flush("waiting")
    assert {each.id for each in sent} >= {*ids(await take(driver, 1))}


async def test_a_new_queue_can_be_consumed_by_many_in_the_same_moment(make: Make, server: RabbitServer) -> None:
    """One of them declares it, and to the others it is there before it has a leader."""
    backends = [make(server.url) for _ in range(8)]
    for each in backends:
        await each.open()
    for number in range(15):
        drivers = [each.driver(f"{{mail {number}}}") for each in backends]
        assert await asyncio.gather(*(each.pop(1, 0.2) for each in drivers)) == [[]] * len(drivers)


async def test_what_the_broker_refuses_leaves_no_channel_that_gives_no_answer(make: Make, server: RabbitServer) -> None:
    """Each count of a queue that nobody delays in ends a channel, while others open theirs."""
    backend = make(server.url, timeout_seconds=4)
    await backend.open()
    for round_ in range(3):
        infos = await asyncio.gather(*(backend.driver(f"{{mail {round_} {each}}}").info() for each in range(16)))
        assert {each.delayed for each in infos} == {0}
