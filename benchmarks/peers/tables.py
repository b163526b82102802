"""What a session found, as tables for a terminal: the contenders beside each other, kills, targets."""

from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.table import Table

from headrace_bench.results import Measurement, Parameter, Report
from headrace_bench.statistics import lost, spread
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
        ("p50 ms", 4, "p50", "{:.1f}".format),
        ("p99 ms", 4, "p99", "{:.1f}".format),
    )
    for each in (SCENARIOS[at],)
]


def show(report: Report, console: Console) -> None:
    """Print all of it."""
    for broker in dict.fromkeys(each.broker for each in report.participants):
        _show_broker(report, broker, console)
    _show_kills(report, console)
    _show_targets(report, console)
    for skip in report.skipped:
        if skip.scenario == next(iter(NOTES)):
            console.print(f"left out: {skip.participant}: {skip.reason}", markup=False)
    for line in contradicted(report):
        console.print(f"CONTRADICTED: {line}", markup=False)
    disturbed = sum(run.disturbed for each in report.measurements for run in each.runs)
    if disturbed:
        console.print(
            f"{disturbed} runs were disturbed by other programs; figures are of the others where there are any"
        )


def _show_broker(report: Report, broker: str, console: Console) -> None:
    table = Table(title=f"{broker}: median (lowest to highest)", title_justify="left")
    table.add_column("")
    table.add_column("guarantee", overflow="fold")
    for heading, *_ in _COLUMNS:
        table.add_column(heading, justify="right")
    for each in report.participants:
        if each.broker == broker:
            cells = [
                _cell(measured(report, scenario, parameters, each.name), figure, write)
                for _, scenario, parameters, figure, write in _COLUMNS
            ]
            table.add_row(each.name, each.guarantee, *cells)
    console.print(table)


def _cell(measurement: Measurement | None, figure: str, write: Callable[[float], str]) -> str:
    if measurement is None:
        return ""
    if gone := lost(measurement):
        return f"LOST {gone}"
    found = spread(measurement, figure)
    if found is None:
        return "failed"
    if found.runs == 1:
        return write(found.median)
    return f"{write(found.median)}\n({write(found.low)} to {write(found.high)})"


def _show_kills(report: Report, console: Console) -> None:
    tried = [each for each in report.participants if each.after_kill]
    if tried:
        table = Table(title="after kill -9 of the worker", title_justify="left", show_lines=True)
        for heading in ("", "tried", "set shorter for it"):
            table.add_column(heading, overflow="fold")
        for each in tried:
            table.add_row(each.name, each.after_kill.replace("; ", "\n"), each.settings.get("when killed", ""))
        console.print(table)


def _show_targets(report: Report, console: Console) -> None:
    found = reached(report)
    if found:
        table = Table(title="targets", title_justify="left")
        for heading in ("", "", "headrace", "best of them", "", "ratio", "wanted", ""):
            table.add_column(heading)
        for each in found:
            table.add_row(
                each.broker,
                each.title,
                f"{each.ours:,.1f}",
                f"{each.theirs:,.1f}",
                each.best,
                f"{each.ratio:.2f}",
                each.wanted,
                "met" if each.met else "NOT MET",
            )
        console.print(table)
