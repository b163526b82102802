"""Pushing many jobs with one call: an import, a nightly run."""

from headrace import Headrace
from headrace_bench import jobs
from headrace_bench.baseline import Baseline
from headrace_bench.results import ScenarioNote
from headrace_bench.scenario import RATE, REQUESTS
from headrace_bench.scenarios.push import Push
from headrace_bench.stage import CHUNK, Stage


class PushMany(Push):
    name = "push_many"
    note = ScenarioNote(
        title="push_many",
        about=f"Jobs are made, encoded and pushed, at most {CHUNK:,} with a call. All are proved by taking them out.",
        figures={"rate": RATE, "requests": REQUESTS},
    )

    async def push(self, stage: Stage, app: Headrace, count: int, body: int) -> None:
        await stage.push_many(app, jobs.Work, count, body)

    async def push_bare(self, baseline: Baseline, count: int, pad: str) -> None:
        for start in range(0, count, CHUNK):
            batch = [jobs.body_of(each, pad) for each in range(start, min(start + CHUNK, count))]
            await baseline.push_many(batch)
