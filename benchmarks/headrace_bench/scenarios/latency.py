"""From push to start, at a fixed rate: how long a job waits when there is no backlog."""

from collections.abc import Sequence
from typing import Final

from headrace_bench import jobs
from headrace_bench.pacing import send_at_rate
from headrace_bench.results import Figure, Run, ScenarioNote
from headrace_bench.scenario import BODY, Parameters, Scenario, number
from headrace_bench.sizes import Size
from headrace_bench.stage import Stage, run_of
from headrace_bench.statistics import percentile, percentiles

#: Jobs that go first, so that connections and caches are warm.
_WARMING: Final = 20


class Latency(Scenario):
    name = "latency"
    note = ScenarioNote(
        title="latency",
        about="Jobs are pushed at a fixed rate, whatever becomes of those before (an open loop), to a worker in "
        "another process, or in the same one where a backend cannot be shared. From when a push was due to the "
        "start of its handler.",
        figures={
            "p50": Figure("ms", "lower", "p50"),
            "p95": Figure("ms", "lower", "p95"),
            "p99": Figure("ms", "lower", "p99"),
            "max": Figure("ms", "lower", "max"),
            "held": Figure("% of the rate", "higher"),
        },
    )
    repeated = False

    def variants(self, size: Size) -> Sequence[Parameters]:
        return [{"rate": rate, "body": BODY} for rate in ((100, 1000) if size.name == "full" else (100,))]

    async def run(self, stage: Stage, parameters: Parameters) -> Run:
        rate = float(parameters.get("rate", 100))
        pad = jobs.padding(number(parameters, "body", BODY))
        count = max(_WARMING, round(rate * stage.size.watched))
        async with stage.app() as app, stage.worker(app, _WARMING + count) as worker:
            queue = app.queue()

            async def push(each: int) -> None:
                await queue.push(jobs.Stamp(number=each, pad=pad))

            for each in range(_WARMING):
                await push(each)
            await stage.until_run(app, lambda: worker.tallies.ran, _WARMING)
            due = await send_at_rate(rate, count, lambda each: push(_WARMING + each))
            await stage.until_run(app, lambda: worker.tallies.ran, _WARMING + count)
            await worker.stop()
            duplicates = await stage.prove(app, worker.tallies)
            started = worker.tallies.times()[_WARMING:]
        took = [1000 * (at - was_due) for at, was_due in zip(started, due, strict=True)]
        lasted = max(started) - due[0]
        figures = {name: percentile(took, percent) for name, percent in (("p50", 50), ("p95", 95), ("p99", 99))}
        figures |= {"max": max(took), "held": min(100.0, 100 * (count - 1) / rate / lasted)}
        run = run_of(count, figures, duplicates)
        run.percentiles = percentiles(took)
        return run
