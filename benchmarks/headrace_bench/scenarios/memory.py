"""How much memory a worker takes, and a message that waits in the server."""

from collections.abc import Sequence
from typing import Final

from headrace_bench import jobs
from headrace_bench.results import Figure, Run, ScenarioNote
from headrace_bench.scenario import BODY, Parameters, Scenario, number
from headrace_bench.sizes import Size
from headrace_bench.stage import Stage, run_of
from headrace_bench.usage import resident

_MEBIBYTE: Final = 2**20


class Memory(Scenario):
    name = "memory"
    note = ScenarioNote(
        title="memory",
        about="Jobs are pushed while nobody works, then run by a worker in a process of its own, or in the run's "
        "where a backend cannot be shared. The worker's resident memory after them, the server's with them "
        "waiting, and by how much that had grown for each.",
        figures={
            "worker": Figure("MiB", "lower", "worker"),
            "server": Figure("MiB", "lower", "server"),
            "message": Figure("bytes", "lower", "server, for a message"),
        },
    )
    repeated = False

    def variants(self, size: Size) -> Sequence[Parameters]:
        return [{"jobs": 100_000 if size.name == "full" else 5_000, "body": BODY}]

    async def run(self, stage: Stage, parameters: Parameters) -> Run:
        body = number(parameters, "body", BODY)
        async with stage.app() as app:
            total = await stage.affordable(app, number(parameters, "jobs", 5_000), body)
            empty = resident(stage.seat.server)
            await stage.push_many(app, jobs.Work, total, body)
            full = resident(stage.seat.server)
            async with stage.worker(app, total) as worker:
                await stage.until_run(app, lambda: worker.tallies.ran, total)
                taken = resident(worker.pid)
                await worker.stop()
                duplicates = await stage.prove(app, worker.tallies)
        figures = {"worker": (taken or 0) / _MEBIBYTE}
        if empty is not None and full is not None:
            figures |= {"server": full / _MEBIBYTE, "message": (full - empty) / total}
        return run_of(total, figures, duplicates)
