"""How fast headrace runs on Redis, beside the bare client: ``python benchmarks/redis_speed.py``.

Starts a private server that keeps nothing on disk, or uses ``--url``. Everything is one no-op
``async def`` job with one small argument, acked after it ran, concurrency 10, the default
listeners on. Each run proves by count that every job ran and nothing is left. The figures
of one invocation may be compared with each other, and with nothing else: on a small machine
the client and the server share what there is.

What they decided stands in ``benchmarks/REDIS.md``.
"""

import argparse
import asyncio
import gc
import multiprocessing
import platform
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from redis.asyncio import Redis

from headrace import Headrace, Job
from headrace.conformance.servers.redis import RedisServer
from headrace.driver import Driver, Message
from headrace_redis import scripts
from headrace_redis.backend import RedisBackend
from headrace_redis.codec import IN_LINE, id_bytes, pack
from headrace_redis.connections.place import parse
from headrace_redis.settings import RedisSettings

#: Jobs a second of the latency run, and how many of them.
PACE, PACED = 100, 1_000

#: The least that reserves and acks in batches: what a client without headrace could reach.
POP: Final = """
local batch = redis.call('RPOP', KEYS[1], ARGV[1])
if not batch then return {} end
local pairs = {}
for at, each in ipairs(batch) do pairs[2 * at - 1], pairs[2 * at] = ARGV[2], each end
redis.call('ZADD', KEYS[2], unpack(pairs))
return batch
"""


class Noop(Job):
    """The job that every figure is about."""

    number: int

    async def handle(self) -> None:
        global ran
        ran += 1


class Stamp(Job):
    """Pushes how long it took from just before its own push to its start, on one clock for all processes."""

    pushed: float
    url: str

    async def handle(self) -> None:
        took = time.clock_gettime(time.CLOCK_MONOTONIC) - self.pushed
        times.append(took)
        if len(times) == PACED:
            client = Redis.from_url(self.url)
            await client.rpush("times", *times)
            await client.aclose()


ran = 0
times: list[float] = []


