"""What a scenario is given: the participant's app, tallies, workers, and the proof that nothing was lost.

Owns the ways of doing things that scenarios share, so that all of them prove their figures alike. One stage serves one
run, in a process of its own; what it opens is gone when it is closed, its queues included.
"""

import asyncio
import gc
import itertools
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from headrace.app import Headrace
from headrace.driver import Info
from headrace_bench import jobs
from headrace_bench.baseline import Baseline, CountsCommands, find
from headrace_bench.crew import Crew
from headrace_bench.hands import Hand, InProcess
from headrace_bench.results import Run
from headrace_bench.seat import Seat
from headrace_bench.sizes import Size
from headrace_bench.tally import Tallies, Tally

#: Seconds without progress after which nothing more is expected: a lease, a pop, and some more.
PATIENCE: Final = 40.0

#: Seconds without progress after which a broker that counts exactly, and counts nothing any more, is believed.
_EMPTY: Final = 1.0

#: Seconds between two looks at how far a worker is: far below a run's length, and far above a look's cost.
LOOK_EVERY: Final = 0.005

#: Seconds between two questions to a broker whether it has anything left.
_ASK_EVERY: Final = 0.2

#: Seconds that a broker may take to count what is left over, where its counts come late.
_COUNTING: Final = 15.0

#: Jobs of the first attempt, how much larger the next may be, and the share of a run's time from which one counts.
_FIRST: Final = 20
_GROWTH: Final = 10
_ENOUGH: Final = 0.6

#: The most bytes that the bodies of a run have together: they must fit into memory well.
_MOST_BYTES: Final = 200_000_000

#: Jobs of a pilot for what is done with a fixed number of them, and the share of a run's limit that filling may take.
_PILOT: Final = 100
_AFFORDABLE: Final = 0.2

#: Messages of one pop where there is no engine.
_BATCH: Final = 1000

#: Messages in one push of many: what an application would do with a large number of jobs.
CHUNK: Final = 10_000


class Worked(NamedTuple):
    """What a worker did."""

    seconds: float
    duplicates: int


class Lost(Exception):
    """Jobs did not run, or messages are left over."""

    def __init__(self, total: int, missing: int, left: int, examples: Sequence[int]) -> None:
        super().__init__(f"of {total:,} jobs {missing:,} never ran {list(examples) or ''}, and {left:,} are left over")
        self.total = total
        self.count = max(missing, left)


