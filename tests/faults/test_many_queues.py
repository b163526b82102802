"""A hundred queues on one worker."""

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from places import Place

from headrace import Headrace, Job

QUEUES = [f"queue{number}" for number in range(100)]

#: Jobs of each.
JOBS = 5


class Letter(Job, name="faults.Letter"):
    """Notes that it ran."""

    number: int

    async def handle(self) -> None:
        ran.append((self.number, time.monotonic()))


ran: list[tuple[int, float]] = []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "place",
    ["sqlite", *(["redis", "rabbitmq", "sqs"] if "HEADRACE_TEST_LONG" in os.environ else [])],
    indirect=True,
)
async def test_one_worker_serves_a_hundred_queues(tmp_path: Path, place: Place) -> None:
    ran.clear()
    options = {**place.options, "path": str(tmp_path / "queue.db")} if place.name == "sqlite" else place.options
    settings: dict[str, Any] = {"queue_length_seconds": 0, "pop_timeout": 1}
    config = {
        "backend": place.name,
        "listeners": [],
        "backends": {place.name: options},
        "queues": {name: {**settings, "prefix": f"{{{tmp_path.name}-{name}}}"} for name in QUEUES},
    }
    async with Headrace(config) as app:
        for number, name in enumerate(QUEUES):
            await app.queue(name).push_many([Letter(number=number * JOBS + each) for each in range(JOBS)])
        began = time.monotonic()
        worker = app.worker(*QUEUES, concurrency=10)
        running = asyncio.create_task(worker.run())
        seconds = await _until(len(QUEUES) * JOBS) - began
        process = psutil.Process()
        connections, threads = len(process.net_connections("tcp")), threading.active_count()
        pushed = time.monotonic()
        await app.queue(QUEUES[-1]).push(Letter(number=len(QUEUES) * JOBS))
        latency = await _until(len(QUEUES) * JOBS + 1) - pushed
        worker.stop()
        await running
        print(
            f"\n{place.name}: {len(QUEUES)} queues on one worker: {len(ran)} jobs executed in {seconds:.1f} s, with "
            f"{connections} connections and {threads} threads; once idle, one on the last queue ran after "
            f"{latency:.2f} s"
        )
        assert sorted(number for number, _ in ran) == list(range(len(QUEUES) * JOBS + 1))
        for name in QUEUES:
            await (await app.queue(name).driver()).destroy()


async def _until(count: int) -> float:
    """Wait until so many ran; when the last one did."""
    deadline = time.monotonic() + 120
    while len(ran) < count:
        assert time.monotonic() < deadline, f"{len(ran)} of {count} ran"
        await asyncio.sleep(0.01)
    return ran[-1][1]
