"""Draining: a worker takes no more, and ends when its handlers have; how a process makes room for its successor."""

import asyncio

import pytest

from headrace import Job

from .conftest import MakeApp, counts
from .test_worker import until

seen: list[int] = []
release = asyncio.Event()


class Held(Job):
    number: int

    async def handle(self) -> None:
        seen.append(self.number)
        await release.wait()


class DrainedOverrun(Job, handle_timeout=0.05):
    async def handle(self) -> None:
        seen.append(0)
        await asyncio.sleep(60)


@pytest.fixture(autouse=True)
def fresh() -> None:
    global release
    release = asyncio.Event()
    seen.clear()


async def test_a_drained_worker_takes_no_more_and_waits_for_its_handlers_beyond_the_shutdown_timeout(
    make_app: MakeApp,
) -> None:
    async with make_app(shutdown_timeout=0.05, concurrent={"limit": 2}) as app:
        await app.queue().push_many([Held(number=n) for n in range(5)])
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: len(seen) == 2)
        worker.drain()
        await asyncio.sleep(0.5)
        assert not running.done()
        assert await counts(app) == {"waiting": 3, "reserved": 2}
        release.set()
        assert await running == 2
        assert await counts(app) == {"waiting": 3}


async def test_a_drained_worker_that_has_nothing_ends_at_once(make_app: MakeApp) -> None:
    async with make_app(pop_timeout=30) as app:
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0.2)
        worker.drain()
        async with asyncio.timeout(5):
            assert await running == 0


async def test_a_drained_worker_does_not_wait_for_what_is_past_its_timeout(make_app: MakeApp) -> None:
    async with make_app(shutdown_timeout=0.05) as app:
        await app.queue().push(DrainedOverrun())
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: seen)
        worker.drain()
        async with asyncio.timeout(15):
            await running
        assert await counts(app) == {"timeout": 1}


async def test_a_stop_ends_a_drain_as_it_ends_any_work(make_app: MakeApp) -> None:
    async with make_app(shutdown_timeout=0.05) as app:
        await app.queue().push(Held(number=1))
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        await until(lambda: seen)
        worker.drain()
        worker.stop()
        async with asyncio.timeout(15):
            await running
        (given_back,) = await app.queue().list("waiting")
        assert (given_back.message.attempt, given_back.message.deaths) == (0, 0)
