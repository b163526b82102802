"""A report as one HTML page that needs nothing else: tables, and the charts within it."""

import base64
import html
import time
from collections.abc import Iterable, Sequence
from typing import Final

from headrace_bench import choosing, tables
from headrace_bench.charts import Chart
from headrace_bench.results import Report
from headrace_bench.tables import Cell, Table

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; color: #111; background: #fff; max-width: 72rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; font-size: .88rem; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th.figure, td.figure { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.bad { color: #b33a00; font-weight: 600; } td.remark, p.about { color: #555; }
img { max-width: 100%; height: auto; margin: .8rem 0; }
p.warning { border-left: 4px solid #d55e00; padding: .4rem .8rem; background: #fff4ec; }
"""

#: What a reader must know of every figure.
_METHOD: Final = (
    "Every run is proved by ids: each job ran at least once and nothing was left over; what lost a job shows LOST in "
    "place of a figure. Participants take turns. Figures are medians, with the lowest and the highest run; a fixed "
    "piece of work beside each run tells whether something disturbed the machine, and runs that were are left out "
    "where there are others. Ratios are to the bare client of the same round. Compare figures of one report only."
)


def render(report: Report, charts: Sequence[Chart]) -> str:
    """The page."""
    drawn = {each.scenario: each for each in charts}
    parts = [_head(report)]
    if report.question is not None:
        parts.append(_table(choosing.answer(report, report.question)))
    parts.append(_table(tables.of_participants(report)))
    for name, table in zip(tables.measured_scenarios(report), tables.of_scenarios(report), strict=True):
        parts.append(_table(table, drawn.get(name)))
    if report.skipped:
        parts.append(_table(tables.of_skips(report)))
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _head(report: Report) -> str:
    machine = report.machine
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(report.began))
    place = (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB; {machine.kernel}; {machine.python}. "
        f"{when}, {report.size}, {report.seconds:.0f} s."
    )
    warning = "" if report.complete else f'<p class="warning">Incomplete: {html.escape(report.ended or "ended")}</p>'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>headrace bench</title><style>{_STYLE}</style></head><body>"
        f"<h1>headrace bench</h1><p>{html.escape(place)}</p>{warning}"
        f'<p class="about">{html.escape(_METHOD)}</p>'
    )


def _table(table: Table, chart: Chart | None = None) -> str:
    heads = "".join(
        f'<th class="{"figure" if place in table.figures else ""}">{html.escape(title)}</th>'
        for place, title in enumerate(table.columns)
    )
    about = f'<p class="about">{html.escape(table.about)}</p>' if table.about else ""
    image = ""
    if chart is not None:
        data = base64.b64encode(chart.svg).decode()
        words = html.escape(f"{chart.title}: the figures of the table as a chart")
        image = f'<img alt="{words}" src="data:image/svg+xml;base64,{data}">'
    return (
        f"<h2>{html.escape(table.title)}</h2>{about}{image}"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{_rows(table.rows)}</tbody></table>"
    )


def _rows(rows: Iterable[Sequence[Cell]]) -> str:
    cells = ("".join(f'<td class="{each.kind}">{html.escape(each.text)}</td>' for each in row) for row in rows)
    return "".join(f"<tr>{each}</tr>" for each in cells)
