"""Nothing is lost while workers, networks and SQS itself break under load. The counts are printed.

The short form runs with the other tests; ``tox -e faults`` runs the long one.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from load import Load
from meddling import Document, Meddler, refusal

from headrace.conformance.servers.moto import MotoServer
from headrace.conformance.servers.proxy import Proxy

LONG = "HEADRACE_TEST_LONG" in os.environ
JOBS = 1_500 if LONG else 150
BREAKS = 20 if LONG else 2

pytestmark = pytest.mark.timeout(1800 if LONG else 120)


@pytest.fixture
def meddler(own_server: MotoServer) -> Iterator[Meddler]:
    with Meddler(own_server.port) as meddler:
        yield meddler


def load_of(folder: Path, url: str, **options: Any) -> Load:
    return Load(folder, "sqs", endpoint_url=url, **options)


async def test_no_job_is_lost_when_workers_are_killed_at_random(tmp_path: Path, own_server: MotoServer) -> None:
    async with load_of(tmp_path, own_server.url) as load:
        await load.kill_workers(BREAKS, JOBS)
        assert await load.lost(f"{BREAKS} workers killed") == 0


async def test_no_job_is_lost_when_the_endpoint_is_down_for_a_while(tmp_path: Path, meddler: Meddler) -> None:
    async with load_of(tmp_path, meddler.url) as load:
        load.start_worker()
        async with load.pushing(JOBS, 0.01):
            back = []
            for _ in range(BREAKS):
                await asyncio.sleep(random.uniform(0.5, 1.0))
                meddler.is_down = True
                await asyncio.sleep(random.uniform(0.5, 2.0))
                meddler.is_down = False
                back.append(await load.until_more_runs())
        await load.until_done()
        lost = await load.lost(f"{BREAKS} times the endpoint was down, at work again after {max(back):.1f} s at most")
        assert lost == 0
        assert max(back) < 20


async def test_no_job_is_lost_when_answers_are_slow_and_requests_are_throttled(
    tmp_path: Path, meddler: Meddler
) -> None:
    def before(operation: str, request: Document) -> tuple[int, Document] | None:
        chance = random.random()
        if chance < 0.05:
            return 400, refusal("ThrottlingException")
        return (503, refusal("ServiceUnavailable")) if chance < 0.1 else None

    meddler.before = before
    meddler.delay = 0.05
    async with load_of(tmp_path, meddler.url) as load:
        load.start_worker()
        await load.push(range(JOBS // 3))
        await load.until_done()
        assert await load.lost(f"5 % throttled, 5 % unavailable, of {meddler.seen.total():,} requests") == 0


async def test_no_job_is_lost_when_entries_of_batches_fail(tmp_path: Path, meddler: Meddler) -> None:
    """Entries are taken out of requests, and are told to have failed."""
    held_back: dict[int, list[str]] = {}
    failed = 0

    def before(operation: str, request: Document) -> tuple[int, Document] | None:
        entries = request.get("Entries", [])
        bad = [entry["Id"] for entry in entries[1:] if random.random() < 0.2]
        request["Entries"] = [entry for entry in entries if entry["Id"] not in bad]
        if not entries:
            del request["Entries"]
        held_back[id(request)] = bad
        return None

    def after(operation: str, request: Document, answer: Document) -> Document:
        nonlocal failed
        bad = held_back.pop(id(request))
        failed += len(bad)
        told = [{"Id": each, "SenderFault": False, "Code": "InternalError"} for each in bad]
        return {**answer, "Failed": [*answer.get("Failed", []), *told]} if bad else answer

    meddler.before, meddler.after = before, after
    async with load_of(tmp_path, meddler.url) as load:
        load.start_worker()
        await asyncio.gather(*(load.push(range(start, JOBS, 10)) for start in range(10)))
        await load.until_done()
        assert await load.lost(f"{failed} entries failed") == 0
        assert failed


async def test_no_job_is_lost_when_messages_are_delivered_twice(tmp_path: Path, meddler: Meddler) -> None:
    """As SQS itself may do it: what one request brought, another one brings again."""
    last: list[Document] = []
    again = 0

    def after(operation: str, request: Document, answer: Document) -> Document:
        nonlocal again
        if operation != "ReceiveMessage":
            return answer
        if last and random.random() < 0.2:
            again += len(last)
            messages, room = answer.get("Messages", []), request["MaxNumberOfMessages"]
            answer = {**answer, "Messages": (messages + last)[:room]}
        last[:] = answer.get("Messages", last)
        return answer

    meddler.after = after
    async with load_of(tmp_path, meddler.url) as load:
        load.start_worker()
        await asyncio.gather(*(load.push(range(start, JOBS, 10)) for start in range(10)))
        await load.until_done()
        assert await load.lost(f"{again} deliveries replayed") == 0
        assert again


async def test_no_job_is_lost_when_answers_are(tmp_path: Path, meddler: Meddler) -> None:
    """SQS does what it was asked, and hangs up: nobody knows."""
    dropped = 0

    def after(operation: str, request: Document, answer: Document) -> Document | None:
        nonlocal dropped
        if random.random() < 0.1:
            dropped += 1
            return None
        return answer

    meddler.after = after
    async with load_of(tmp_path, meddler.url) as load:
        load.start_worker()
        await load.push(range(JOBS))
        await load.until_done()
        assert await load.lost(f"{dropped} answers dropped") == 0
        assert dropped


async def test_no_job_is_lost_when_connections_are_cut_at_random_bytes(tmp_path: Path, own_server: MotoServer) -> None:
    with Proxy(own_server.port) as proxy:
        async with load_of(tmp_path, f"http://127.0.0.1:{proxy.port}") as load:
            load.start_worker()
            async with load.pushing(JOBS, 0.01):
                while len(load.confirmed) < JOBS:
                    direction = random.choice(("server", "client"))
                    proxy.cut_after(random.randrange(1, 20_000), direction, reset=random.random() < 0.5)
                    await asyncio.sleep(random.uniform(0.1, 0.5))
            proxy.heal()
            await load.until_done()
            assert await load.lost(f"{proxy.cuts} connections cut") == 0
            assert proxy.cuts
