"""Pops that are cancelled: the embedded backends give back what was taken, with nothing counted, and at once."""

import asyncio

import pytest

from headrace.driver import Backend

from .helpers import drain, message, settle, shown

#: A wait that is cut short by what the test does. If it is not, the test takes that long and fails.
LONG = 20.0


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


async def test_a_pop_cancelled_in_the_moment_of_a_push_counts_nothing(live: Backend) -> None:
    driver = live.driver("{q}")
    for steps in range(12):
        task = asyncio.create_task(driver.pop(10, LONG))
        await asyncio.sleep(0.02)
        assert not task.done()
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
