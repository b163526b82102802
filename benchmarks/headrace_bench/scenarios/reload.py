"""Moving all that failed back to waiting: after an outage, with everybody watching."""

import time
from collections.abc import Sequence
from typing import Final

from headrace_bench import jobs
from headrace_bench.results import Run, ScenarioNote
from headrace_bench.scenario import BODY, RATE, Parameters, Scenario, number
from headrace_bench.sizes import Size
from headrace_bench.stage import Stage, run_of

#: How many failed jobs a full session reloads at once: a bad night.
_MANY: Final = 100_000


class Reload(Scenario):
    name = "reload"
    note = ScenarioNote(
        title="reload of many",
        about="What failed is moved back to waiting by one call. All of it is taken out afterwards, proved by its ids.",
        figures={"rate": RATE},
    )
    repeated = False

    def variants(self, size: Size) -> Sequence[Parameters]:
        return [{"jobs": _MANY if size.name == "full" else 2000, "body": BODY}]

    async def run(self, stage: Stage, parameters: Parameters) -> Run:
        body = number(parameters, "body", BODY)
        async with stage.app() as app:
            count = await stage.affordable(app, number(parameters, "jobs", _MANY), body)
            await stage.push_many(app, jobs.Work, count, body)
            await stage.fail(app, count)
            began = time.perf_counter()
            moved = 0
            while moved < count and (now := await app.queue().reload("failed")):
                moved += now
            took = time.perf_counter() - began
            duplicates = await stage.drain(app, count)
        return run_of(count, {"rate": count / took}, duplicates)
