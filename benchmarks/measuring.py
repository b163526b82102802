"""What the speed scripts share: their jobs, a worker process, and how a row of figures is told."""

import asyncio
import gc
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from headrace import Headrace, Job

#: Jobs a second of a paced run, and how many of them.
PACE: Final = 100
PACED: Final = 1_000


class Noop(Job):
    """The job that every figure is about."""

    number: int

    async def handle(self) -> None:
        global ran
        ran += 1


class Stamp(Job):
    """Notes how long it took from just before its push to its start, on one clock for all processes."""

    pushed: float
    path: str

    async def handle(self) -> None:
        took = time.clock_gettime(time.CLOCK_MONOTONIC) - self.pushed
        with Path(self.path).open("a") as file:
            file.write(f"{took}\n")


ran = 0


def now() -> float:
    """The time that a `Stamp` is pushed with, in seconds."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def stamped(path: Path) -> list[float]:
    """What the `Stamp` jobs have noted so far, in milliseconds."""
    return [1000 * float(line) for line in path.read_text().splitlines()] if path.exists() else []


async def consume(app: Headrace, jobs: int) -> float:
    """Jobs a second of one worker with ``jobs`` waiting, acks included; ends the script if one was lost."""
    global ran
    ran = 0
    gc.collect()
    began = time.perf_counter()
    handled = await app.worker(concurrency=10).run(until_empty=True)
    rate = jobs / (time.perf_counter() - began)
    info = await app.queue().info()
    left = sum(count or 0 for count in (info.waiting, info.reserved, info.delayed, info.failed, info.timeout))
    if handled != jobs or ran != jobs or left:
        raise SystemExit(f"LOST: {jobs} pushed, {ran} ran, {left} left")
    return rate


async def consume_by_two(app: Headrace, config: dict[str, Any], jobs: int) -> float:
    """Jobs a second of two worker processes together, from when both are under way."""
    queue = app.queue()
    await queue.push_many([Noop(number=number) for number in range(jobs)])
    with worker_process(config), worker_process(config):
        began, first, left = 0.0, 0, jobs
        while left:
            info = await queue.info()
            left = (info.waiting or 0) + (info.reserved or 0)
            if not began and left < 0.95 * jobs:
                began, first = time.perf_counter(), left
            await asyncio.sleep(0.02)
        return first / (time.perf_counter() - began)


async def paced(call: Callable[[], Awaitable[object]]) -> list[float]:
    """Milliseconds of a bare client's call, at the pace of `paced_latency`; sorted."""
    times = []
    for _ in range(PACED):
        began = time.perf_counter()
        await call()
        times.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(1 / PACE)
    return sorted(times)


async def paced_latency(config: dict[str, Any], path: Path) -> list[float]:
    """Milliseconds from push to start in another process, at a fixed pace; sorted."""
    with worker_process(config):
        async with Headrace(config) as app:
            queue = app.queue()
            await queue.push(Stamp(pushed=now(), path=str(path)))
            while not stamped(path):
                await asyncio.sleep(0.05)
            for _ in range(PACED):
                await queue.push(Stamp(pushed=now(), path=str(path)))
                await asyncio.sleep(1 / PACE)
            while len(stamped(path)) <= PACED:
                await asyncio.sleep(0.1)
    return sorted(stamped(path)[1:])


@contextmanager
def worker_process(config: dict[str, Any]) -> Iterator[None]:
    """A worker in a process of its own, as long as the block lasts."""
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(config,))
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _serve(config: dict[str, Any]) -> None:
    asyncio.run(Headrace(config).worker(concurrency=10).run())


def spread(figures: Sequence[float], digits: int = 0) -> str:
    """Median, lowest and highest."""
    low, middle, high = min(figures), statistics.median(figures), max(figures)
    return f"{middle:>10,.{digits}f}   ({low:,.{digits}f} to {high:,.{digits}f})"


def percentiles(milliseconds: Sequence[float]) -> str:
    """Of sorted figures."""
    middle, late = statistics.median(milliseconds), milliseconds[int(len(milliseconds) * 0.99)]
    return f"p50 {middle:.2f}   p99 {late:.2f}   max {milliseconds[-1]:.2f}"
