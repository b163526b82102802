"""Pushing many jobs with one call: an import, a nightly run."""

import time
from collections.abc import Sequence

from headrace_bench import jobs
from headrace_bench.results import Run, ScenarioNote
from headrace_bench.scenario import BODIES, BODY, RATE, REQUESTS, Parameters, Scenario, number
from headrace_bench.scenarios.push import DRAIN
from headrace_bench.sizes import Size
from headrace_bench.stage import CHUNK, Stage, run_of


class PushMany(Scenario):
    name = "push_many"
    note = ScenarioNote(
        title="push_many",
        about=f"Jobs are made, encoded and pushed, at most {CHUNK:,} with a call. All are proved by taking them out.",
        figures={"rate": RATE, "requests": REQUESTS},
    )
    bare = True

    def variants(self, size: Size) -> Sequence[Parameters]:
        return [{"body": body} for body in (BODIES if size.name == "full" else (BODY,))]

    async def run(self, stage: Stage, parameters: Parameters) -> Run:
        body = number(parameters, "body", BODY)
        figures: dict[str, float] = {}
        duplicates = 0
        async with stage.app() as app:

            async def push(count: int) -> float:
                nonlocal duplicates
                before = await stage.commands(app)
                began = time.perf_counter()
                await stage.push_many(app, jobs.Work, count, body)
                took = time.perf_counter() - began
                after = await stage.commands(app)
                if before is not None and after is not None:
                    figures["requests"] = (after - before) / count
                duplicates = await stage.drain(app, count)
                return took

            count, seconds = await stage.sized(push, body)
        return run_of(count, {"rate": count / seconds, **figures}, duplicates)

    async def run_bare(self, stage: Stage, parameters: Parameters) -> Run:
        body = number(parameters, "body", BODY)
        async with stage.baseline() as baseline:
            pad = jobs.padding(body)

            async def push(count: int) -> float:
                began = time.perf_counter()
                for start in range(0, count, CHUNK):
                    batch = [jobs.body_of(each, pad) for each in range(start, min(start + CHUNK, count))]
                    await baseline.push_many(batch)
                took = time.perf_counter() - began
                await stage.consume_bare(baseline, count, DRAIN)
                return took

            count, seconds = await stage.sized(push, body)
        return run_of(count, {"rate": count / seconds})
