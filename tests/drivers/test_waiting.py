"""Waiting for messages, cancelling the wait, and many who wait at once: on the machine's own time."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from headrace.driver import Backend, Driver, Settled

from .helpers import counts, drain, ids, message, messages, receipts, settle, shown

#: A wait that a test means to be cut short. If it is not, the test takes that long and fails.
LONG = 20.0

#: A wake-up that takes longer is none. Generous: the machine may be busy with other tests.
SOON = 2.0


async def timed(waiting: Coroutine[Any, Any, Any]) -> tuple[Any, float]:
    start = time.monotonic()
    return await waiting, time.monotonic() - start


async def waiting_pop(driver: Driver) -> "asyncio.Task[Any]":
    """A pop that has begun to wait."""
    task = asyncio.create_task(driver.pop(10, LONG))
    await asyncio.sleep(0.02)
    assert not task.done()
    return task


async def test_a_pop_that_finds_nothing_returns_nothing_after_its_wait(live: Backend) -> None:
    deliveries, seconds = await timed(live.driver("{q}").pop(1, 0.05))
    assert list(deliveries) == []
    assert 0.04 < seconds < SOON


async def test_a_pop_with_no_wait_returns_at_once(live: Backend) -> None:
    deliveries, seconds = await timed(live.driver("{q}").pop(1, 0))
    assert list(deliveries) == []
    assert seconds < SOON


async def test_a_pop_does_not_wait_to_fill_its_limit(live: Backend) -> None:
    driver = live.driver("{q}")
    await driver.push(messages(2))
    deliveries, seconds = await timed(driver.pop(10, LONG))
    assert len(deliveries) == 2
    assert seconds < SOON


@pytest.mark.parametrize("pusher", ["itself", "a clone"])
async def test_a_push_wakes_a_waiting_pop(live: Backend, clone: Backend, pusher: str) -> None:
    task = await waiting_pop(live.driver("{q}"))
    await (live if pusher == "itself" else clone).driver("{q}").push([message("a")])
    deliveries, seconds = await timed(task)
    assert ids(deliveries) == ["a"]
    assert seconds < SOON


@pytest.mark.parametrize("pusher", ["itself", "a clone"])
async def test_a_delay_falling_due_wakes_a_waiting_pop(live: Backend, clone: Backend, pusher: str) -> None:
    task = await waiting_pop(live.driver("{q}"))
    await (live if pusher == "itself" else clone).driver("{q}").delay([message("a", delay=0.05)])
    deliveries, seconds = await timed(task)
    assert ids(deliveries) == ["a"]
    assert 0.03 < seconds < SOON


@pytest.mark.parametrize("holder", ["itself", "a clone"])
async def test_a_lease_that_ends_wakes_a_waiting_pop(live: Backend, clone: Backend, holder: str) -> None:
    driver = live.driver("{q}")
    await driver.push([message("a")])
    await (live if holder == "itself" else clone).driver("{q}", lease_seconds=0.1).pop(1, 0)
    (delivery,), seconds = await timed(driver.pop(1, LONG))
    assert (delivery.message.id, delivery.count) == ("a", 2)
    assert seconds < SOON


async def test_a_lease_taken_while_others_wait_wakes_them_when_it_ends(live: Backend) -> None:
    task = await waiting_pop(live.driver("{q}"))
    quick = live.driver("{q}", lease_seconds=0.05)
    await quick.push([message("a")])
    first = await task
    (delivery,), seconds = await timed(quick.pop(1, LONG)) if not first else ([first[0]], 0.0)
    assert (delivery.message.id, seconds < SOON) == ("a", True)


@pytest.mark.parametrize("verb", ["retry", "retry later", "reload", "extend"])
async def test_whatever_makes_a_message_due_wakes_a_waiting_pop(live: Backend, verb: str) -> None:
    driver = live.driver("{q}")
    await driver.push([message("a")])
    (held,) = await driver.pop(1, 0)
    if verb == "reload":
        await driver.fail([(held.receipt, held.message)], "failed")
    task = await waiting_pop(driver)
    if verb == "retry":
        await driver.retry([(held.receipt, held.message)])
    elif verb == "retry later":
        await driver.retry([(held.receipt, msgspec.structs.replace(held.message, delay=0.05))])
    elif verb == "reload":
        await driver.reload("failed")
    else:
        await driver.extend([held.receipt], 0.05)
    deliveries, seconds = await timed(task)
    assert ids(deliveries) == ["a"]
    assert seconds < SOON


async def test_waiting_for_readiness_reserves_nothing(live: Backend) -> None:
    driver = live.driver("{q}")
    assert not await driver.wait_ready(0)
    assert not await driver.wait_ready(0.02)
    task = asyncio.create_task(driver.wait_ready(LONG))
    await asyncio.sleep(0.02)
    await driver.push([message("a")])
    ready, seconds = await timed(task)
    assert ready
    assert seconds < SOON
    assert await driver.wait_ready(0)
    assert await counts(driver) == {"waiting": 1}


async def test_readiness_comes_with_a_due_time(live: Backend) -> None:
    driver = live.driver("{q}")
    await driver.delay([message("a", delay=0.05)])
    assert not await driver.wait_ready(0)
    assert await driver.wait_ready(LONG)


async def test_a_push_to_one_queue_does_not_end_the_wait_for_another(live: Backend) -> None:
    task = await waiting_pop(live.driver("{one}"))
    await live.driver("{other}").push([message()])
    await asyncio.sleep(0.03)
    assert not task.done()
    await live.driver("{one}").push([message("a")])
    assert ids(await task) == ["a"]


async def test_a_lease_that_another_process_shortens_ends_the_wait_in_time(live: Backend, clone: Backend) -> None:
    driver = live.driver("{q}", lease_seconds=LONG)
    await driver.push([message("a")])
    (held,) = await driver.pop(1, 0)
    task = await waiting_pop(driver)
    await clone.driver("{q}").extend([held.receipt], 0.05)
    deliveries, seconds = await timed(task)
    assert ids(deliveries) == ["a"]
    assert seconds < SOON


@pytest.mark.parametrize("others", ["itself", "a clone"])
async def test_those_who_lose_a_race_for_a_message_hear_of_the_end_of_its_lease(
    live: Backend, clone: Backend, others: str
) -> None:
    winner = live if others == "itself" else clone
    tasks = [
        await waiting_pop(live.driver("{q}", lease_seconds=0.05)),
        await waiting_pop(winner.driver("{q}", lease_seconds=0.05)),
    ]
    await live.driver("{q}").push([message("a")])
    deliveries, seconds = await timed(asyncio.gather(*tasks))  # type: ignore[arg-type]
    assert sorted((d.message.id, d.count) for each in deliveries for d in each) == [("a", 1), ("a", 2)]
    assert seconds < SOON


async def test_a_clone_on_another_thread_wakes_a_waiting_pop(live: Backend) -> None:
    async def push() -> None:
        other = live.clone()
        await other.open()
        await other.driver("{q}").push([message("a")])
        await other.close()

    task = await waiting_pop(live.driver("{q}"))
    thread = threading.Thread(target=lambda: asyncio.run(push()))
    thread.start()
    deliveries, seconds = await timed(task)
    await asyncio.to_thread(thread.join)
    assert ids(deliveries) == ["a"]
    assert seconds < SOON


# Cancelling.


async def test_a_pop_cancelled_while_it_waits_takes_nothing(live: Backend) -> None:
    driver = live.driver("{q}")
    task = await waiting_pop(driver)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await driver.push([message("a")])
    (delivery,) = await driver.pop(1, 0)
    assert (delivery.message.id, delivery.count) == ("a", 1)


async def test_a_pop_cancelled_at_any_moment_loses_and_counts_nothing(live: Backend) -> None:
    driver = live.driver("{q}")
    sent = [f"{n:02}" for n in range(10)]
    await driver.push([message(id_) for id_ in sent])
    for steps in range(12):
        task = asyncio.create_task(driver.pop(3, 0))
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            taken = await task
            await driver.retry([(d.receipt, d.message) for d in taken])
        await settle()
        assert await shown(driver, "waiting") == sent
    assert [delivery.count for delivery in await drain(driver)] == [1] * 10


async def test_a_pop_cancelled_in_the_moment_of_a_push_loses_nothing(live: Backend) -> None:
    driver = live.driver("{q}")
    for steps in range(12):
        task = await waiting_pop(driver)
        await driver.push([message(f"{steps:02}")])
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await driver.retry([(d.receipt, d.message) for d in await task])
        await settle()
        (delivery,) = await driver.pop(10, 0)
        assert (delivery.message.id, delivery.count) == (f"{steps:02}", 1)
        await driver.ack([delivery.receipt])


@pytest.mark.parametrize("verb", ["push", "ack", "retry"])
async def test_a_cancelled_call_has_taken_effect_or_has_not(live: Backend, verb: str) -> None:
    driver = live.driver("{q}")
    await driver.push(messages(24, body=b"old"))
    for steps in range(12):
        (held,) = await driver.pop(1, 0)
        batch = messages(2, body=b"new")
        call: Coroutine[Any, Any, Any] = {
            "push": lambda batch=batch: driver.push(batch),
            "ack": lambda held=held: driver.ack([held.receipt]),
            "retry": lambda held=held: driver.retry([(held.receipt, held.message)]),
        }[verb]()
        task = asyncio.create_task(call)
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await settle()
        if verb == "push":
            stored = {sent.id for sent in batch} & set(await shown(driver, "waiting"))
            assert len(stored) in (0, 2)
            await driver.ack([held.receipt])
        else:
            (again,) = await driver.ack([held.receipt])
            assert again in (Settled.DONE, Settled.STALE)
    assert "reserved" not in await counts(driver)


# Many at once.


async def test_concurrent_consumers_never_share_a_delivery(live: Backend, clone: Backend) -> None:
    total = 2000
    seen: list[str] = []

    async def consume(backend: Backend) -> None:
        driver = backend.driver("{q}")
        while len(seen) < total:
            deliveries = await driver.pop(7, 0.05)
            seen.extend(ids(deliveries))
            if deliveries:
                assert await driver.ack(receipts(deliveries)) == [Settled.DONE] * len(deliveries)

    async def produce(backend: Backend) -> None:
        for _ in range(20):
            await backend.driver("{q}").push(messages(50))

    await asyncio.gather(*(consume(b) for b in (live, clone) for _ in range(5)), produce(live), produce(clone))
    assert len(seen) == len(set(seen)) == total
    assert await counts(live.driver("{q}")) == {}


async def test_every_kind_of_call_may_overlap(live: Backend) -> None:
    driver = live.driver("{q}")
    await driver.push(messages(300))
    held = await driver.pop(90, 0)
    results = await asyncio.gather(
        *(driver.ack([delivery.receipt]) for delivery in held[:30]),
        *(driver.retry([(delivery.receipt, delivery.message)]) for delivery in held[30:60]),
        *(driver.fail([(delivery.receipt, delivery.message)], "failed") for delivery in held[60:]),
        *(driver.push([message()]) for _ in range(30)),
        *(driver.pop(1, 0) for _ in range(30)),
        *(driver.info() for _ in range(5)),
    )
    assert results[:90] == [[Settled.DONE]] * 90
    taken = ids(delivery for deliveries in results[120:150] for delivery in deliveries)
    assert len(taken) == len(set(taken)) == 30
    assert await counts(driver) == {"waiting": 300 - 90 + 30 + 30 - 30, "reserved": 30, "failed": 30}
