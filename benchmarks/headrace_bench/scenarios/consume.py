"""Running jobs that wait: one worker, from its start until everything is acked."""

from collections.abc import Sequence
from typing import Final

from headrace_bench import jobs
from headrace_bench.results import Run, ScenarioNote
from headrace_bench.scenario import BODIES, BODY, RATE, REQUESTS, Parameters, Scenario, Traits, number
from headrace_bench.sizes import Size
from headrace_bench.stage import Stage, run_of

#: How many messages the bare client takes and acks at once, by the name of the way.
ACKS: Final = {"batch": 100, "each": 1}

#: How many handlers run at once: one by one, headrace's default, and a service that waits for others.
CONCURRENCIES: Final = (1, 10, 100)


class Consume(Scenario):
    name = "consume"
    note = ScenarioNote(
        title="consume",
        about="One worker process runs what waits, handlers that do nothing, from its start until the last ack. "
        "The bare client takes and acks in batches, and one by one.",
        figures={"rate": RATE, "requests": REQUESTS},
    )
    bare = True

    def variants(self, size: Size) -> Sequence[Parameters]:
        full = size.name == "full"
        ways: list[Parameters] = [{"handler": "async", "concurrency": each, "body": BODY} for each in CONCURRENCIES]
        ways += [{"handler": "sync", "concurrency": each, "body": BODY} for each in (CONCURRENCIES if full else (10,))]
        if full:
            ways += [{"handler": "async", "concurrency": 10, "body": each} for each in BODIES if each != BODY]
        bodies = sorted({int(each["body"]) for each in ways})
        bare: list[Parameters] = [{"acks": acks, "body": body} for acks in ACKS for body in bodies]
        return [*ways, *bare]

    def refuse(self, traits: Traits, parameters: Parameters) -> str:
        if traits.bare != ("acks" in parameters):
            return "not its way"
        return super().refuse(traits, parameters)

    async def run(self, stage: Stage, parameters: Parameters) -> Run:
        body = number(parameters, "body", BODY)
        concurrency = number(parameters, "concurrency", 10)
        kind = jobs.WorkInThread if parameters.get("handler") == "sync" else jobs.Work
        figures: dict[str, float] = {}
        duplicates = 0
        async with stage.app() as app:

            async def consume(count: int) -> float:
                nonlocal duplicates
                await stage.push_many(app, kind, count, body)
                before = await stage.commands(app)
                worked = await stage.work_off(app, count, concurrency=concurrency)
                duplicates = worked.duplicates
                after = await stage.commands(app)
                if before is not None and after is not None:
                    figures["requests"] = (after - before) / count
                return worked.seconds

            count, seconds = await stage.sized(consume, body)
        return run_of(count, {"rate": count / seconds, **figures}, duplicates)

    async def run_bare(self, stage: Stage, parameters: Parameters) -> Run:
        body = number(parameters, "body", BODY)
        batch = ACKS[str(parameters["acks"])]
        async with stage.baseline() as baseline:
            pad = jobs.padding(body)

            async def consume(count: int) -> float:
                await baseline.push_many([jobs.body_of(each, pad) for each in range(count)])
                return await stage.consume_bare(baseline, count, batch)

            count, seconds = await stage.sized(consume, body)
        return run_of(count, {"rate": count / seconds})