class Stage:
    """One run's."""

    def __init__(self, seat: Seat, folder: Path, size: Size) -> None:
        """``folder``: an empty one of this run's own."""
        self.seat: Final = seat
        self.size: Final = size
        self._folder = folder
        self._numbers = itertools.count()

    # The participant

    @asynccontextmanager
    async def app(self, **settings: Any) -> AsyncIterator[Headrace]:
        """An app whose queue nobody else has, and which is removed at the end. ``settings`` are the queue's."""
        async with self.seat.app(self._fresh_prefix(), settings) as app:
            try:
                yield app
            finally:
                await (await app.queue().driver()).destroy()

    def crew(self, app: Headrace, total: int) -> Crew:
        """Workers of the app's queue in processes of their own, to be entered; they count ``total`` jobs together."""
        return Crew(self.seat, app.queue().settings, self.fresh_folder(), total)

    @asynccontextmanager
    async def baseline(self) -> AsyncIterator[Baseline]:
        """The bare client, with a queue of its own."""
        baseline = self.seat.make_baseline(self._fresh_prefix().strip("{}"))
        try:
            await baseline.open()
            yield baseline
        finally:
            await baseline.close()

    def fresh_folder(self) -> Path:
        """An empty folder for tallies."""
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        return folder

    @staticmethod
    def _fresh_prefix() -> str:
        return f"{{headrace-bench-{secrets.token_hex(6)}}}"

    # How many jobs

    async def sized(self, attempt: Callable[[int], Awaitable[float]], body: int) -> tuple[int, float]:
        """Do it with so many jobs that it takes about as long as it should; how many, and the seconds that they took.

        ``attempt`` does it with a number of jobs, proves that all of them ran, and returns the seconds. Those with
        too few only tell how fast it goes, and warm things up.
        """
        most = max(_FIRST, min(self.size.most, _MOST_BYTES // body))
        count = _FIRST
        while (took := await attempt(count)) < _ENOUGH * self.size.timed and count < most:
            count = min(most, math.ceil(count * min(_GROWTH, self.size.timed / took)))
        return count, took

    # headrace's part

    async def push_many(self, app: Headrace, kind: type[jobs.Numbered], total: int, body: int) -> None:
        """Push the jobs 0 to ``total`` - 1 of a kind."""
        pad = jobs.padding(body)
        for start in range(0, total, CHUNK):
            batch = [kind(number=number, pad=pad) for number in range(start, min(start + CHUNK, total))]
            await app.queue().push_many(batch)

    async def work_off(self, app: Headrace, total: int, *, concurrency: int = 10, resting: int = 0) -> Worked:
        """Have one worker in this process run so many jobs, from its start to its end, acks included.

        ``resting``: how many are in ``failed`` or ``timeout`` after that. Raises `Lost` if not all of them ran, or
        something is left over.
        """
        folder = self.fresh_folder()
        with Tally(folder, total) as tally:
            jobs.count_in(tally)
            worker = app.worker(concurrency=concurrency)

            def progress() -> int:
                # To count how many are distinct takes longer, and is needed only at the end.
                return worker.handled if worker.handled < total else tally.distinct

            gc.collect()  # what pushing has left is no part of the worker's work
            began = time.perf_counter()
            running = asyncio.create_task(worker.run())
            try:
                await self.until_run(app, progress, total, running)
            finally:
                worker.stop()
                await asyncio.gather(running, return_exceptions=True)
            seconds = time.perf_counter() - began
            running.result()
        return Worked(seconds, await self.prove(app, Tallies(folder, total), resting=resting))

    @asynccontextmanager
    async def worker(self, app: Headrace, total: int, *, here: bool = False) -> AsyncIterator[Hand]:
        """A worker that waits for jobs: in another process, unless the backend cannot be shared, or ``here``."""
        if app.queue().capabilities.shared and not here:
            async with self.crew(app, total) as crew:
                await crew.start()
                yield crew
        else:
            async with InProcess(app, self.fresh_folder(), total) as hand:
                yield hand

    async def until_run(
        self, app: Headrace, progress: Callable[[], int], total: int, running: "asyncio.Task[Any] | None" = None
    ) -> None:
        """Wait until ``progress`` is ``total``, or nothing more is to be expected."""
        seen, since = progress(), time.monotonic()
        while seen < total and not (running and running.done()):
            silent = time.monotonic() - since
            await asyncio.sleep(LOOK_EVERY if silent < _EMPTY else _ASK_EVERY)
            if (now := progress()) != seen:
                seen, since = now, time.monotonic()
            elif silent > _EMPTY and await self._is_over(app, silent):
                return

    async def _is_over(self, app: Headrace, silent: float) -> bool:
        """Whether nothing more is to be expected after so many silent seconds."""
        if app.queue().capabilities.counts != "exact":
            return silent > PATIENCE
        info = await app.queue().info()
        return not (info.waiting or info.reserved or info.delayed) or silent > PATIENCE

    async def prove(self, app: Headrace, tallies: Tallies, *, resting: int = 0) -> int:
        """Prove that every job ran, and that nothing is left over but what is to rest; how many ran too often.

        Raises `Lost`.
        """
        left = await self._left(app, resting)
        again = 0
        if left and not tallies.lost:
            again = await self._take_left(app)
            left = await self._left(app, resting)
        if tallies.lost or left:
            raise Lost(tallies.jobs, tallies.lost, left, tallies.missing[:5])
        return tallies.duplicates + again

    async def _take_left(self, app: Headrace) -> int:
        """Take out what still waits though every job has run: jobs that would run once more; how many."""
        driver = await app.queue().driver()
        taken = 0
        while deliveries := await driver.pop(self._batch(app), 0.5):
            taken += len(deliveries)
            await driver.ack([each.receipt for each in deliveries])
        return taken

    async def _left(self, app: Headrace, resting: int) -> int:
        """By how many messages a queue differs from what it is to hold, given time to count."""
        deadline = time.monotonic() + _COUNTING
        while True:
            info = await app.queue().info()
            left = _moving(info) + abs((info.failed or 0) + (info.timeout or 0) - resting)
            if info.failed is None and info.timeout is None:
                left = _moving(info)
            if not left or app.queue().capabilities.counts == "unknown":
                return 0
            if app.queue().capabilities.counts == "exact" or time.monotonic() > deadline:
                return left
            await asyncio.sleep(0.2)

    async def work_some(self, app: Headrace, some: int, total: int) -> Worked:
        """Have one worker run some of the jobs that wait, and take the others out without it, all of them proved.

        The seconds are the worker's. Raises `Lost`.
        """
        folder = self.fresh_folder()
        with Tally(folder, total) as tally:
            jobs.count_in(tally)
            worker = app.worker(max_messages=some)
            gc.collect()
            began = time.perf_counter()
            await worker.run()
            seconds = time.perf_counter() - began
            await self._take_out(app, tally)
        return Worked(seconds, await self.prove(app, Tallies(folder, total)))

    async def drain(self, app: Headrace, total: int) -> int:
        """Take all jobs out through the driver, without an engine, and ack them; how many came too often.

        Proves what was pushed. Raises `Lost`.
        """
        folder = self.fresh_folder()
        with Tally(folder, total) as tally:
            await self._take_out(app, tally)
        return await self.prove(app, Tallies(folder, total))

    async def _take_out(self, app: Headrace, tally: Tally) -> None:
        """Pop and ack until every job was counted, or nothing more is to be expected."""
        driver = await app.queue().driver()
        left, since = tally.jobs - tally.distinct, time.monotonic()
        while left > 0:
            deliveries = await driver.pop(self._batch(app), 0.5)
            if deliveries:
                since = time.monotonic()
                for each in deliveries:
                    tally.ran(jobs.number_of(each.message.body))
                left -= len(deliveries)
                await driver.ack([each.receipt for each in deliveries])
            if left <= 0:
                left = tally.jobs - tally.distinct  # what came twice does not count for another
            elif not deliveries and await self._is_over(app, time.monotonic() - since):
                return

    async def fail(self, app: Headrace, total: int) -> None:
        """Move so many jobs that wait to ``failed``, through the driver."""
        driver = await app.queue().driver()
        failed, since = 0, time.monotonic()
        while failed < total:
            deliveries = await driver.pop(self._batch(app), 0.5)
            if deliveries:
                since = time.monotonic()
                await driver.fail([(each.receipt, each.message) for each in deliveries], "failed")
                failed += len(deliveries)
            elif await self._is_over(app, time.monotonic() - since):
                return

    @staticmethod
    def _batch(app: Headrace) -> int:
        return min(_BATCH, app.queue().capabilities.max_batch)

    async def affordable(self, app: Headrace, total: int, body: int) -> int:
        """So many jobs, or as many as can be pushed and taken out in the time that a run has for that."""
        each = 0.0
        for _ in range(2):  # the first connects, and creates what must exist
            began = time.perf_counter()
            await self.push_many(app, jobs.Work, _PILOT, body)
            await self.drain(app, _PILOT)
            each = (time.perf_counter() - began) / _PILOT
        return min(total, max(_FIRST, round(_AFFORDABLE * self.size.limit / each)))

    async def until_settled(self, app: Headrace) -> None:
        """Wait until nothing waits or is held any more, as far as the broker tells."""
        deadline = time.monotonic() + PATIENCE
        while _moving(await app.queue().info()) and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_EVERY)

    # The bare client's part

    async def consume_bare(self, baseline: Baseline, total: int, batch: int) -> float:
        """Have the bare client take so many messages; the seconds. Raises `Lost`."""
        counts = bytearray(total)

        def seen(body: bytes) -> None:
            counts[jobs.number_of(body)] += 1

        began = time.perf_counter()
        await asyncio.wait_for(baseline.consume(total, batch, seen), PATIENCE + 10 * self.size.timed)
        seconds = time.perf_counter() - began
        if counts.count(0):
            raise Lost(total, counts.count(0), 0, [])
        return seconds

    # Counting commands

    async def counts_itself(self, app: Headrace) -> bool:
        """Whether the app's backend counts what it sends, in a mapping ``requests``: SQS bills each."""
        return hasattr(await app.opened(self.seat.backend), "requests")

    async def commands(self, app: Headrace) -> int | None:
        """How many commands the app's backend has sent, or the broker has had from anybody, as far as one tells."""
        if await self.counts_itself(app):
            requests: Mapping[str, int] = getattr(await app.opened(self.seat.backend), "requests")  # noqa: B009
            return sum(requests.values())
        make = find(self.seat.plugin)
        baseline = None if make is None else make(self.seat.backend_options, "headrace-bench-commands")
        return await baseline.commands() if isinstance(baseline, CountsCommands) else None


def run_of(total: int, figures: dict[str, float], duplicates: int = 0) -> Run:
    """What a scenario returns."""
    return Run(round=0, jobs=total, figures=figures, duplicates=duplicates)


def _moving(info: Info) -> int:
    return (info.waiting or 0) + (info.reserved or 0) + (info.delayed or 0)
