"""What headrace costs on SQS, beside bare boto3: ``python benchmarks/sqs_speed.py``.

Starts moto's server, or uses ``--endpoint-url``, or the real SQS with ``--aws``, in the account and region that
boto3 finds: its requests are billed. Everything is one no-op ``async def`` job with one small argument,
deleted after it ran, concurrency 10, the default listeners on. Bare boto3 sends, receives and deletes ten at a
time from as many threads as headrace has. Each run proves by count that every job ran and nothing is left, and
the script fails where a job costs more requests than it may. An emulator's speed is all that the rates show; what
counts here are the requests, which are billed, and that the event loop is never blocked.
"""

import argparse
import asyncio
import os
import platform
import secrets
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]

from headrace import Headrace
from headrace.conformance.servers.moto import ENVIRONMENT, MotoServer
from headrace_sqs.backend import SqsBackend
from headrace_sqs.clients import THREADS
from measuring import Noop, consume, spread

#: Entries of one request: a limit of SQS.
TEN: Final = 10

#: Requests for a job that is pushed, received and deleted, at most, where the queue is never empty.
MOST_REQUESTS: Final = 0.35

#: Seconds for which an idle worker is watched, and the requests of a minute that it may send.
IDLE_SECONDS: Final = 45.0
MOST_IDLE: Final = 4.0

#: Seconds between two beats of the task that shows how late the loop is.
BEAT: Final = 0.005


@dataclass(frozen=True)
class Figures:
    """One run: jobs a second, requests for a job, and the longest time that the loop was late, in milliseconds."""

    pushed: float
    consumed: float
    requests: float
    late: float = 0.0


class Bench:
    """One SQS, and what is measured on it."""

    def __init__(self, options: dict[str, Any], jobs: int) -> None:
        self.options = options
        self.jobs = jobs
        self._name = f"headrace-bench-{secrets.token_hex(4)}"
        self._numbers = iter(range(10**9))

    @asynccontextmanager
    async def app(self) -> AsyncIterator[Headrace]:
        """An app with a queue of its own, which is gone at the end: SQS makes none again within a minute."""
        config: dict[str, Any] = {
            "backend": "sqs",
            "backends": {"sqs": self.options},
            "queues": {"default": {"prefix": f"{{{self._name}-{next(self._numbers)}}}"}},
        }
        async with Headrace(config) as app:
            try:
                yield app
            finally:
                await (await app.queue().driver()).destroy()

    def bare(self) -> Figures:
        """boto3 alone, from as many threads as headrace has."""
        client = boto3.client("sqs", config=Config(max_pool_connections=THREADS), **self.options)
        url = client.create_queue(QueueName=f"{self._name}-{next(self._numbers)}")["QueueUrl"]
        batches = self.jobs // TEN
        counted = 0

        def push(_: int) -> None:
            entries = [{"Id": str(number), "MessageBody": f'{{"number":{number}}}'} for number in range(TEN)]
            client.send_message_batch(QueueUrl=url, Entries=entries)

        def take(_: int) -> int:
            taken = requests = 0
            while taken < TEN:
                answer = client.receive_message(QueueUrl=url, MaxNumberOfMessages=TEN - taken, WaitTimeSeconds=20)
                entries = [
                    {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]}
                    for number, each in enumerate(answer["Messages"])
                ]
                client.delete_message_batch(QueueUrl=url, Entries=entries)
                taken += len(entries)
                requests += 2
            return requests

        try:
            with ThreadPoolExecutor(THREADS) as threads:
                began = time.perf_counter()
                list(threads.map(push, range(batches)))
                pushed = self.jobs / (time.perf_counter() - began)
                began = time.perf_counter()
                counted = batches + sum(threads.map(take, range(batches)))
                consumed = self.jobs / (time.perf_counter() - began)
        finally:
            client.delete_queue(QueueUrl=url)
            client.close()
        return Figures(pushed, consumed, counted / self.jobs)

    async def run(self) -> Figures:
        """headrace: ``push_many``, and one worker."""
        async with self.app() as app:
            backend = await _backend(app)
            await app.queue().push(Noop(number=0))  # makes the queue
            await consume(app, 1)
            heart = asyncio.create_task(_longest_gap())
            before = _worked(backend)
            batch = [Noop(number=number) for number in range(self.jobs)]
            began = time.perf_counter()
            await app.queue().push_many(batch)
            pushed = self.jobs / (time.perf_counter() - began)
            consumed = await consume(app, self.jobs)
            requests = (_worked(backend) - before) / self.jobs
            heart.cancel()
            (gap,) = await asyncio.gather(heart, return_exceptions=True)
            assert isinstance(gap, float)
            return Figures(pushed, consumed, requests, gap)

    async def idle(self) -> float:
        """Requests a minute of a worker with nothing to do."""
        async with self.app() as app:
            backend = await _backend(app)
            worker = asyncio.create_task(app.worker(concurrency=10).run())
            await asyncio.sleep(1)
            before = sum(backend.requests.values())
            await asyncio.sleep(IDLE_SECONDS)
            requests = (sum(backend.requests.values()) - before) * 60 / IDLE_SECONDS
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
            return requests


