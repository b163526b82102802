"""Charts of a report, by matplotlib: bars with error marks, percentile curves, cost against backlog.

Colours are Okabe and Ito's, which people tell apart whatever colours they see; and nothing is told by colour alone:
bars have their names beside them, and lines have markers of their own. The guarantee stands beside each name, since a
queue that may lose jobs has less to do.
"""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from headrace_bench.results import Kind, Measurement, Report
from headrace_bench.statistics import counting, lost, spread
from headrace_bench.words import figure, told

#: Okabe and Ito, "Color Universal Design" (2008), without yellow, which is pale on white.
_BLUE: Final = "#0072B2"
_ORANGE: Final = "#E69F00"
_GREY: Final = "#999999"
_VERMILION: Final = "#D55E00"
_PALETTE: Final = (_BLUE, _ORANGE, "#009E73", "#CC79A7", "#56B4E9", _VERMILION, "#000000", _GREY)
_MARKERS: Final = "osD^vPX*"

#: For those after the first eight.
_STYLES: Final = ("solid", "dashed", "dotted")

#: What a bar is of.
_KINDS: Final[Mapping[Kind, tuple[str, str]]] = {
    "backend": (_BLUE, "headrace"),
    "bare": (_GREY, "bare client"),
    "peer": (_ORANGE, "others"),
}

#: Inches.
_WIDTH: Final = 9.0
_BAR: Final = 0.42
_HEAD: Final = 1.3
_PANEL: Final = 3.6
_LEGEND: Final = 0.4  #: for each line

#: How many times the shortest bar the longest may be; beyond that the short ones are seen on a log axis only.
_FAR: Final = 50.0

#: Points; below this, figures cannot be read on a page.
_SMALL: Final = 8.5

#: Scenarios that have a chart of their own kind.
_PERCENTILES: Final = ("latency", "delay")
_BACKLOG: Final = "backlog"

#: Percentiles that an axis of nines shows.
_TICKS: Final = (50.0, 90.0, 99.0, 99.9)

#: Where the last percentile, of 100, is drawn: an axis of nines has no place for it.
_LAST: Final = 99.95


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart, in two forms."""

    name: str  #: for files
    title: str
    scenario: str
    png: bytes
    svg: bytes


def draw(report: Report) -> list[Chart]:
    """A chart for each scenario that has something to show."""
    charts = []
    for name, note in report.scenarios.items():
        measured = [
            each for each in report.measurements if each.scenario == name and (counting(each.runs) or lost(each))
        ]
        if not measured:
            continue
        if name in _PERCENTILES:
            drawn = _percentiles(report, name, measured)
        elif name == _BACKLOG:
            drawn = _backlog(report, measured)
        else:
            drawn = _bars(report, name, measured)
        charts.append(Chart(name, note.title, name, _saved(drawn, "png"), _saved(drawn, "svg")))
    return charts


def write(charts: Iterable[Chart], folder: Path) -> None:
    """Each chart as PNG and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in charts:
        (folder / f"{each.name}.png").write_bytes(each.png)
        (folder / f"{each.name}.svg").write_bytes(each.svg)


