"""Delayed jobs: how long after its time one starts, and that none starts before."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from headrace_bench import jobs
from headrace_bench.results import Figure, Run, ScenarioNote
from headrace_bench.scenario import BODY, Parameters, Scenario, number
from headrace_bench.sizes import Size
from headrace_bench.stage import Stage, run_of
from headrace_bench.statistics import percentile, percentiles

#: Seconds by which jobs are delayed: more than it takes to push them, even where that is slow.
_DELAY: Final = 1.0

#: Seconds over which their times are spread, so that a backend which looks now and then has no luck.
_SPREAD: Final = 1.0

#: Pushes under way: what the last of more would wait for the others is no lateness of the backend's.
_AT_ONCE: Final = 10

#: Milliseconds by which a clock of the server's may be ahead of ours: what rounding makes, no more.
_ROUNDING: Final = 2.0


class TooEarly(Exception):
    """A delayed job ran before its time."""


class Delay(Scenario):
    name = "delay"
    note = ScenarioNote(
        title="delay accuracy",
        about=f"Jobs are pushed with delays of {_DELAY:g} to {_DELAY + _SPREAD:g} s to an idle worker. From when each "
        "was due to its start; one that starts before its time makes the run an error.",
        figures={
            "p50": Figure("ms", "lower", "late, p50"),
            "p99": Figure("ms", "lower", "late, p99"),
            "max": Figure("ms", "lower", "late, max"),
        },
    )
    repeated = False

    def variants(self, size: Size) -> Sequence[Parameters]:
        return [{"jobs": each, "body": BODY} for each in ((100, 10_000) if size.name == "full" else (100,))]

    async def run(self, stage: Stage, parameters: Parameters) -> Run:
        total = number(parameters, "jobs", 100)
        pad = jobs.padding(number(parameters, "body", BODY))
        due = [0.0] * total
        async with stage.app() as app, stage.worker(app, total) as worker:
            queue = app.queue()
            granularity = queue.capabilities.granularity

            async def push(each: int) -> None:
                delay = _DELAY + _SPREAD * each / total
                due[each] = time.monotonic() + delay
                await queue.push(jobs.Stamp(number=each, pad=pad), delay=delay)

            # The longest alone: whoever is first connects, and has a broker make what it keeps delays in.
            await push(total - 1)
            for start in range(0, total - 1, _AT_ONCE):
                await asyncio.gather(*(push(each) for each in range(start, min(start + _AT_ONCE, total - 1))))
            await stage.until_run(app, lambda: worker.tallies.ran, total)
            await worker.stop()
            duplicates = await stage.prove(app, worker.tallies)
            started = worker.tallies.times()
        late = [1000 * (at - was_due) for at, was_due in zip(started, due, strict=True)]
        if min(late) < -_ROUNDING:
            raise TooEarly(f"a job ran {-min(late):.1f} ms before its time (the backend counts in {granularity:g} s)")
        figures = {"p50": percentile(late, 50), "p99": percentile(late, 99), "max": max(late)}
        run = run_of(total, figures, duplicates)
        run.percentiles = percentiles(late)
        return run
