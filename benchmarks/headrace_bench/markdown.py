"""A report as Markdown: for a repository, whose readers see it without opening anything."""

from collections.abc import Iterable
from typing import Final

from headrace_bench import choosing, tables
from headrace_bench.results import Report
from headrace_bench.tables import Cell, Kind, Table

#: How what went wrong, and what is only a remark, stand out.
_MARKS: Final[dict[Kind, str]] = {"bad": "**", "remark": "_"}


def render(report: Report, charts: dict[str, str]) -> str:
    """The tables, each under a heading of the second level. ``charts``: where each scenario's picture is, by name."""
    parts = [] if report.question is None else [table(choosing.answer(report, report.question))]
    parts.append(table(tables.of_participants(report)))
    for name, each in zip(tables.measured_scenarios(report), tables.of_scenarios(report), strict=True):
        parts.append(table(each, charts.get(name, "")))
    if report.skipped:
        parts.append(table(tables.of_skips(report)))
    return "\n".join(parts)


def table(found: Table, chart: str = "") -> str:
    """One table, with what it is about, and its picture."""
    lines = [f"## {found.title}", ""]
    if found.about:
        lines += [found.about, ""]
    if chart:
        lines += [f"![{found.title}]({chart})", ""]
    marks = ("---:" if place in found.figures else "---" for place in range(len(found.columns)))
    lines += [_row(map(_escaped, found.columns)), _row(marks)]
    lines += [_row(map(_cell, row)) for row in found.rows]
    return "\n".join([*lines, ""])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    mark = _MARKS.get(cell.kind, "") if cell.text else ""
    return f"{mark}{_escaped(cell.text)}{mark}"


def _escaped(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
