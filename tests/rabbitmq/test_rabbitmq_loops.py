"""Where connections live: on the caller's loop as long as nobody takes messages, and in a thread from then on."""

import asyncio
import threading
import time

import pytest
from helpers_rabbitmq import Make, eventually, push_when_back, stored, take
from words import ids, message, messages, receipts

from headrace.conformance.servers.proxy import Proxy
from headrace.conformance.servers.rabbitmq import RabbitServer
from headrace.driver import Backend, Driver, Settled
from headrace.errors import BackendUnavailable


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("headrace")]


async def everything_but_taking(driver: Driver) -> None:
    await stored(driver.push(messages(3)))
    await stored(driver.delay(messages(1, delay=60)))
    await stored(driver.store(messages(2), "failed"))
    assert len((await driver.peek("failed", 10)).messages) == 2
    assert await driver.reload("failed", limit=1) == 1
    assert await driver.info()
    assert await driver.flush("delayed") == 1


async def test_whoever_only_pushes_has_no_thread(backend: Backend) -> None:
    await everything_but_taking(backend.driver("{mail}"))
    assert threads() == []


async def test_whoever_takes_messages_has_a_thread_and_two_connections(backend: Backend, server: RabbitServer) -> None:
    driver = backend.driver("{mail}")
    sent = messages(3)
    await driver.push(sent)
    held = await take(driver, 3)
    assert ids(held) == [each.id for each in sent]
    assert threads() == ["headrace-rabbitmq"]
    await eventually(lambda: asyncio.to_thread(server.connections), 1)
    await driver.push(messages(1))
    assert await driver.ack(receipts(held)) == [Settled.DONE] * 3
    await everything_but_taking(backend.driver("{other}"))
    assert await asyncio.to_thread(server.connections) == 2


async def test_what_is_under_way_when_somebody_begins_to_take_ends_well(backend: Backend) -> None:
    driver = backend.driver("{mail}")
    sent = messages(2000)
    pushing = [asyncio.create_task(driver.push([each])) for each in sent]
    await asyncio.sleep(0)
    held = await take(driver, len(sent))
    assert await asyncio.gather(*pushing) == [[each.id] for each in sent]
    assert sorted(ids(held)) == sorted([each.id for each in sent])


async def test_a_loop_that_was_held_up_for_longer_than_heartbeats_pushes_as_before(
    make: Make, server: RabbitServer
) -> None:
    backend = make(server.url, heartbeat=1)
    await backend.open()
    driver = backend.driver("{mail}")
    for number in range(3):
        await stored(driver.push([message(f"{number}")]))
        time.sleep(4)
    both = await asyncio.gather(driver.push([message("3")]), driver.push([message("4")]))
    assert both == [["3"], ["4"]]
    assert sorted(ids(await take(driver, 5))) == ["0", "1", "2", "3", "4"]


async def test_an_answer_that_came_while_the_loop_was_held_up_counts(make: Make, server: RabbitServer) -> None:
    backend = make(server.url, timeout_seconds=0.5)
    await backend.open()
    driver = backend.driver("{mail}")
    await stored(driver.push(messages(1)))
    pushing = asyncio.create_task(driver.push([message("a")]))
    for _ in range(5):
        await asyncio.sleep(0)  # it is sent
    assert not pushing.done()
    time.sleep(2)
    assert await pushing == ["a"]


async def test_silence_still_ends_a_push_of_a_loop_that_is_held_up_all_the_time(
    make: Make, server: RabbitServer, proxy: Proxy
) -> None:
    backend = make(f"amqp://127.0.0.1:{proxy.port}/", timeout_seconds=0.5)
    await backend.open()
    driver = backend.driver("{mail}")
    await stored(driver.push(messages(1)))
    proxy.black_hole()

    async def hold_up() -> None:
        while True:
            time.sleep(0.1)
            await asyncio.sleep(0)

    holding_up = asyncio.create_task(hold_up())
    try:
        with pytest.raises(BackendUnavailable, match="did not answer in time"):
            await asyncio.wait_for(driver.push(messages(1)), 5)
    finally:
        holding_up.cancel()
    proxy.heal()
    proxy.cut()
    await push_when_back(driver, messages(1))


async def test_a_backend_closes_at_once_after_somebody_has_begun_to_take(make: Make, server: RabbitServer) -> None:
    for _ in range(5):
        backend = make(server.url)
        await backend.open()
        driver = backend.driver("{mail}")
        await driver.push(messages(1))
        assert await driver.ack(receipts(await take(driver, 1))) == [Settled.DONE]
        await asyncio.wait_for(backend.close(), 4)
