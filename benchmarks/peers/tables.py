"""What a session found, as tables: the contenders beside each other, kills, targets."""

from collections.abc import Callable
from typing import Final

from rich import table as terminal
from rich.console import Console
from rich.text import Text

from headrace_bench.results import Measurement, Parameter, Report
from headrace_bench.statistics import lost, spread
from headrace_bench.tables import Cell, Table
from peers.scenarios import NOTES, SCENARIOS
from peers.targets import contradicted, measured, reached

#: The columns of figures: heading, scenario and parameters, figure, and how it is written.
_COLUMNS: Final[list[tuple[str, str, dict[str, Parameter], str, Callable[[float], str]]]] = [
    (heading, each.name, each.parameters, figure, write)
    for heading, at, figure, write in (
        ("push /s", 0, "rate", "{:,.0f}".format),
        ("push_many /s", 1, "rate", "{:,.0f}".format),
        ("consume /s", 2, "rate", "{:,.0f}".format),
        ("by two /s", 3, "rate", "{:,.0f}".format),
        ("p50 ms", 4, "p50", "{:.2f}".format),
        ("p99 ms", 4, "p99", "{:.2f}".format),
    )
    for each in (SCENARIOS[at],)
]

#: What a cell of the terminal's tables looks like.
_STYLES: Final = {"bad": "bold red", "remark": "dim"}


def show(report: Report, console: Console) -> None:
    """Print all of it."""
    for each in tables_of(report):
        _print(each, console)
    for line in remarks(report):
        console.print(line, markup=False)


def tables_of(report: Report) -> list[Table]:
    """One for each broker, one of kills, one of targets, as far as there is something to say."""
    brokers = dict.fromkeys(each.broker for each in report.participants)
    found = [*(_of_broker(report, each) for each in brokers), _of_kills(report), _of_targets(report)]
    return [each for each in found if each.rows]


def remarks(report: Report) -> list[str]:
    """What must be known beside the tables."""
    first = next(iter(NOTES))
    lines = [f"left out: {each.participant}: {each.reason}" for each in report.skipped if each.scenario == first]
    lines += [f"CONTRADICTED: {each}" for each in contradicted(report)]
    disturbed = sum(run.disturbed for each in report.measurements for run in each.runs)
    if disturbed:
        lines.append(
            f"{disturbed} runs were disturbed by other programs; figures are of the others where there are any"
        )
    return lines


def _of_broker(report: Report, broker: str) -> Table:
    rows = []
    for each in report.participants:
        if each.broker == broker:
            cells = [
                _cell(measured(report, scenario, parameters, each.name), figure, write)
                for _, scenario, parameters, figure, write in _COLUMNS
            ]
            rows.append([Cell(each.name), Cell(each.guarantee), *cells])
    headings = ["", "guarantee", *(heading for heading, *_ in _COLUMNS)]
    return Table(f"{broker}: median (lowest to highest)", "", headings, frozenset(range(2, len(headings))), rows)


def _cell(measurement: Measurement | None, figure: str, write: Callable[[float], str]) -> Cell:
    if measurement is None:
        return Cell("", "figure")
    if gone := lost(measurement):
        return Cell(f"LOST {gone}", "bad")
    found = spread(measurement, figure)
    if found is None:
        return Cell("failed", "bad")
    if found.runs == 1:
        return Cell(write(found.median), "figure")
    return Cell(f"{write(found.median)}\n({write(found.low)} to {write(found.high)})", "figure")


def _of_kills(report: Report) -> Table:
    rows = [
        [Cell(each.name), Cell(each.after_kill.replace("; ", ";\n")), Cell(each.settings.get("when killed", ""))]
        for each in report.participants
        if each.after_kill
    ]
    return Table("after kill -9 of the worker", "", ["", "tried", "set shorter for it"], frozenset(), rows)


def _of_targets(report: Report) -> Table:
    rows = [
        [
            Cell(each.broker),
            Cell(each.title),
            Cell(_short(each.ours), "figure"),
            Cell(_short(each.theirs), "figure"),
            Cell(each.best),
            Cell(f"{each.ratio:.2f}", "figure"),
            Cell(each.wanted),
            Cell("met") if each.met else Cell("NOT MET", "bad"),
        ]
        for each in reached(report)
    ]
    headings = ["", "", "headrace", "best of them", "", "ratio", "wanted", ""]
    return Table("targets", "", headings, frozenset({2, 3, 5}), rows)


def _short(figure: float) -> str:
    """A rate, or milliseconds."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"


def _print(found: Table, console: Console) -> None:
    drawn = terminal.Table(title=found.title, title_justify="left", show_lines=not found.figures)
    for place, heading in enumerate(found.columns):
        right = place in found.figures
        drawn.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in found.rows:
        drawn.add_row(*(Text(each.text, style=_STYLES.get(each.kind, "")) for each in row))
    console.print(drawn)