class Bench:
    """One server, and what is measured on it."""

    def __init__(self, url: str, jobs: int) -> None:
        self.url = url
        self.jobs = jobs
        self.config: dict[str, Any] = {"backend": "redis", "backends": {"redis": {"url": url}}}

    async def clean(self) -> None:
        async with Redis.from_url(self.url) as client:
            await client.flushdb()
            await client.config_resetstat()

    async def server_seconds(self) -> float:
        """What the server has spent on commands since it was cleaned."""
        async with Redis.from_url(self.url) as client:
            stats = await client.info("commandstats")
        # What scripts call is counted with the scripts.
        names = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_bzpopmin")
        return float(sum(stats.get(name, {"usec": 0})["usec"] for name in names)) / 1e6

    @asynccontextmanager
    async def driver(self) -> AsyncIterator[Driver]:
        """The queue's driver, without an engine."""
        backend = RedisBackend(parse(self.url), RedisSettings(url=self.url))
        await backend.open()
        yield backend.driver("{default}")
        await backend.close()

    # The bare client.

    async def bare_consume(self) -> float:
        """Jobs a second of a pop of 100 and one ack of 100, with nothing else."""
        async with Redis.from_url(self.url) as client:
            for start in range(0, self.jobs, 1000):
                await client.lpush("bare", *(f"{start + at:0100}" for at in range(1000)))
            pop = client.register_script(POP)
            began = time.perf_counter()
            while batch := await pop(keys=["bare", "held"], args=[100, 0]):
                await client.zrem("held", *batch)
            return self.jobs / (time.perf_counter() - began)

    async def bare_push(self) -> tuple[float, float]:
        """A second, awaited one by one: LPUSH, and headrace's own push script."""
        async with Redis.from_url(self.url) as client:
            count = self.jobs // 10
            began = time.perf_counter()
            for number in range(count):
                await client.lpush("bare", f"{number:0100}")
            plain = count / (time.perf_counter() - began)
            script = client.register_script(scripts.PUSH.text)
            keys = [f"{{bare}}:{name}" for name in scripts.PUSH.keys]
            body = pack(Message(id="", name="Noop", body=b"x" * 20), IN_LINE)
            began = time.perf_counter()
            for number in range(count):
                await script(keys=keys, args=[id_bytes(f"{number:032x}"), body])
            return plain, count / (time.perf_counter() - began)

    async def driver_alone(self, batch: int) -> tuple[float, float]:
        """Pop and ack through the driver without an engine: a second, and microseconds of the server for each."""
        async with Headrace(self.config) as app:
            await app.queue().push_many([Noop(number=number) for number in range(self.jobs)])
        async with self.driver() as driver:
            before = await self.server_seconds()
            began = time.perf_counter()
            while held := await driver.pop(batch, 0):
                await driver.ack([each.receipt for each in held])
            took = time.perf_counter() - began
            return self.jobs / took, (await self.server_seconds() - before) / self.jobs * 1e6

    # headrace.

    async def push(self) -> tuple[float, float]:
        """A second: awaited one by one, and with ``push_many``."""
        async with Headrace(self.config) as app:
            queue = app.queue()
            began = time.perf_counter()
            for number in range(self.jobs // 10):
                await queue.push(Noop(number=number))
            single = self.jobs // 10 / (time.perf_counter() - began)
            batch = [Noop(number=number) for number in range(self.jobs)]
            gc.collect()
            began = time.perf_counter()
            await queue.push_many(batch)
            return single, self.jobs / (time.perf_counter() - began)

    async def consume(self) -> tuple[float, float]:
        """Jobs a second of one worker, and microseconds of the server for each."""
        global ran
        ran = 0
        async with Headrace(self.config) as app:
            queue = app.queue()
            await queue.push_many([Noop(number=number) for number in range(self.jobs)])
            gc.collect()
            before = await self.server_seconds()
            began = time.perf_counter()
            handled = await app.worker(concurrency=10).run(until_empty=True)
            took = time.perf_counter() - began
            server = (await self.server_seconds() - before) / self.jobs * 1e6
            info = await queue.info()
            if handled != self.jobs or ran != self.jobs or info.waiting or info.reserved or info.failed:
                raise SystemExit(f"LOST: {self.jobs} pushed, {ran} ran, {info} left")
            return self.jobs / took, server

    async def two_processes(self) -> float:
        """Jobs a second of two worker processes together."""
        async with Headrace(self.config) as app:
            queue = app.queue()
            await queue.push_many([Noop(number=number) for number in range(2 * self.jobs)])
            context = multiprocessing.get_context("spawn")
            workers = [context.Process(target=serve, args=(self.config,)) for _ in range(2)]
            for worker in workers:
                worker.start()
            started, first, last = 0.0, 0, 2 * self.jobs
            while last:
                info = await queue.info()
                last = (info.waiting or 0) + (info.reserved or 0)
                if not started and last < 2 * self.jobs * 0.95:  # both are under way
                    started, first = time.perf_counter(), last
                await asyncio.sleep(0.02)
            took = time.perf_counter() - started
            for worker in workers:
                worker.terminate()
                worker.join()
            return first / took

    async def latency(self) -> tuple[list[float], list[float]]:
        """Milliseconds, at a fixed pace: from push to start in an idle worker, and of a bare round trip."""
        worker = multiprocessing.get_context("spawn").Process(target=serve, args=(self.config,))
        worker.start()
        bare: list[float] = []
        async with Redis.from_url(self.url) as client, Headrace(self.config) as app:
            queue = app.queue()
            await asyncio.sleep(2)
            for _ in range(PACED):
                began = time.perf_counter()
                await client.lpush("bare", "x" * 100)
                bare.append(1000 * (time.perf_counter() - began))
                await asyncio.sleep(1 / PACE)
            for _ in range(PACED):
                await queue.push(Stamp(pushed=time.clock_gettime(time.CLOCK_MONOTONIC), url=self.url))
                await asyncio.sleep(1 / PACE)
            while await client.llen("times") < PACED:
                await asyncio.sleep(0.1)
            found = [1000 * float(each) for each in await client.lrange("times", 0, -1)]
        worker.terminate()
        worker.join()
        return sorted(found), sorted(bare)

    async def at_backlog(self, backlog: int) -> tuple[float, float, float]:
        """Bytes for each of so many waiting messages, beside their bodies; a second pushed and consumed with them."""
        async with Redis.from_url(self.url) as client, Headrace(self.config) as app:
            queue = app.queue()
            before = (await client.info("memory"))["used_memory"]
            for start in range(0, backlog, 10_000):
                await queue.push_many([Noop(number=number) for number in range(start, min(start + 10_000, backlog))])
            used = (await client.info("memory"))["used_memory"] - before
            async with self.driver() as driver:
                (shown,) = (await driver.peek("waiting", 1)).messages
            measured = min(backlog, 20_000)
            batch = [Noop(number=number) for number in range(measured)]
            began = time.perf_counter()
            await queue.push_many(batch)
            pushed = measured / (time.perf_counter() - began)
            began = time.perf_counter()
            await app.worker(concurrency=10, max_messages=measured).run()
            return used / backlog - len(shown.body), pushed, measured / (time.perf_counter() - began)


def serve(config: dict[str, Any]) -> None:
    """A worker process, until it is ended."""
    asyncio.run(Headrace(config).worker(concurrency=10).run())


def spread(figures: list[float], digits: int = 0) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(figures):>10,.{digits}f}   ({min(figures):,.{digits}f} to {max(figures):,.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a server whose database 0 may be emptied; else one is started")
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="throughput only")
    options = parser.parse_args()
    with ExitStack() as stack:
        url = options.url or stack.enter_context(RedisServer(appendfsync="no")).url
        bench = Bench(url, options.jobs)

        def run(measure: Callable[[], Awaitable[Any]]) -> Any:
            async def clean_and_measure() -> Any:
                await bench.clean()
                return await measure()

            return asyncio.run(clean_and_measure())

        def runs(measure: Callable[[], Awaitable[Any]]) -> list[Any]:
            return [run(measure) for _ in range(options.runs)]

        print(f"Python {platform.python_version()}, {options.jobs:,} jobs, {options.runs} runs; a second, unless said")
        bare = runs(bench.bare_push)
        single = runs(bench.push)
        print(f"LPUSH awaited one by one, bare            {spread([each for each, _ in bare])}")
        print(f"headrace's push script one by one, bare   {spread([each for _, each in bare])}")
        print(f"push awaited one by one                   {spread([each for each, _ in single])}")
        print(f"push_many                                 {spread([each for _, each in single])}")
        print(f"pop of 100 and one ack of 100, bare       {spread(runs(bench.bare_consume))}")
        for batch in (100, 1000):
            alone = runs(partial(bench.driver_alone, batch))
            print(f"driver without engine, {batch:>4} at once       {spread([each for each, _ in alone])}")
            print(f"  server, microseconds a job              {spread([each for _, each in alone], 2)}")
        consumed = runs(bench.consume)
        print(f"consumed by one worker                    {spread([each for each, _ in consumed])}")
        print(f"  server, microseconds a job              {spread([each for _, each in consumed], 2)}")
        if options.quick:
            return
        print(f"consumed by two workers                   {spread([run(bench.two_processes)])}")
        found, round_trips = run(bench.latency)
        for about, each in ((f"push to start at {PACE} a second, ms", found), ("bare round trip, ms", round_trips)):
            print(f"{about:<41} p50 {statistics.median(each):.2f}   p99 {each[int(0.99 * len(each))]:.2f}")
        for backlog in (1_000, 1_000_000):
            beside, pushed, taken = run(partial(bench.at_backlog, backlog))
            print(
                f"with {backlog:>9,} waiting: {beside:.0f} bytes beside a body, "
                f"push_many {pushed:,.0f}, consumed {taken:,.0f}"
            )


if __name__ == "__main__":
    main()
