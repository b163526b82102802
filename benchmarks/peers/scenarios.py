"""What is measured, in the words of a report."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from headrace_bench.results import Figure, Parameter, Run, ScenarioNote
from peers.killing import KILLS, SLOW
from peers.measuring import RATE, Bench

_PER_SECOND: Final = {"rate": Figure("jobs/s", "higher", "jobs a second")}

#: By name, as in a report.
NOTES: Final = {
    "push": ScenarioNote(
        "Push one by one",
        "One process, each push awaited before the next, for a fixed time. Proved by the broker's own count.",
        _PER_SECOND,
    ),
    "push_many": ScenarioNote(
        "Push in bulk",
        "One process, with the library's call for many; else 100 calls at once, or one by one where it blocks.",
        _PER_SECOND,
    ),
    "consume": ScenarioNote(
        "Consume",
        "Workers with a backlog: starts of jobs a second while all are at work. Proved by ids, and by an empty broker.",
        _PER_SECOND,
    ),
    "latency": ScenarioNote(
        "Latency",
        "From just before the push to the start of the job in another process, at a fixed rate; stalls count.",
        {
            "p50": Figure("ms", "lower", "p50"),
            "p99": Figure("ms", "lower", "p99"),
            "max": Figure("ms", "lower", "longest"),
        },
    ),
    "kill": ScenarioNote(
        "kill -9",
        f"Slow: one kill with jobs of {SLOW:g} s running. Busy: {KILLS} kills amidst jobs that take no time. A new "
        "worker starts at once; recovered is when the last job had started.",
        {"recovered": Figure("s", "lower", "recovered after")},
    ),
}


@dataclass(frozen=True)
class Scenario:
    """One that contenders take turns at."""

    name: str  #: in `NOTES`
    parameters: dict[str, Parameter]
    run: Callable[[Bench], Run]


#: In the order in which a contender does them.
SCENARIOS: Final = (
    Scenario("push", {}, lambda bench: bench.push(bulk=False)),
    Scenario("push_many", {}, lambda bench: bench.push(bulk=True)),
    Scenario("consume", {"processes": 1}, lambda bench: bench.consume(1)),
    Scenario("consume", {"processes": 2}, lambda bench: bench.consume(2)),
    Scenario("latency", {"rate": RATE}, Bench.latency),
)
