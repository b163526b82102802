"""A report as tables: the same ones on a terminal and on the page."""

from dataclasses import dataclass
from typing import Final, Literal

from headrace_bench.results import Measurement, Participant, Report
from headrace_bench.statistics import Spread, counting, duplicates, errors, lost, ratio_to_bare, spread
from headrace_bench.words import figure, told

#: How a cell is to be taken: figures stand right, what went wrong stands out.
Kind = Literal["text", "figure", "bad", "remark"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One value."""

    text: str
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Table:
    """Titles and rows. A column of figures has only such cells, or empty ones."""

    title: str
    about: str
    columns: list[str]
    figures: frozenset[int]  #: the columns of figures
    rows: list[list[Cell]]


#: Shown for what was not measured.
_NOTHING: Final = Cell("", "figure")


def of_scenarios(report: Report) -> list[Table]:
    """A table for each scenario that has measurements."""
    return [_of_scenario(report, name) for name in measured_scenarios(report)]


def measured_scenarios(report: Report) -> list[str]:
    """The scenarios that have measurements, in their order."""
    return [name for name in report.scenarios if _measured(report, name)]


def _measured(report: Report, scenario: str) -> list[Measurement]:
    order = {each.name: place for place, each in enumerate(report.participants)}
    found = [each for each in report.measurements if each.scenario == scenario and each.participant in order]
    return sorted(found, key=lambda each: order[each.participant])


def _of_scenario(report: Report, name: str) -> Table:
    note = report.scenarios[name]
    measurements = _measured(report, name)
    shown = [each for each in note.figures if any(each in run.figures for one in measurements for run in one.runs)]
    shown = shown or list(note.figures)[:1]
    main = next(iter(note.figures))
    ratios = {id(each): ratio_to_bare(report, each, main) for each in measurements}
    with_ratios = any(each is not None for each in ratios.values())
    titles = [f"{note.figures[each].title or each}, {note.figures[each].unit}" for each in shown]
    columns = ["", "", titles[0], "lowest to highest", *(["of bare"] if with_ratios else []), *titles[1:], ""]
    rows = []
    for each in measurements:
        spreads = [spread(each, one) for one in shown]
        ratio = ratios[id(each)]
        first, *others = _figures(each, spreads)
        share = [_NOTHING if ratio is None else Cell(f"{ratio:.2f}", "figure")] if with_ratios else []
        rows.append(
            [
                Cell(each.participant),
                Cell(told(each.parameters)),
                first,
                _range(each, spreads[0]),
                *share,
                *others,
                _remarks(each),
            ]
        )
    figures = frozenset(range(2, len(columns) - 1))
    return Table(note.title, note.about, columns, figures, rows)


def _figures(measurement: Measurement, spreads: list[Spread | None]) -> list[Cell]:
    count = lost(measurement)
    if count:
        return [Cell(f"LOST {count:,}", "bad"), *[_NOTHING] * (len(spreads) - 1)]
    return [_NOTHING if each is None else Cell(figure(each.median), "figure") for each in spreads]


def _range(measurement: Measurement, found: Spread | None) -> Cell:
    if found is None or found.runs == 1 or lost(measurement):
        return _NOTHING
    return Cell(f"{figure(found.low)} to {figure(found.high)}", "figure")


def _remarks(measurement: Measurement) -> Cell:
    remarks = []
    if twice := duplicates(measurement):
        remarks.append(f"{twice:,} run twice")
    disturbed = sum(each.disturbed for each in measurement.runs)
    if disturbed:
        left_out = len(counting(measurement.runs)) < len([each for each in measurement.runs if each.figures])
        remarks.append(f"{disturbed} of {len(measurement.runs)} disturbed{', left out' if left_out else ''}")
    if not measurement.complete:
        remarks.append("incomplete")
    failed = errors(measurement)
    remarks += failed
    return Cell("; ".join(remarks), "bad" if failed else "remark")


def of_participants(report: Report) -> Table:
    """Who took part, and what each promises."""
    return Table(
        "Who was measured",
        "",
        ["", "guarantee", "safe once pushed", "after a kill -9 of the worker", "cannot", "versions and settings"],
        frozenset(),
        [_described(each) for each in report.participants],
    )


def _described(participant: Participant) -> list[Cell]:
    pairs = {**participant.versions, **participant.settings}
    return [
        Cell(participant.name),
        Cell(participant.guarantee),
        Cell(participant.durability),
        Cell(participant.after_kill or "not tried", "text" if participant.after_kill else "remark"),
        Cell(", ".join(participant.lacks)),
        Cell("; ".join(f"{name} {value}" for name, value in pairs.items())),
    ]


def of_skips(report: Report) -> Table:
    """What was not measured."""
    rows = [
        [Cell(each.participant), Cell(f"{each.scenario} {told(each.parameters)}".strip()), Cell(each.reason)]
        for each in report.skipped
    ]
    return Table("What was not measured", "", ["", "", "why"], frozenset(), rows)
