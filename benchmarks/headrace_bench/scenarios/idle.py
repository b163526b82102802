"""What a worker costs that has nothing to do, most of any worker's life."""

import asyncio
from collections.abc import Sequence
from typing import Final

from headrace_bench import jobs
from headrace_bench.results import Figure, Run, ScenarioNote
from headrace_bench.scenario import BODY, Parameters, Scenario
from headrace_bench.sizes import Size
from headrace_bench.stage import Stage, run_of
from headrace_bench.usage import processor_seconds

#: Jobs that run before: a worker that never had any may not have connected yet.
_WARMING: Final = 10

#: Seconds until what running them has set in motion has come to rest.
_SETTLING: Final = 1.5


class Idle(Scenario):
    name = "idle"
    note = ScenarioNote(
        title="idle cost",
        about="A worker that has run some jobs waits for more, in a process of its own, or in the run's where the "
        "backend cannot be shared or counts its requests itself. Its commands, as broker or backend count them.",
        figures={
            "worker": Figure("% of a CPU", "lower", "worker"),
            "server": Figure("% of a CPU", "lower", "server"),
            "commands": Figure("commands/s", "lower"),
        },
    )
    repeated = False

    def variants(self, size: Size) -> Sequence[Parameters]:
        return [{}]

    async def run(self, stage: Stage, parameters: Parameters) -> Run:
        seconds = stage.size.watched
        figures: dict[str, float] = {}
        async with (
            stage.app() as app,
            stage.worker(app, _WARMING, here=await stage.counts_itself(app)) as worker,
        ):
            await stage.push_many(app, jobs.Work, _WARMING, BODY)
            await stage.until_run(app, lambda: worker.tallies.ran, _WARMING)
            await asyncio.sleep(_SETTLING)
            commands = await stage.commands(app)
            before = [processor_seconds(pid) for pid in (worker.pid, stage.seat.server)]
            await asyncio.sleep(seconds)
            after = [processor_seconds(pid) for pid in (worker.pid, stage.seat.server)]
            commands_after = await stage.commands(app)
            for name, was, now in zip(("worker", "server"), before, after, strict=True):
                if was is not None and now is not None:
                    figures[name] = 100 * (now - was) / seconds
            if commands is not None and commands_after is not None:
                figures["commands"] = (commands_after - commands) / seconds
            await worker.stop()
            duplicates = await stage.prove(app, worker.tallies)
        return run_of(_WARMING, figures, duplicates)
