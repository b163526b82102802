"""Two reports: what changed beyond the noise.

A figure has changed if the ranges of its runs do not overlap and its median has moved by more than a threshold. Where
there are few runs, the range says little of the noise, and the threshold is larger.
"""

from dataclasses import dataclass
from typing import Final, Literal

from headrace_bench.results import Figure, Measurement, Report
from headrace_bench.statistics import Spread, lost, spread
from headrace_bench.tables import Cell, Table
from headrace_bench.words import figure, told

#: The share by which a median has to move: what two sessions on one quiet machine differ by.
THRESHOLD: Final = 0.1

#: Runs from which a range tells of the noise, and by how much more a median of fewer has to move.
_ENOUGH: Final = 3
_FEW: Final = 3.0

Verdict = Literal["better", "worse", "lost", "gone"]

#: Those that are losses.
_LOSSES: Final[frozenset[Verdict]] = frozenset({"worse", "lost"})


@dataclass(frozen=True, slots=True)
class Change:
    """One figure, or a whole measurement, that is not what it was."""

    verdict: Verdict
    what: str  #: scenario, parameters, participant
    told: str  #: from what to what

    @property
    def is_loss(self) -> bool:
        return self.verdict in _LOSSES


def compare(old: Report, new: Report, *, threshold: float = THRESHOLD) -> list[Change]:
    """What changed, losses first."""
    there = {_key(each): each for each in new.measurements}
    changes: list[Change] = []
    for before in old.measurements:
        what = f"{before.scenario}, {told(before.parameters)}: {before.participant}".replace(", :", ":")
        after = there.get(_key(before))
        if after is None:
            changes.append(Change("gone", what, "was measured, and is not now"))
        elif (count := lost(after)) and not lost(before):
            changes.append(Change("lost", what, f"LOST {count:,} jobs"))
        else:
            changes += _moved(old, before, after, what, threshold)
    order: list[Verdict] = ["lost", "worse", "gone", "better"]
    return sorted(changes, key=lambda change: order.index(change.verdict))


def _moved(old: Report, before: Measurement, after: Measurement, what: str, threshold: float) -> list[Change]:
    changes = []
    for name, described in old.scenarios[before.scenario].figures.items():
        was, now = spread(before, name), spread(after, name)
        if was is None:
            continue
        if now is None:
            if name == next(iter(old.scenarios[before.scenario].figures)):
                why = next((each.error for each in after.runs if each.error), "no run has a figure")
                changes.append(Change("lost", what, f"{described.title or name}: none any more: {why}"))
        elif (verdict := _verdict(described, was, now, threshold)) is not None:
            share = f" ({now.median / was.median - 1:+.0%})" if was.median else ""
            text = f"{figure(was.median)} to {figure(now.median)} {described.unit}{share}"
            changes.append(Change(verdict, what, f"{described.title or name}: {text}"))
    return changes


def _verdict(described: Figure, was: Spread, now: Spread, threshold: float) -> Verdict | None:
    if was.low <= now.high and now.low <= was.high:
        return None
    limit = threshold * (1.0 if min(was.runs, now.runs) >= _ENOUGH else _FEW)
    if abs(now.median - was.median) <= limit * abs(was.median):
        return None
    return "better" if (now.median > was.median) == (described.better == "higher") else "worse"


def table(changes: list[Change]) -> Table:
    """The changes, for people."""
    rows = [
        [Cell(each.verdict, "bad" if each.is_loss else "text"), Cell(each.what), Cell(each.told)] for each in changes
    ]
    return Table("What changed", "", ["", "", ""], frozenset(), rows)


def _key(measurement: Measurement) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    parameters = tuple(sorted((name, str(value)) for name, value in measurement.parameters.items()))
    return measurement.scenario, measurement.participant, parameters
