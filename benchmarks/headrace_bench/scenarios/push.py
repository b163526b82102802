"""Pushing one job after the other, each awaited: what a web request that pushes has to wait for."""

import time
from collections.abc import Sequence
from typing import Final

from headrace import Headrace
from headrace_bench import jobs
from headrace_bench.baseline import Baseline
from headrace_bench.results import Run, ScenarioNote
from headrace_bench.scenario import BODIES, BODY, RATE, REQUESTS, Parameters, Scenario, number
from headrace_bench.sizes import Size
from headrace_bench.stage import Stage, run_of

#: Messages that the bare client takes at once when it proves what it pushed.
_DRAIN: Final = 1000


class Push(Scenario):
    name = "push"
    note = ScenarioNote(
        title="push, one by one",
        about="One task pushes a job and awaits its confirmation, then the next. All are proved by taking them out.",
        figures={"rate": RATE, "requests": REQUESTS},
    )
    bare = True

    def variants(self, size: Size) -> Sequence[Parameters]:
        return [{"body": body} for body in (BODIES if size.name == "full" else (BODY,))]

    async def push(self, stage: Stage, app: Headrace, count: int, body: int) -> None:
        """Push so many jobs of that size."""
        queue, pad = app.queue(), jobs.padding(body)
        for each in range(count):
            await queue.push(jobs.Work(number=each, pad=pad))

    async def push_bare(self, baseline: Baseline, count: int, pad: str) -> None:
        """The same by a bare client."""
        for each in range(count):
            await baseline.push(jobs.body_of(each, pad))

    async def run(self, stage: Stage, parameters: Parameters) -> Run:
        body = number(parameters, "body", BODY)
        duplicates = 0
        figures: dict[str, float] = {}
        async with stage.app() as app:

            async def push(count: int) -> float:
                nonlocal duplicates
                before = await stage.commands(app)
                began = time.perf_counter()
                await self.push(stage, app, count, body)
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
                await self.push_bare(baseline, count, pad)
                took = time.perf_counter() - began
                await stage.consume_bare(baseline, count, _DRAIN)
                return took

            count, seconds = await stage.sized(push, body)
        return run_of(count, {"rate": count / seconds})