def _saved(drawn: Figure, form: str) -> bytes:
    buffer = io.BytesIO()
    # Without a date, so that one report makes one chart.
    drawn.savefig(buffer, format=form, dpi=144, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()


def _new(report: Report, scenario: str, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    drawn = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = drawn.subplots(panels, 1, squeeze=False)[:, 0]
    machine = report.machine
    drawn.suptitle(report.scenarios[scenario].title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    drawn.supxlabel(
        f"{machine.cpu}, {machine.cores} cores; {machine.python}; {report.size}"
        + ("" if report.complete else "; INCOMPLETE"),
        fontsize=_SMALL - 1,
        color="#555555",
        x=0.01,
        ha="left",
    )
    return drawn, list(axes)


# Bars


def _bars(report: Report, scenario: str, measured: Sequence[Measurement]) -> Figure:
    """A panel for each set of parameters, a bar for each participant: its median, with marks from lowest to highest."""
    panels = _panels(report, measured)
    heights = [len(each) for each in panels.values()]
    drawn, axes = _new(report, scenario, _HEAD + _BAR * sum(heights) + 0.75 * len(panels), len(panels))
    grid = axes[0].get_gridspec()
    if grid is not None:
        grid.set_height_ratios([count + 1 for count in heights])
    name, described = next(iter(report.scenarios[scenario].figures.items()))
    spreads = [found for each in measured if (found := spread(each, name))]
    largest = max((each.high for each in spreads), default=1.0)
    smallest = min((each.low for each in spreads if each.low > 0), default=largest)
    far_apart = largest > _FAR * smallest
    kinds: dict[str, Kind] = {each.name: each.kind for each in report.participants}
    for axis, (title, bars) in zip(axes, panels.items(), strict=True):
        axis.set_title(title, fontsize=10, loc="left")
        for place, (_, each) in enumerate(bars):
            _bar(axis, place, each, name, kinds[each.participant])
        axis.set_yticks(range(len(bars)), [label for label, _ in bars], fontsize=_SMALL)
        axis.set_ylim(len(bars) - 0.4, -0.6)  # the first one on top
        if far_apart:
            axis.set_xscale("log")
            axis.set_xlim(10 ** math.floor(math.log10(smallest) - 0.3), largest * 8)
        else:
            axis.set_xlim(0, largest * 1.28 or 1.0)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.tick_params(axis="x", labelsize=_SMALL)
        axis.grid(axis="x", color="#dddddd", linewidth=0.7)
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
    unit = f"{described.title or name}, {described.unit}"
    better = "more" if described.better == "higher" else "less"
    scale = "; each line is ten times the one before" if far_apart else ""
    explained = f"bars: medians, marks: lowest to highest run{scale}"
    axes[-1].set_xlabel(f"{unit}; {better} is better\n{explained}", fontsize=_SMALL, loc="left")
    return drawn


def _bar(axis: Axes, place: int, each: Measurement, name: str, kind: Kind) -> None:
    found = spread(each, name)
    if found is None or lost(each):
        text = f"LOST {lost(each):,}" if lost(each) else "no figure"
        beside = axis.get_yaxis_transform()  # at the axis, wherever that begins
        axis.text(0.01, place, text, transform=beside, va="center", color=_VERMILION, fontweight="bold")
        return
    colour, _ = _KINDS[kind]
    axis.barh(place, found.median, height=0.62, color=colour, hatch="//" if kind == "bare" else None, edgecolor="white")
    if found.runs > 1:
        marks = [[found.median - found.low], [found.high - found.median]]
        axis.errorbar(found.median, place, xerr=marks, fmt="none", ecolor="black", elinewidth=1.2, capsize=3)
    disturbed = " (disturbed)" if all(run.disturbed for run in counting(each.runs)) else ""
    axis.annotate(
        f"{figure(found.median)}{disturbed}",
        (found.high, place),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=_SMALL,
    )


def _panels(report: Report, measured: Sequence[Measurement]) -> dict[str, list[tuple[str, Measurement]]]:
    """What is drawn together, by title: one set of parameters; the first of each body has the bare clients, too."""
    names = _labels(report)
    kinds = {each.name: each.kind for each in report.participants}
    order = {each.name: place for place, each in enumerate(report.participants)}
    measured = sorted(measured, key=lambda each: order[each.participant])
    panels: dict[str, list[tuple[str, Measurement]]] = {}
    bodies: dict[object, str] = {}
    for each in measured:
        if kinds[each.participant] != "bare":
            title = told(each.parameters)
            bodies.setdefault(each.parameters.get("body"), title)
            panels.setdefault(title, [])
    for title, bars in panels.items():
        for each in measured:
            if kinds[each.participant] != "bare":
                if told(each.parameters) == title:
                    bars.append((names[each.participant], each))
            elif bodies.get(each.parameters.get("body")) == title:
                way = told({key: value for key, value in each.parameters.items() if key != "body"})
                bars.append((f"{names[each.participant]}, {way}" if way else names[each.participant], each))
    return panels or {"": [(names[each.participant], each) for each in measured]}


def _labels(report: Report) -> dict[str, str]:
    """Each name with its guarantee."""
    return {each.name: f"{each.name}\n{each.guarantee}".rstrip() for each in report.participants}


# Lines


def _percentiles(report: Report, scenario: str, measured: Sequence[Measurement]) -> Figure:
    """Milliseconds against percentiles, on an axis of nines: tails are what latencies are about."""
    panels: dict[str, list[Measurement]] = {}
    for each in measured:
        panels.setdefault(told(each.parameters), []).append(each)
    most = max(map(len, panels.values()))
    drawn, axes = _new(report, scenario, 1.0 + max(_PANEL, _LEGEND * most) * len(panels), len(panels))
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        axis.set_title(title, fontsize=10, loc="left")
        for place, each in enumerate(lines):
            label = _labels(report)[each.participant]
            runs = [run for run in counting(each.runs) if run.percentiles]
            if lost(each) or not runs:
                axis.plot([], [], color=_VERMILION, label=f"{label}: LOST {lost(each):,}")
                continue
            # The run in the middle, by its p50: an average of percentiles is none.
            run = sorted(runs, key=lambda one: one.figures["p50"])[len(runs) // 2]
            points = [(percent, value) for percent, value in run.percentiles if percent > 0 and value > 0]
            axis.plot(
                [_nines(min(percent, _LAST)) for percent, _ in points],
                [value for _, value in points],
                color=_PALETTE[place % len(_PALETTE)],
                marker=_MARKERS[place % len(_MARKERS)],
                linestyle=_STYLES[place // len(_PALETTE) % len(_STYLES)],
                markersize=4.5,
                label=label,
            )
        axis.set_yscale("log")
        axis.set_ylabel("ms (less is better)", fontsize=_SMALL)
        ticks = [*_TICKS, _LAST]
        axis.set_xticks([_nines(each) for each in ticks], [*(f"p{each:g}" for each in _TICKS), "max"])
        _plain(axis)
    return drawn


def _nines(percent: float) -> float:
    """Where a percentile is: 90 at 1, 99 at 2."""
    return -math.log10(1 - percent / 100)


def _backlog(report: Report, measured: Sequence[Measurement]) -> Figure:
    """Microseconds of a job, pushed and run, against what waits beside it."""
    drawn, (axis,) = _new(report, _BACKLOG, 4.8)
    labels = _labels(report)
    names = list(dict.fromkeys(each.participant for each in measured))
    for place, name in enumerate(names):
        points = []
        for each in measured:
            found = spread(each, "cost")
            if each.participant == name and found is not None and not lost(each):
                points.append((int(each.parameters["backlog"]), found))
        points.sort(key=lambda point: point[0])
        medians = [found.median for _, found in points]
        marks = [[found.median - found.low for _, found in points], [found.high - found.median for _, found in points]]
        axis.errorbar(
            [backlog for backlog, _ in points],
            medians,
            yerr=marks,
            capsize=3,
            color=_PALETTE[place % len(_PALETTE)],
            marker=_MARKERS[place % len(_MARKERS)],
            label=labels[name],
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(low / 2, high * 2)  # a tenth more or less should not look like a cliff
    axis.set_xlabel("jobs waiting beside", fontsize=_SMALL)
    axis.set_ylabel("µs for a job, pushed and run (less is better)", fontsize=_SMALL)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    _plain(axis)
    return drawn


def _plain(axis: Axes) -> None:
    """What both kinds of lines have: figures in full on the log axis, a grid, a legend that hides nothing."""
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(labelsize=_SMALL)
    axis.grid(color="#dddddd", linewidth=0.7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=_SMALL, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
