"""How fast headrace runs on the embedded backends: ``python benchmarks/speed.py [sqlite] [memory]``.

Prints jobs a second pushed with ``push_many`` and consumed end to end, acks included, by
one worker with the default listeners: a no-op ``async def`` job with one integer argument,
concurrency 10, a backlog of 50,000. Beside them, in turns with them, what there is at most on
this machine at this time: for sqlite the bare client of the benchmark suite, 100 at once, for
memory asyncio's own tasks. Then, for sqlite: idle-to-start latency between two processes, what
an idle worker costs, and consumption with 1,000 and 1,000,000 waiting. Each run proves by count
that every job ran and that nothing is left over. Medians of several runs, with the lowest and
the highest; compare only figures of one invocation.
"""

import argparse
import asyncio
import gc
import platform
import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace import Headrace
from headrace.config import Config
from headrace_sqlite.baseline import SqliteBaseline
from measuring import Noop, Stamp, consume, now, percentiles, spread, stamped, worker_process

#: Messages that the bare client stores, takes and acks at once.
BATCH = 100

LATENCY_JOBS = 200
#: Seconds between two pushes of the latency run, so that each finds the worker idle.
LATENCY_PAUSE = 0.03


@contextmanager
def scratch(backend: str) -> Iterator[dict[str, Any]]:
    """A configuration whose files go when it is left."""
    with tempfile.TemporaryDirectory(prefix="headrace-speed-") as folder:
        options = {"sqlite": {"path": f"{folder}/jobs.db"}} if backend == "sqlite" else {}
        yield {"backend": backend, "backends": options}


async def throughput(config: dict[str, Any], jobs: int) -> tuple[float, float]:
    """Jobs a second, pushed and consumed."""
    async with Headrace(config) as app:
        batch = [Noop(number=number) for number in range(jobs)]
        began = time.perf_counter()
        ids = await app.queue().push_many(batch)
        pushed = jobs / (time.perf_counter() - began)
        assert len(set(ids)) == jobs
        del batch, ids
        return pushed, await consume(app, jobs)


async def bare_sqlite(config: dict[str, Any], jobs: int) -> tuple[float, float]:
    """Messages a second, stored and taken by the bare client."""
    baseline = SqliteBaseline(Config.from_mapping(config).backend_options("sqlite"), "bare")
    bodies = [b'{"number":%d}' % number for number in range(jobs)]
    seen: list[bytes] = []
    await baseline.open()
    try:
        began = time.perf_counter()
        for start in range(0, jobs, BATCH):
            await baseline.push_many(bodies[start : start + BATCH])
        middle = time.perf_counter()
        await baseline.consume(jobs, BATCH, seen.append)
        ended = time.perf_counter()
    finally:
        await baseline.close()
    assert len(set(seen)) == jobs
    return jobs / (middle - began), jobs / (ended - middle)


async def bare_tasks(jobs: int) -> float:
    """Tasks that do nothing, begun and awaited a second, ten at once."""

    async def nothing() -> None:
        pass

    began = time.perf_counter()
    for _ in range(jobs // 10):
        await asyncio.wait([asyncio.create_task(nothing()) for _ in range(10)])
    return jobs / (time.perf_counter() - began)


async def latency(config: dict[str, Any], path: Path) -> list[float]:
    """Milliseconds from push in this process to start in another that is idle; sorted."""
    with worker_process(config):
        async with Headrace(config) as app:
            for number in range(LATENCY_JOBS):
                await app.queue().push(Stamp(pushed=now(), path=str(path)))
                while len(stamped(path)) <= number:
                    await asyncio.sleep(LATENCY_PAUSE)
    return sorted(stamped(path)[1:])


async def idle_cost(config: dict[str, Any], seconds: float) -> float:
    """Per cent of one CPU that a worker with nothing to do takes."""
    async with Headrace(config) as app:
        worker = app.worker(concurrency=10)
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(1)
        before = time.process_time()
        await asyncio.sleep(seconds)
        used = time.process_time() - before
        worker.stop()
        await running
    return 100 * used / seconds


async def at_backlog(config: dict[str, Any], backlog: int, jobs: int) -> tuple[float, float]:
    """Consumed a second, and MiB that the process grew by, with so much waiting."""
    async with Headrace(config) as app:
        queue = app.queue()
        for start in range(0, backlog, 10_000):
            await queue.push_many([Noop(number=n) for n in range(start, min(start + 10_000, backlog))])
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        await app.worker(concurrency=10, max_messages=jobs).run()
        rate = jobs / (time.perf_counter() - began)
        return rate, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backends", nargs="*", default=["sqlite", "memory"])
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="throughput only")
    options = parser.parse_args()
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    print(f"{versions}, {options.jobs:,} jobs, {options.runs} runs")
    for backend in options.backends:
        figures, bare, tasks = list[tuple[float, float]](), list[tuple[float, float]](), list[float]()
        for _ in range(options.runs):
            with scratch(backend) as config:
                figures.append(asyncio.run(throughput(config, options.jobs)))
                if backend == "sqlite":
                    bare.append(asyncio.run(bare_sqlite(config, options.jobs)))
                elif backend == "memory":
                    tasks.append(asyncio.run(bare_tasks(options.jobs)))
        print(f"\n{backend}")
        print(f"  push_many, jobs a second                {spread([pushed for pushed, _ in figures])}")
        print(f"  consumed, jobs a second                 {spread([consumed for _, consumed in figures])}")
        if bare:
            print(f"  stored 100 at once, bare                {spread([stored for stored, _ in bare])}")
            print(f"  taken and acked 100 at once, bare       {spread([taken for _, taken in bare])}")
        if tasks:
            print(f"  asyncio's tasks, ten at once            {spread(tasks)}")
        if backend != "sqlite" or options.quick:
            continue
        with scratch(backend) as config:
            times = asyncio.run(latency(config, Path(config["backends"]["sqlite"]["path"]).with_name("times")))
        print(f"  idle to start across processes, ms      {percentiles(times)}")
        with scratch(backend) as config:
            print(f"  idle worker, per cent of a CPU          {asyncio.run(idle_cost(config, 10)):>10.2f}")
        for backlog in (1_000 + 20_000, 1_000_000):
            with scratch(backend) as config:
                rate, grown = asyncio.run(at_backlog(config, backlog, 20_000))
            print(f"  consumed a second of {backlog:>9,} waiting  {rate:>10,.0f}   process grew {grown:.1f} MiB")


if __name__ == "__main__":
    main()
