"""Several worker processes on one queue: do they get in each other's way?"""

import math
import time
from collections.abc import Sequence
from typing import Final

from headrace_bench import jobs
from headrace_bench.results import Run, ScenarioNote
from headrace_bench.scenario import BODY, RATE, Parameters, Scenario, Traits, number
from headrace_bench.sizes import Size
from headrace_bench.stage import Stage, run_of

#: Seconds that one process may be under way before all of them are.
_STARTING: Final = 1.0

#: The share of the jobs that must be left then, so that what is timed means something.
_MEANING: Final = 0.1


class Processes(Scenario):
    name = "processes"
    note = ScenarioNote(
        title="several processes",
        about="Worker processes of ten slots share one queue, from when all are under way until the last job ran.",
        figures={"rate": RATE},
    )
    repeated = False

    def variants(self, size: Size) -> Sequence[Parameters]:
        return [{"processes": each, "body": BODY} for each in ((1, 2, 4) if size.name == "full" else (1, 2))]

    def refuse(self, traits: Traits, parameters: Parameters) -> str:
        return super().refuse(traits, parameters) or ("" if traits.shared else "it cannot be shared by processes")

    async def run(self, stage: Stage, parameters: Parameters) -> Run:
        processes = number(parameters, "processes", 2)
        body = number(parameters, "body", BODY)
        duplicates = 0
        async with stage.app() as app:

            async def pilot(count: int) -> float:
                await stage.push_many(app, jobs.Work, count, body)
                return (await stage.work_off(app, count)).seconds

            alone, seconds = await stage.sized(pilot, body)
            total = math.ceil(processes * alone / seconds * (stage.size.timed + _STARTING))
            await stage.push_many(app, jobs.Work, total, body)
            async with stage.crew(app, total) as crew:
                await crew.start(processes)
                first, began = crew.tallies.ran, time.perf_counter()
                if total - first < _MEANING * total:
                    raise RuntimeError(f"{first:,} of {total:,} jobs had run before all {processes} processes worked")
                await stage.until_run(app, lambda: crew.tallies.ran, total)
                took = time.perf_counter() - began
                await crew.stop()
                duplicates = await stage.prove(app, crew.tallies)
        return run_of(total, {"rate": (total - first) / took}, duplicates)
