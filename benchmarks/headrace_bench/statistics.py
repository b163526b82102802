"""What is computed from runs: medians with their ranges, ratios to the bare client, percentiles."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from headrace_bench.results import Measurement, Report, Run

#: The percentiles that a run keeps of its latencies: close together where tails are told apart.
PERCENTS: Final = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 100.0)


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several runs."""

    median: float
    low: float
    high: float
    runs: int
    disturbed: int  #: how many runs were left out since something disturbed them; if all were, none is left out


def counting(runs: Iterable[Run]) -> list[Run]:
    """The runs that figures are taken from: those that proved something, and, if there are any, undisturbed ones."""
    proved = [each for each in runs if each.figures]
    return [each for each in proved if not each.disturbed] or proved


def spread(measurement: Measurement, figure: str) -> Spread | None:
    """A figure's median, lowest and highest; ``None`` if no run has it."""
    runs = [each for each in counting(measurement.runs) if figure in each.figures]
    if not runs:
        return None
    values = [each.figures[figure] for each in runs]
    return Spread(
        statistics.median(values), min(values), max(values), len(runs), sum(each.disturbed for each in measurement.runs)
    )


def lost(measurement: Measurement) -> int:
    """Jobs lost in all runs together. One is enough to void the measurement's figures."""
    return sum(each.lost for each in measurement.runs)


def duplicates(measurement: Measurement) -> int:
    """Runs of jobs beyond the first of each, in all runs together."""
    return sum(each.duplicates for each in measurement.runs)


def errors(measurement: Measurement) -> list[str]:
    """Why runs have no figures, each reason once."""
    return list(dict.fromkeys(each.error for each in measurement.runs if each.error))


def ratio_to_bare(report: Report, measurement: Measurement, figure: str) -> float | None:
    """The median, over rounds, of a figure divided by the bare client's in the same round.

    The bare client may have several ways to do the same, such as acks in batches and one by one: its best one
    counts. ``None`` where there is no bare client, or none of its runs is of the same round and body.
    """
    bare = next((each.bare for each in report.participants if each.name == measurement.participant), "")
    ratios = [
        ratio
        for each in report.measurements
        if bare
        and each.participant == bare
        and each.scenario == measurement.scenario
        and each.parameters.get("body") == measurement.parameters.get("body")
        and (ratio := _ratio(measurement, each, figure)) is not None
    ]
    return min(ratios, default=None)


def _ratio(ours: Measurement, theirs: Measurement, figure: str) -> float | None:
    below = {each.round: each.figures[figure] for each in theirs.runs if each.figures.get(figure)}
    pairs = [
        (each.figures[figure], below[each.round])
        for each in ours.runs
        if figure in each.figures and each.round in below
    ]
    return statistics.median(above / under for above, under in pairs) if pairs else None


def percentiles(values: Sequence[float]) -> list[tuple[float, float]]:
    """`PERCENTS` of some values, by the nearest rank: each is a value that was measured."""
    ordered = sorted(values)
    at = _nearest_rank(len(ordered))
    return [(percent, ordered[at(percent)]) for percent in PERCENTS] if ordered else []


def percentile(values: Sequence[float], percent: float) -> float:
    """One percentile, by the nearest rank."""
    return sorted(values)[_nearest_rank(len(values))(percent)]


def _nearest_rank(count: int) -> Callable[[float], int]:
    return lambda percent: min(count - 1, max(0, -int(-percent * count // 100) - 1))
