"""The paths of failure: jobs that raise and run again, and jobs that raise and rest."""

from collections.abc import Sequence

from headrace_bench import jobs
from headrace_bench.results import Run, ScenarioNote
from headrace_bench.scenario import BODY, RATE, Parameters, Scenario, number
from headrace_bench.sizes import Size
from headrace_bench.stage import Stage, run_of


class RetryAndFail(Scenario):
    name = "retry"
    note = ScenarioNote(
        title="retry and fail",
        about="Every job raises. On the path 'retry' it does so once, is run again at once, and ends well: both "
        "runs are in the time. On the path 'fail' it goes to failed, with its traceback.",
        figures={"rate": RATE},
    )
    repeated = False

    def variants(self, size: Size) -> Sequence[Parameters]:
        return [{"path": "retry", "body": BODY}, {"path": "fail", "body": BODY}]

    async def run(self, stage: Stage, parameters: Parameters) -> Run:
        body = number(parameters, "body", BODY)
        fails = parameters["path"] == "fail"
        duplicates = 0

        async def work(count: int) -> float:
            nonlocal duplicates
            async with stage.app() as app:  # a queue for each, as what failed rests there
                await stage.push_many(app, jobs.Fall if fails else jobs.Stumble, count, body)
                worked = await stage.work_off(app, count, resting=count if fails else 0)
            duplicates = worked.duplicates
            return worked.seconds

        count, seconds = await stage.sized(work, body)
        return run_of(count, {"rate": count / seconds}, duplicates)
