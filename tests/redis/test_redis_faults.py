"""Nothing is lost while servers, workers and networks break under load. The counts are printed.

The short form runs with the other tests; ``tox -e faults`` runs the long one.
"""

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from load import Load
from words import message, messages, receipts

from headrace.conformance.servers.proxy import Proxy
from headrace.conformance.servers.redis import RedisCluster, RedisSentinels, RedisServer
from headrace.driver import Driver
from headrace.errors import BackendUnavailable
from headrace_redis.backend import RedisBackend

LONG = "HEADRACE_TEST_LONG" in os.environ
JOBS = 20_000 if LONG else 1_000
BREAKS = 50 if LONG else 3

pytestmark = pytest.mark.timeout(1800 if LONG else 120)


async def test_no_job_is_lost_when_workers_are_killed_at_random(tmp_path: Path, own_server: RedisServer) -> None:
    async with Load(tmp_path, "redis", url=own_server.url) as load:
        await load.kill_workers(BREAKS, JOBS)
        assert await load.lost(f"{BREAKS} workers killed") == 0


async def test_no_job_is_lost_when_the_server_restarts_under_load(tmp_path: Path, own_server: RedisServer) -> None:
    async with Load(tmp_path, "redis", url=own_server.url) as load:
        load.start_worker()
        async with load.pushing(JOBS, 0.002):
            back = []
            for _ in range(BREAKS):
                await asyncio.sleep(random.uniform(0.5, 1.0))
                await asyncio.to_thread(own_server.restart)
                back.append(await load.until_more_runs())
        await load.until_done()
        lost = await load.lost(f"{BREAKS} restarts of the server, at work again after at most {max(back):.1f} s")
        assert lost == 0
        assert max(back) < 10


@pytest.mark.parametrize("replicas", [1, 0])
async def test_no_job_that_a_replica_has_confirmed_is_lost_when_sentinel_promotes_it(
    tmp_path: Path, replicas: int
) -> None:
    with RedisSentinels(append_only=True) as sentinels:
        async with Load(tmp_path, "redis", url=sentinels.url, wait_replicas=replicas) as load:
            load.start_worker()
            async with load.pushing(JOBS if LONG else JOBS // 2, 0.002):
                for _ in range(3 if LONG else 1):
                    await asyncio.sleep(1)
                    master = await asyncio.to_thread(sentinels.master)
                    await asyncio.to_thread(master.kill)
                    await asyncio.to_thread(sentinels.wait_for_other_master, master)
                    back = await load.until_more_runs()
                    await asyncio.to_thread(master.start)
            await load.until_done()
            lost = await load.lost(
                f"master killed, wait_replicas {replicas}, at work again {back:.1f} s after another was chosen"
            )
            # With no replica to wait for, what the old master confirmed last may be gone: hence the option.
            assert lost == 0 or not replicas
            assert back < 10


async def test_no_job_is_lost_while_its_slot_is_moved_between_nodes(tmp_path: Path) -> None:
    with RedisCluster(append_only=True) as cluster:
        async with Load(tmp_path, "redis", url=cluster.url) as load:
            load.start_worker()
            async with load.pushing(JOBS, 0.002):
                for _ in range(BREAKS):
                    await asyncio.sleep(random.uniform(0.3, 0.6))
                    await asyncio.to_thread(cluster.move_slot, "{default}", 0.02)
                    await load.until_more_runs()
            await load.until_done()
            assert await load.lost(f"slot moved {BREAKS} times") == 0


async def test_no_job_is_lost_when_connections_are_cut_at_random_bytes(
    tmp_path: Path, own_server: RedisServer, proxy: Proxy
) -> None:
    async with Load(tmp_path, "redis", url=f"redis://127.0.0.1:{proxy.port}/0") as load:
        load.start_worker()
        async with load.pushing(JOBS, 0.001):
            while len(load.confirmed) < JOBS:
                direction = random.choice(("server", "client"))
                proxy.cut_after(random.randrange(1, 20_000), direction, reset=random.random() < 0.5)
                proxy.delay(random.choice((0, 0, 0.005)))
                await asyncio.sleep(random.uniform(0.05, 0.2))
        proxy.heal()
        await load.until_done()
        assert await load.lost(f"{proxy.cuts} connections cut") == 0
        assert proxy.cuts > BREAKS


@pytest.mark.parametrize("towards", ["server", "client"])
@pytest.mark.parametrize("verb", ["push", "pop", "ack", "retry", "fail", "reload"])
async def test_a_call_that_is_cut_at_any_byte_has_taken_effect_or_has_not(
    make: Callable[..., RedisBackend], own_server: RedisServer, proxy: Proxy, verb: str, towards: str
) -> None:
    """So a process that ends at any step of a call leaves nothing between: a call is one script."""
    looking = make(own_server.url)
    await looking.open()
    outcomes = set()
    for cut in range(1, 600, 1 if LONG else 40):
        backend = make(f"redis://127.0.0.1:{proxy.port}/0")
        await backend.open()
        prefix = f"{{{verb} {towards} {cut}}}"
        driver, watch = backend.driver(prefix, lease_seconds=60), looking.driver(prefix, lease_seconds=60)
        await driver.info()
        before, after, call = await _prepare(driver, watch, verb)
        assert await _state(watch) == before
        proxy.cut_after(cut, "server" if towards == "server" else "client")
        try:
            await call()
        except BackendUnavailable:
            assert await _state(watch) in (before, after)
            outcomes.add("cut")
        else:
            assert await _state(watch) == after
            outcomes.add("whole")
        proxy.heal()
        await watch.destroy()
        await backend.close()
    print(f"\n{verb}, cut on the way to the {towards}: {proxy.cuts} cuts; {' and '.join(sorted(outcomes))}")
    assert proxy.cuts > 0


async def _state(driver: Driver) -> list[int | None]:
    info = await driver.info()
    return [info.waiting, info.reserved, info.failed]


async def _prepare(
    driver: Driver, watch: Driver, verb: str
) -> tuple[list[int], list[int], Callable[[], "asyncio.Future[object]"]]:
    """Counts before a call, after it, and the call."""
    if verb == "push":
        sent = [message(body=b"x" * 50) for _ in range(5)]
        return [0, 0, 0], [5, 0, 0], lambda: asyncio.ensure_future(driver.push(sent))
    await watch.push(messages(5))
    if verb == "pop":
        return [5, 0, 0], [0, 5, 0], lambda: asyncio.ensure_future(driver.pop(5, 0))
    held = await watch.pop(5, 0)
    given = [(each.receipt, each.message) for each in held]
    if verb == "ack":
        return [0, 5, 0], [0, 0, 0], lambda: asyncio.ensure_future(driver.ack(receipts(held)))
    if verb == "retry":
        return [0, 5, 0], [5, 0, 0], lambda: asyncio.ensure_future(driver.retry(given))
    if verb == "fail":
        return [0, 5, 0], [0, 0, 5], lambda: asyncio.ensure_future(driver.fail(given, "failed"))
    await watch.fail(given, "failed")
    return [0, 0, 5], [5, 0, 0], lambda: asyncio.ensure_future(driver.reload("failed"))
