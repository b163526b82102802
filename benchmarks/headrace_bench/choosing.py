"""For who chooses: what each backend has to say to one rate and one size of body."""

from typing import Final

from headrace_bench.results import Measurement, Participant, Question, Report
from headrace_bench.scenario import Parameters, Scenario
from headrace_bench.scenarios import find
from headrace_bench.statistics import lost, spread
from headrace_bench.tables import Cell, Table
from headrace_bench.words import figure, size_of

#: Per cent of a rate that has to be reached: the last job's latency belongs to the time, too.
_HELD: Final = 98.0

#: Milliseconds of p99 above which a rate is not held, whatever was reached: a queue that grows.
_LATE: Final = 1000.0

#: Jobs of the run in which a worker is killed.
_KILLED_JOBS: Final = 500


def scenarios(question: Question) -> list[tuple[Scenario, list[Parameters]]]:
    """What has to be measured for an answer."""
    return [
        (find("latency"), [{"rate": question.rate, "body": question.body}]),
        (find("push"), [{"body": question.body}]),
        (find("consume"), [{"handler": "async", "concurrency": 10, "body": question.body}]),
        (find("kill"), [{"jobs": _KILLED_JOBS, "body": question.body}]),
        (find("idle"), [{}]),
    ]


def answer(report: Report, question: Question) -> Table:
    """A row for each backend."""
    rows = [_row(report, each.name, question) for each in report.participants if each.kind != "bare"]
    about = (
        f"{question.rate:g} jobs a second of {size_of(question.body)}, to one worker of ten slots. Headroom: how many "
        "times that rate one worker runs where jobs wait. Requests for a job: pushed one by one, taken and acked."
    )
    columns = [
        *("", f"holds {question.rate:g}/s", "headroom", "p99, ms", "after a kill -9 of the worker"),
        *("idle worker, % of a CPU", "idle, commands/s", "requests/job", "cannot"),
    ]
    return Table("Which backend?", about, columns, frozenset({2, 3, 5, 6, 7}), rows)


def _row(report: Report, participant: str, question: Question) -> list[Cell]:
    found = {each.scenario: each for each in report.measurements if each.participant == participant and each.runs}
    described = next(each for each in report.participants if each.name == participant)
    rate = _median(found.get("consume"), "rate")
    requests = [_median(found.get(name), "requests") for name in ("push", "consume")]
    return [
        Cell(participant),
        _holds(found.get("latency")),
        Cell(f"{rate / question.rate:.1f} x" if rate else "", "figure"),
        _figure(_median(found.get("latency"), "p99")),
        _after_kill(report, described),
        _figure(_median(found.get("idle"), "worker")),
        _figure(_median(found.get("idle"), "commands")),
        _figure(sum(each for each in requests if each is not None) if None not in requests else None),
        Cell(", ".join(described.lacks) or "nothing of what was asked"),
    ]


def _after_kill(report: Report, participant: Participant) -> Cell:
    if participant.after_kill:
        return Cell(participant.after_kill)
    skips = [each for each in report.skipped if (each.scenario, each.participant) == ("kill", participant.name)]
    return Cell(skips[0].reason, "bad") if skips else Cell("not tried", "remark")


def _holds(latency: Measurement | None) -> Cell:
    if latency is None:
        return Cell("not measured", "bad")
    if count := lost(latency):
        return Cell(f"LOST {count:,}", "bad")
    held, late = _median(latency, "held"), _median(latency, "p99")
    if held is None or late is None:
        return Cell(next((each.error for each in latency.runs if each.error), "not measured"), "bad")
    if held >= _HELD and late <= _LATE:
        return Cell("yes")
    return Cell(f"no: {held:.0f} % of it", "bad")


def _median(measurement: Measurement | None, name: str) -> float | None:
    if measurement is None or lost(measurement):
        return None
    found = spread(measurement, name)
    return None if found is None else found.median


def _figure(value: float | None) -> Cell:
    return Cell("" if value is None else figure(value), "figure")
