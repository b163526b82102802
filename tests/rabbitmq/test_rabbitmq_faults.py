"""Nothing is lost while brokers, workers and networks break under load. The counts are printed.

The short form runs with the other tests; ``tox -e faults`` runs the long one.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from helpers_rabbitmq import Make, push_when_back, stored, take
from load import Load
from words import ids, message, messages, pairs, receipts

from headrace.conformance.servers.proxy import Proxy
from headrace.conformance.servers.rabbitmq import RabbitCluster, RabbitServer
from headrace.driver import Delivery, Driver, Settled
from headrace.errors import BackendUnavailable
from headrace_rabbitmq.topology import LOWEST, SHORTEST, Topology

LONG = "HEADRACE_TEST_LONG" in os.environ
JOBS = 20_000 if LONG else 500
BREAKS = 50 if LONG else 2

#: Seconds between two pushes, so that a break strikes amid them.
PAUSE = 0.01

pytestmark = pytest.mark.timeout(1800 if LONG else 120)


def load_on(folder: Path, url: str, **words: float) -> Load:
    """A load in a queue of its own."""
    return Load(folder, "rabbitmq", prefix=f"{{{folder.name}}}", url=url, heartbeat=2, **words)  # type: ignore[arg-type]


async def test_no_job_is_lost_when_workers_are_killed_at_random(tmp_path: Path, server: RabbitServer) -> None:
    async with load_on(tmp_path, server.url) as load:
        await load.kill_workers(BREAKS, JOBS)
        assert await load.lost(f"{BREAKS} workers killed") == 0


async def test_no_job_is_lost_when_the_broker_stops_or_is_killed_under_load(
    tmp_path: Path, server: RabbitServer
) -> None:
    def stop() -> None:
        server.stop()
        server.start()

    async with load_on(tmp_path, server.url) as load:
        load.start_worker()
        async with load.pushing(JOBS, PAUSE):
            await load.until_more_runs()
            back = []
            for each in range(BREAKS):
                await asyncio.sleep(random.uniform(0.2, 0.5))
                await asyncio.to_thread(server.restart if each % 2 else stop)
                back.append(await load.until_more_runs())
        await load.until_done()
        lost = await load.lost(f"broker ended {BREAKS} times, at work again after at most {max(back):.1f} s")
        assert lost == 0
        assert max(back) < 20


async def test_no_job_is_lost_when_connections_are_cut_at_random_bytes(
    tmp_path: Path, server: RabbitServer, proxy: Proxy
) -> None:
    async with load_on(tmp_path, f"amqp://127.0.0.1:{proxy.port}/") as load:
        load.start_worker()
        async with load.pushing(JOBS, PAUSE):
            while len(load.confirmed) < JOBS:
                direction = random.choice(("server", "client"))
                proxy.cut_after(random.randrange(1, 20_000), direction, reset=random.random() < 0.5)
                proxy.delay(random.choice((0, 0, 0.005)))
                await asyncio.sleep(random.uniform(0.1, 0.4))
        proxy.heal()
        await load.until_done()
        assert await load.lost(f"{proxy.cuts} connections cut") == 0
        assert proxy.cuts > BREAKS


async def test_no_job_is_lost_when_the_broker_closes_channels_and_connections(
    tmp_path: Path, server: RabbitServer
) -> None:
    ends = (server.close_channels, server.close_connections, server.disconnect)
    async with load_on(tmp_path, server.url) as load:
        load.start_worker()
        async with load.pushing(JOBS, PAUSE):
            closed = 0
            while len(load.confirmed) < JOBS:
                await asyncio.to_thread(ends[closed % len(ends)])
                closed += 1
                await asyncio.sleep(random.uniform(0.1, 0.6))
        await load.until_done()
        assert await load.lost(f"all channels or connections closed {closed} times") == 0


async def test_no_job_is_lost_when_the_broker_runs_short_of_memory(tmp_path: Path, server: RabbitServer) -> None:
    async with load_on(tmp_path, server.url) as load:
        load.start_worker()
        async with load.pushing(JOBS, PAUSE):
            await load.until_more_runs()
            for _ in range(BREAKS):
                await asyncio.to_thread(server.raise_alarm)
                await asyncio.sleep(random.uniform(0.5, 2.5))
                await asyncio.to_thread(server.lift_alarm)
                await load.until_more_runs()
        await load.until_done()
        assert await load.lost(f"publishers blocked {BREAKS} times") == 0


async def test_no_job_is_lost_when_its_queue_is_deleted_but_those_that_were_in_it(
    tmp_path: Path, server: RabbitServer
) -> None:
    async with load_on(tmp_path, server.url, failing=0) as load:
        taken, share = 0, JOBS // BREAKS
        for start in range(0, share * BREAKS, share):
            before = range(start, start + share // 2)
            await load.push(before)
            worker = load.start_worker()
            await load.until_more_runs()
            await asyncio.to_thread(server.delete_queue, f"{{{tmp_path.name}}}")
            await asyncio.sleep(1)  # what was in the worker's hands is run
            gone = set(before) - set(load.runs())
            taken += len(gone)
            load.confirmed -= gone
            await load.push(range(before.stop, start + share))
            await load.until_done(60)
            load.kill_worker(worker)
        assert await load.lost(f"queue deleted {BREAKS} times, with {taken} jobs in it") == 0


@pytest.mark.timeout(1800 if LONG else 300)  # three nodes start, and one of them once more
async def test_no_job_is_lost_when_a_cluster_loses_a_node(tmp_path: Path) -> None:
    """Without retries: a queue that delays pass may be left without a leader for good. See its backend's limits."""
    with RabbitCluster() as cluster:
        async with load_on(tmp_path, cluster.url, failing=0) as load:
            load.start_worker()
            async with load.pushing(JOBS, PAUSE):
                await load.until_more_runs()
                back = []
                for each in range(6 if LONG else 1):
                    # The first one named is the one that clients are connected to.
                    node = cluster.servers[each % len(cluster.servers)]
                    await asyncio.to_thread(node.kill)
                    back.append(await load.until_more_runs())
                    await asyncio.to_thread(node.start)
            await load.until_done()
            lost = await load.lost(f"{len(back)} nodes of three killed, at work again after {max(back):.1f} s at most")
            assert lost == 0
            assert max(back) < 30


