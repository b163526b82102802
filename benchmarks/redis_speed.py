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
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from redis.asyncio import Redis

from headrace import Headrace
from headrace.conformance.servers.redis import RedisServer
from headrace.driver import Driver, Message
from headrace_redis import scripts
from headrace_redis.backend import RedisBackend
from headrace_redis.codec import IN_LINE, id_bytes, pack
from headrace_redis.connections.place import parse
from headrace_redis.settings import RedisSettings
from measuring import PACE, Noop, consume, consume_by_two, paced, paced_latency, percentiles, spread

#: The least that reserves and acks in batches: what a client without headrace could reach.
POP: Final = """
local batch = redis.call('RPOP', KEYS[1], ARGV[1])
if not batch then return {} end
local pairs = {}
for at, each in ipairs(batch) do pairs[2 * at - 1], pairs[2 * at] = ARGV[2], each end
redis.call('ZADD', KEYS[2], unpack(pairs))
return batch
"""


BacklogChannel: TypeAlias = Literal["waiting", "delayed", "failed"]


class Backlog(NamedTuple):
    """What was measured beside many messages in one channel."""

    bytes_each: float  #: in Redis, beside the body
    pushed: float  #: a second, with ``push_many``
    consumed: float  #: a second
    server: float  #: microseconds of the server's processor for both, for each job
    flush: float  #: seconds to delete them all


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
        async with Headrace(self.config) as app:
            await app.queue().push_many([Noop(number=number) for number in range(self.jobs)])
            before = await self.server_seconds()
            rate = await consume(app, self.jobs)
            return rate, (await self.server_seconds() - before) / self.jobs * 1e6

    async def two_processes(self) -> float:
        """Jobs a second of two worker processes together."""
        async with Headrace(self.config) as app:
            return await consume_by_two(app, self.config, 2 * self.jobs)

    async def round_trip(self) -> list[float]:
        """Milliseconds of a bare LPUSH, at a fixed pace; sorted."""
        async with Redis.from_url(self.url) as client:
            return await paced(lambda: client.lpush("bare", "x" * 100))

    async def latency(self) -> list[float]:
        """Milliseconds from push to start in another process, at a fixed pace; sorted."""
        with tempfile.TemporaryDirectory(prefix="headrace-speed-") as folder:
            return await paced_latency(self.config, Path(folder) / "times")

    async def at_backlog(self, channel: BacklogChannel, backlog: int) -> Backlog:
        """What things cost beside so many messages in a channel, and to delete them."""
        async with Redis.from_url(self.url) as client, Headrace(self.config) as app, self.driver() as driver:
            queue = app.queue()
            empty = (await client.info("memory"))["used_memory"]
            delay = 24 * 3600 if channel == "delayed" else None
            for start in range(0, backlog, 10_000):
                jobs = [Noop(number=number) for number in range(start, min(start + 10_000, backlog))]
                await queue.push_many(jobs, delay=delay)
            while channel == "failed" and (held := await driver.pop(1000, 0)):
                await driver.fail([(each.receipt, each.message) for each in held], "failed")
            used = (await client.info("memory"))["used_memory"] - empty
            (shown,) = (await driver.peek(channel, 1)).messages
            measured = min(self.jobs, 20_000)
            batch = [Noop(number=number) for number in range(measured)]
            before = await processor_seconds(client)
            began = time.perf_counter()
            await queue.push_many(batch)
            pushed = measured / (time.perf_counter() - began)
            began = time.perf_counter()
            await app.worker(concurrency=10, max_messages=measured).run()
            taken = measured / (time.perf_counter() - began)
            server = (await processor_seconds(client) - before) / measured * 1e6
            began = time.perf_counter()
            flushed = await driver.flush(channel)
            took = time.perf_counter() - began
            if flushed != backlog:
                raise SystemExit(f"LOST: {backlog} {channel}, {flushed} deleted")
            return Backlog(used / backlog - len(shown.body), pushed, taken, server, took)


async def processor_seconds(client: "Redis") -> float:
    """What the server has had of the processor, which no other program's work adds to."""
    found = await client.info("cpu")
    return float(found["used_cpu_user"] + found["used_cpu_sys"])


#: Measures once, on a database that is empty.
Run: TypeAlias = Callable[[Callable[[], Awaitable[Any]]], Any]


def show_throughput(bench: Bench, run: Run, times: int) -> None:
    def runs(measure: Callable[[], Awaitable[Any]]) -> list[Any]:
        return [run(measure) for _ in range(times)]

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
    print(f"consumed by two workers                   {spread([run(bench.two_processes)])}")


def show_latency(bench: Bench, run: Run) -> None:
    print(f"push to start at {PACE} a second, ms        {percentiles(run(bench.latency))}")
    print(f"bare round trip, ms                       {percentiles(run(bench.round_trip))}")


def show_backlogs(bench: Bench, run: Run) -> None:
    for channel in get_args(BacklogChannel):
        for backlog in (1_000, 1_000_000):
            found = run(partial(bench.at_backlog, channel, backlog))
            print(
                f"beside {backlog:>9,} {channel}: {found.bytes_each:.0f} bytes each beside a body, "
                f"push_many {found.pushed:,.0f}, consumed {found.consumed:,.0f}, "
                f"server {found.server:.1f} µs a job; all deleted in {found.flush:.2f} s"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a server whose database 0 may be emptied; else one is started")
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=("throughput", "latency", "backlogs"), help="else all three")
    options = parser.parse_args()
    with ExitStack() as stack:
        url = options.url or stack.enter_context(RedisServer(appendfsync="no")).url
        bench = Bench(url, options.jobs)

        def run(measure: Callable[[], Awaitable[Any]]) -> Any:
            async def clean_and_measure() -> Any:
                await bench.clean()
                return await measure()

            return asyncio.run(clean_and_measure())

        print(f"Python {platform.python_version()}, {options.jobs:,} jobs, {options.runs} runs; a second, unless said")
        if options.only in (None, "throughput"):
            show_throughput(bench, run, options.runs)
        if options.only in (None, "latency"):
            show_latency(bench, run)
        if options.only in (None, "backlogs"):
            show_backlogs(bench, run)


if __name__ == "__main__":
    main()