async def _backend(app: Headrace) -> SqsBackend:
    backend = await app.opened("sqs")
    assert isinstance(backend, SqsBackend)
    return backend


def _worked(backend: SqsBackend) -> int:
    """Requests so far, but for the looks at the counts by which a worker sees that its queue is empty."""
    looks = ("GetQueueAttributes", "GetQueueUrl")
    return sum(count for operation, count in backend.requests.items() if operation not in looks)


async def _longest_gap() -> float:
    """Until it is cancelled: by how many milliseconds the loop was late at most."""
    longest = 0.0
    try:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(BEAT)
            longest = max(longest, time.perf_counter() - began - BEAT)
    except asyncio.CancelledError:
        return 1000 * longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint-url", help="another emulator; else moto's is started")
    parser.add_argument("--aws", action="store_true", help="the real SQS: requests are billed")
    parser.add_argument("--jobs", type=int, default=400, help="moto slows down with a backlog of more")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="without the idle worker, which takes a minute")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        options: dict[str, Any] = {}
        if not arguments.aws:
            os.environ.update(ENVIRONMENT)
            options["endpoint_url"] = arguments.endpoint_url or stack.enter_context(MotoServer()).url
        bench = Bench(options, arguments.jobs)
        # They take turns: a noisy machine is then noisy for both.
        rounds = [(bench.bare(), asyncio.run(bench.run())) for _ in range(arguments.runs)]
        bare, ours = zip(*rounds, strict=True)
        print(f"Python {platform.python_version()}, {arguments.jobs:,} jobs, {arguments.runs} runs, {THREADS} threads")
        print(f"pushed a second, bare boto3          {spread([each.pushed for each in bare])}")
        print(f"pushed a second, push_many           {spread([each.pushed for each in ours])}")
        print(f"consumed a second, bare boto3        {spread([each.consumed for each in bare])}")
        print(f"consumed a second, one worker        {spread([each.consumed for each in ours])}")
        print(f"requests for a job, bare boto3       {spread([each.requests for each in bare], 3)}")
        print(f"requests for a job, headrace         {spread([each.requests for each in ours], 3)}")
        print(f"event loop late at most, ms          {spread([each.late for each in ours])}")
        dear = max(each.requests for each in ours)
        if dear > MOST_REQUESTS:
            raise SystemExit(f"TOO DEAR: {dear:.3f} requests for a job; {MOST_REQUESTS} is the most")
        if arguments.quick:
            return
        idle = asyncio.run(bench.idle())
        print(f"requests a minute, idle worker       {idle:>10.1f}")
        if idle > MOST_IDLE:
            raise SystemExit(f"TOO DEAR: an idle worker sends {idle:.1f} requests a minute; {MOST_IDLE} is the most")


if __name__ == "__main__":
    main()