async def test_what_waits_before_a_level_that_never_had_a_leader_goes_on_when_an_operator_deletes_it(
    make: Make,
) -> None:
    """Which is what a node leaves that is killed while it makes one: members that wait for their first election."""
    level = Topology("{mail}").level(LOWEST)
    with RabbitServer() as server:
        backend = make(server.url)
        await backend.open()
        driver = backend.driver("{mail}")
        await stored(driver.push([message("first", delay=SHORTEST)]))
        await driver.ack(receipts(await take(driver, 1)))
        server.evaluate(f'ra:force_delete_server(quorum_queues, {{list_to_atom("%2F_{level}"), node()}})')
        await asyncio.to_thread(server.restart)
        await push_when_back(driver, [message("before", delay=3 * SHORTEST)])
        assert not await driver.pop(1, 2.0)
        await asyncio.to_thread(server.ctl, "delete_queue", level)
        newcomer = make(server.url)
        await newcomer.open()
        await stored(newcomer.driver("{mail}").push([message("after", delay=SHORTEST)]))
        assert sorted(ids(await take(driver, 2))) == ["after", "before"]


@pytest.mark.parametrize(
    ("verb", "towards"),
    [
        *((verb, "server") for verb in ("push", "pop", "ack", "retry", "fail", "reload")),
        *((verb, "client") for verb in ("push", "pop", "retry", "fail", "reload")),  # an ack has no answer
    ],
)
async def test_a_call_that_is_cut_at_any_byte_loses_nothing(
    make: Make, server: RabbitServer, proxy: Proxy, verb: str, towards: str
) -> None:
    """What it gives is true, and what it does not tell of is there, be it twice."""
    looking = make(server.url)
    await looking.open()
    outcomes = set()
    for cut in range(1, 1200, 3 if LONG else 400):
        backend = make(f"amqp://127.0.0.1:{proxy.port}/")
        await backend.open()
        watch = looking.driver(f"{{{verb} {towards}}}")
        driver = backend.driver(f"{{{verb} {towards}}}")
        wanted, call = await _prepare(driver, verb)
        proxy.cut_after(cut, "server" if towards == "server" else "client")
        try:
            gone = await call()
        except BackendUnavailable:
            outcomes.add("cut")
            gone = set() if verb != "push" else set(wanted)
        else:
            outcomes.add("whole")
        await backend.close()  # first: of what nobody answers, the cut may come later than the call's end
        proxy.heal()
        await _expect(watch, [each for each in wanted if each not in gone])
        await watch.destroy()
    print(f"\n{verb}, cut on the way to the {towards}: {proxy.cuts} cuts; {' and '.join(sorted(outcomes))}")
    assert proxy.cuts > 0


async def _prepare(driver: Driver, verb: str) -> tuple[list[str], Callable[[], Awaitable[set[str]]]]:
    """The ids that must not be lost, and a call that gives those of which it says that they are gone."""
    sent = messages(5, body=b"x" * 50)
    wanted = [each.id for each in sent]
    held: list[Delivery] = []

    async def push() -> set[str]:
        await stored(driver.push(sent))
        return set()

    async def pop() -> set[str]:
        await driver.pop(5, 1)
        return set()

    async def ack() -> set[str]:
        results = await driver.ack(receipts(held))
        return {each for each, result in zip(ids(held), results, strict=True) if result is Settled.DONE}

    async def retry() -> set[str]:
        await driver.retry(pairs(held))
        return set()

    async def fail() -> set[str]:
        await driver.fail(pairs(held), "failed")
        return set()

    async def reload() -> set[str]:
        await driver.reload("failed")
        return set()

    calls = {"push": push, "pop": pop, "ack": ack, "retry": retry, "fail": fail, "reload": reload}
    if verb == "push":
        await driver.info()
        return wanted, push
    await stored(driver.push(sent))
    if verb != "pop":
        held += await take(driver, 5)
    if verb == "reload":
        await driver.fail(pairs(held), "failed")
    return wanted, calls[verb]


async def _expect(driver: Driver, wanted: list[str]) -> None:
    """All of them are somewhere."""
    missing = set(wanted)
    for _ in range(10):
        if not missing:
            return
        await driver.reload("failed")
        held = await take(driver, len(missing))
        missing -= set(ids(held))
        await driver.ack(receipts(held))
    assert missing == set()
