"""How fast headrace runs on RabbitMQ, beside the bare client: ``python benchmarks/rabbitmq_speed.py``.

Starts a private broker, or uses ``--url``. Everything is one no-op ``async def`` job with
one small argument, in quorum queues, persistent, confirmed, acked after it ran, concurrency
10, the default listeners on. The bare client is aio-pika with a message of the same size.
Each run proves by count that every job ran and nothing is left. The figures of one
invocation may be compared with each other, and with nothing else: on a small machine the
client and the broker share what there is, and the broker takes the larger part of it.
"""

import argparse
import asyncio
import platform
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from headrace import Headrace
from headrace.driver import Message
from headrace_bench.servers import make_rabbitmq
from measuring import PACE, Noop, consume, consume_by_two, paced, paced_latency, percentiles, spread

#: Confirms that the bare client awaits together, and the messages that it holds.
WINDOW: Final = 100

#: Messages that the bare client acks at once, where it does not ack each.
MULTIPLE: Final = 50

#: Seconds of the delays whose exactness is measured, and messages for each, one after another.
DELAYS: Final = (0.01, 0.05, 0.2, 1.0)
SINGLE: Final = 41


class Bench:
    """One broker, and what is measured on it."""

    def __init__(self, url: str, jobs: int) -> None:
        self.url = url
        self.jobs = jobs
        self.config: dict[str, Any] = {"backend": "rabbitmq", "backends": {"rabbitmq": {"url": url}}}

    @asynccontextmanager
    async def app(self) -> AsyncIterator[Headrace]:
        """An app whose queue is gone at the end."""
        async with Headrace(self.config) as app:
            try:
                yield app
            finally:
                await (await app.queue().driver()).destroy()

    # The bare client.

    @asynccontextmanager
    async def bare(self) -> AsyncIterator[tuple[AbstractChannel, AbstractQueue]]:
        """A channel with confirms, and an empty quorum queue."""
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("bare", durable=True, arguments={"x-queue-type": "quorum"})
            try:
                yield channel, queue
            finally:
                await queue.delete(if_unused=False, if_empty=False)

    async def bare_run(self, acked: int) -> tuple[float, float]:
        """A second: published with windows of confirms; consumed, with one ack for every so many."""
        async with self.bare() as (channel, queue):
            began = time.perf_counter()
            await self._bare_publish(channel)
            published = self.jobs / (time.perf_counter() - began)
            return published, await self._bare_consume(channel, queue, acked)

    async def _bare_publish(self, channel: AbstractChannel) -> None:
        for _ in range(0, self.jobs, WINDOW):
            await asyncio.gather(
                *(
                    channel.default_exchange.publish(
                        aio_pika.Message(b"x" * 20, delivery_mode=aio_pika.DeliveryMode.PERSISTENT), "bare"
                    )
                    for _ in range(WINDOW)
                )
            )

    async def _bare_consume(self, channel: AbstractChannel, queue: AbstractQueue, acked: int) -> float:
        count, done = 0, asyncio.Event()

        async def came(message: AbstractIncomingMessage) -> None:
            nonlocal count
            count += 1
            if count % acked == 0:
                await message.ack(multiple=acked > 1)
            if count == self.jobs:
                done.set()

        await channel.set_qos(prefetch_count=max(WINDOW, 2 * acked))
        began = time.perf_counter()
        await queue.consume(came)
        await done.wait()
        return self.jobs / (time.perf_counter() - began)

    async def bare_round_trip(self) -> list[float]:
        """Milliseconds of a publish until its confirm, at a fixed pace; sorted."""
        async with self.bare() as (channel, _):
            message = aio_pika.Message(b"x" * 20, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            return await paced(lambda: channel.default_exchange.publish(message, "bare"))

    # headrace.

    async def push(self) -> float:
        """A second, awaited one by one."""
        async with self.app() as app:
            began = time.perf_counter()
            for number in range(self.jobs // 10):
                await app.queue().push(Noop(number=number))
            return self.jobs // 10 / (time.perf_counter() - began)

    async def run(self) -> tuple[float, float]:
        """A second: pushed with ``push_many``, and consumed by one worker."""
        async with self.app() as app:
            batch = [Noop(number=number) for number in range(self.jobs)]
            began = time.perf_counter()
            await app.queue().push_many(batch)
            pushed = self.jobs / (time.perf_counter() - began)
            del batch
            return pushed, await consume(app, self.jobs)

    async def two_processes(self) -> float:
        """Jobs a second of two worker processes together."""
        async with self.app() as app:
            return await consume_by_two(app, self.config, 2 * self.jobs)

    async def latency(self) -> list[float]:
        """Milliseconds from push to start in another process, at a fixed pace; sorted."""
        with tempfile.TemporaryDirectory(prefix="headrace-speed-") as folder:
            async with self.app():
                return await paced_latency(self.config, Path(folder) / "times")

    async def lateness(self, delay: float) -> list[float]:
        """Milliseconds by which single delayed messages come late to a pop that waits for them; sorted."""
        async with self.app() as app:
            driver = await app.queue().driver()
            late = []
            for number in range(SINGLE):
                began = time.perf_counter()
                await driver.delay([Message(id=str(number), name="noop", body=b"x" * 20, delay=delay)])
                (held,) = await driver.pop(1, 60)
                late.append((time.perf_counter() - began - delay) * 1000)
                await driver.ack([held.receipt])
            return sorted(late[1:])  # the first had the levels declared


def print_lateness(bench: Bench) -> None:
    """How late what is delayed comes, off-burst."""
    for delay in DELAYS:
        late = asyncio.run(bench.lateness(delay))
        p95 = late[int(len(late) * 0.95)]
        print(f"late after a delay of {delay * 1000:>5,.0f} ms, ms         ", end=" ")
        print(f"p50 {statistics.median(late):.1f}   p95 {p95:.1f}   max {late[-1]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a broker; else one is started. The queues bare and {default} are deleted")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--delays", action="store_true", help="only how late what is delayed comes")
    parser.add_argument("--quick", action="store_true", help="throughput only")
    options = parser.parse_args()
    with ExitStack() as stack:
        bench = Bench(options.url or stack.enter_context(make_rabbitmq(schedulers=1)).url, options.jobs)
        if options.delays:
            print_lateness(bench)
            return
        measures: Sequence[Callable[[], Awaitable[tuple[float, float]]]] = (
            partial(bench.bare_run, 1),
            partial(bench.bare_run, MULTIPLE),
            bench.run,
        )
        # They take turns: a noisy machine is then noisy for all of them.
        rounds = [[asyncio.run(_awaited(measure)) for measure in measures] for _ in range(options.runs)]
        single, multiple, ours = zip(*rounds, strict=True)
        print(f"Python {platform.python_version()}, {options.jobs:,} jobs, {options.runs} runs; a second, unless said")
        print(f"published, {WINDOW} confirms awaited at once, bare  {spread([each for each, _ in single + multiple])}")
        print(f"push_many                                  {spread([each for each, _ in ours])}")
        print(f"consumed and acked one by one, bare        {spread([each for _, each in single])}")
        print(f"consumed, one ack for {MULTIPLE}, bare             {spread([each for _, each in multiple])}")
        print(f"consumed by one worker                     {spread([each for _, each in ours])}")
        ratios = [our[1] / bare[1] for our, bare in zip(ours, single, strict=True)]
        print(f"  of bare with an ack for each, median     {statistics.median(ratios):>13,.2f}")
        if options.quick:
            return
        print(f"push awaited one by one                    {spread([asyncio.run(bench.push())])}")
        print(f"consumed by two workers                    {spread([asyncio.run(bench.two_processes())])}")
        print(f"push to start at {PACE} a second, ms         {percentiles(asyncio.run(bench.latency()))}")
        print(f"publish and confirm, bare, ms              {percentiles(asyncio.run(bench.bare_round_trip()))}")
        print_lateness(bench)


async def _awaited(measure: Callable[[], Awaitable[tuple[float, float]]]) -> tuple[float, float]:
    return await measure()


if __name__ == "__main__":
    main()
