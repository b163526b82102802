"""``kill -9`` of a worker in the midst of its work: what becomes of its jobs, and how soon."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from headrace_bench import jobs
from headrace_bench.results import Figure, Run, ScenarioNote
from headrace_bench.scenario import BODY, Parameters, Scenario, Traits, number
from headrace_bench.sizes import Size
from headrace_bench.stage import LOOK_EVERY, Stage, run_of

#: Seconds of a lease: short, so that it need not be waited for long. What matters is the time beyond it.
LEASE: Final = 2.0

#: Seconds after a lease in which what it held is seen by others.
_MARGIN: Final = 1.0

#: The share of the jobs after which the worker is killed.
_UNTIL_KILLED: Final = 0.3

#: Jobs: enough that the worker holds some when it dies.
_JOBS: Final = 500


class Kill(Scenario):
    name = "kill"
    note = ScenarioNote(
        title="kill -9 of a worker",
        about=f"One of two workers is killed in the midst of its work, with leases of {LEASE:g} s. From the kill until "
        "the last of all jobs ran; duplicates are jobs that had run and were not acked yet.",
        figures={
            "recovery": Figure("s", "lower", "all run after"),
            "repeated": Figure("jobs", "lower", "run twice"),
        },
    )
    repeated = False

    def variants(self, size: Size) -> Sequence[Parameters]:
        return [{"jobs": _JOBS, "body": BODY}]

    def refuse(self, traits: Traits, parameters: Parameters) -> str:
        return super().refuse(traits, parameters) or ("" if traits.shared else "its jobs end with the process")

    async def run(self, stage: Stage, parameters: Parameters) -> Run:
        body = number(parameters, "body", BODY)
        pad = jobs.padding(body)
        async with stage.app(lease_seconds=LEASE) as app:
            total = await stage.affordable(app, number(parameters, "jobs", _JOBS), body)
            async with stage.crew(app, total) as crew:
                await crew.start(2)
                victim = crew.workers[0]
                await app.queue().push_many([jobs.Linger(number=each, pad=pad) for each in range(total)])
                while crew.tallies.ran < _UNTIL_KILLED * total:
                    crew.check()
                    await asyncio.sleep(LOOK_EVERY)
                await crew.kill(victim)
                killed = time.monotonic()
                await stage.until_run(app, lambda: crew.tallies.ran, total)
                ran = time.monotonic()
                # What had run and was not acked comes back too, within a lease.
                await asyncio.sleep(max(0.0, killed + LEASE + _MARGIN - time.monotonic()))
                await stage.until_settled(app)
                await crew.stop()
                duplicates = await stage.prove(app, crew.tallies)
        return run_of(total, {"recovery": ran - killed, "repeated": float(duplicates)}, duplicates)
