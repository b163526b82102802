"""What headrace is to reach beside the others, and what it reached: ratios of one session.

Each compares medians over the rounds, of headrace with the best of some contenders that were there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from headrace_bench.results import Measurement, Parameter, Report
from headrace_bench.statistics import spread
from peers.contenders import CONTENDERS, Broker, Contender


@dataclass(frozen=True)
class Target:
    """One ratio."""

    title: str
    broker: Broker
    scenario: str
    parameters: dict[str, Parameter]
    figure: str
    among: Callable[[Contender], bool]  #: who is compared
    at_least: float = 0.0  #: headrace's figure, divided by the best one's
    at_most: float = 0.0  #: the same, of figures that are better when lower


def _python(contender: Contender) -> bool:
    return not contender.ours and contender.library != "bullmq"


def _equal_python(contender: Contender) -> bool:
    return _python(contender) and contender.equal


def _other(contender: Contender) -> bool:
    return not contender.ours


_ONE: Final[dict[str, Parameter]] = {"processes": 1}
_TWO: Final[dict[str, Parameter]] = {"processes": 2}

TARGETS: Final = (
    Target("consume, fastest Python of equal guarantee", "redis", "consume", _ONE, "rate", _equal_python, 15),
    Target("consume, BullMQ", "redis", "consume", _ONE, "rate", lambda each: each.library == "bullmq", 2.5),
    Target("push_many, fastest Python", "redis", "push_many", {}, "rate", _python, 5),
    Target("consume, fastest Python of equal guarantee", "rabbitmq", "consume", _ONE, "rate", _equal_python, 2),
    Target("consume, Huey", "sqlite", "consume", _ONE, "rate", lambda each: each.name == "huey sqlite", 9),
    *(
        Target("latency p50, best", broker, "latency", {"rate": 100.0}, "p50", _other, at_most=1)
        for broker in ("redis", "rabbitmq", "sqlite")
    ),
)

#: What two processes are to do, as a multiple of one.
TWO_OF_ONE: Final = 1.7


@dataclass(frozen=True)
class Reached:
    """How a target stands."""

    title: str
    broker: str
    ours: float
    theirs: float
    best: str  #: whose figure that is
    wanted: str
    met: bool

    @property
    def ratio(self) -> float:
        """headrace's figure divided by the other's."""
        return self.ours / self.theirs


def reached(report: Report) -> list[Reached]:
    """Every target for which both sides were measured."""
    found = [_compared(report, target) for target in TARGETS]
    for broker in ("redis", "rabbitmq", "sqlite"):
        ours = f"headrace {broker}"
        one, two = (_median(report, "consume", parameters, "rate", ours) for parameters in (_ONE, _TWO))
        if one and two:
            met = two >= TWO_OF_ONE * one
            found.append(Reached("consume, two processes", broker, two, one, "one process", f"≥ {TWO_OF_ONE}", met))
    return [each for each in found if each is not None]


def _compared(report: Report, target: Target) -> Reached | None:
    ours = _median(report, target.scenario, target.parameters, target.figure, f"headrace {target.broker}")
    others = {
        each.name: figure
        for each in CONTENDERS
        if each.broker == target.broker
        and target.among(each)
        and (figure := _median(report, target.scenario, target.parameters, target.figure, each.name))
    }
    if not ours or not others:
        return None
    if target.at_most:
        best = min(others, key=lambda name: others[name])
        wanted, met = f"≤ {target.at_most:g}", ours <= target.at_most * others[best]
    else:
        best = max(others, key=lambda name: others[name])
        wanted, met = f"≥ {target.at_least:g}", ours >= target.at_least * others[best]
    return Reached(target.title, target.broker, ours, others[best], best, wanted, met)


def measured(report: Report, scenario: str, parameters: dict[str, Parameter], name: str) -> Measurement | None:
    """A contender's measurement, if there is one."""
    return next(
        (
            each
            for each in report.measurements
            if (each.scenario, each.parameters, each.participant) == (scenario, parameters, name)
        ),
        None,
    )


def _median(report: Report, scenario: str, parameters: dict[str, Parameter], figure: str, name: str) -> float | None:
    measurement = measured(report, scenario, parameters, name)
    found = spread(measurement, figure) if measurement else None
    return found.median if found else None


def contradicted(report: Report) -> Sequence[str]:
    """Contenders whose guarantee is said to equal headrace's, and that lost jobs when killed."""
    equal = {each.name for each in CONTENDERS if each.equal}
    return [
        f"{each.participant} lost {sum(run.lost for run in each.runs)} jobs in its kill trial"
        for each in report.measurements
        if each.scenario == "kill" and each.participant in equal and any(run.lost for run in each.runs)
    ]
