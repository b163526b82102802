"""What a job costs beside many others that wait: does anything grow with the backlog?"""

import time
from collections.abc import Sequence
from typing import Final

from headrace_bench import jobs
from headrace_bench.results import Figure, Run, ScenarioNote
from headrace_bench.scenario import BODY, Parameters, Scenario, Unsuitable, number
from headrace_bench.sizes import Size
from headrace_bench.stage import Stage, run_of

#: The share of the backlog that is run, and the least and the most of that: what is measured beside the rest.
_SHARE: Final = 0.2
_LEAST: Final = 500
_MOST: Final = 20_000


class Backlog(Scenario):
    name = "backlog"
    note = ScenarioNote(
        title="backlog",
        about="With so many jobs waiting, some more are pushed, and as many run by one worker. What is left is taken "
        "out afterwards, so that every job of the backlog is proved.",
        figures={
            "cost": Figure("µs/job", "lower", "pushed and run"),
            "consumed": Figure("jobs/s", "higher", "consumed"),
            "pushed": Figure("jobs/s", "higher", "pushed"),
        },
    )
    repeated = False

    def variants(self, size: Size) -> Sequence[Parameters]:
        backlogs = (1_000, 100_000, 1_000_000) if size.name == "full" else (1_000, 10_000)
        return [{"backlog": backlog, "body": BODY} for backlog in backlogs]

    async def run(self, stage: Stage, parameters: Parameters) -> Run:
        backlog = number(parameters, "backlog", 1000)
        body = number(parameters, "body", BODY)
        async with stage.app() as app:
            if await stage.affordable(app, backlog, body) < backlog:
                raise Unsuitable(f"a backlog of {backlog:,} takes longer to fill than a run may last")
            measured = min(_MOST, max(_LEAST, round(backlog * _SHARE)))
            total = backlog + measured
            await stage.push_many(app, jobs.Work, backlog, body)
            pad = jobs.padding(body)
            batch = [jobs.Work(number=each, pad=pad) for each in range(backlog, total)]
            began = time.perf_counter()
            await app.queue().push_many(batch)
            pushing = time.perf_counter() - began
            del batch
            consuming, duplicates = await stage.work_some(app, measured, total)
        figures = {
            "cost": 1e6 * (pushing + consuming) / measured,
            "consumed": measured / consuming,
            "pushed": measured / pushing,
        }
        return run_of(total, figures, duplicates)
