"""The soak's figures, as lines for each minute, and as a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pages import date, machine, markdown

from .measures import Measure
from .site import Site

#: Minutes after which what is used has been used once: pools are filled, modules imported.
WARM: Final = 2

HEAD: Final = """\
# The soak

{minutes} minutes of mixed load on all backends at once, while workers and brokers were killed at random. Made by
`tox -e soak -- --minutes {minutes} --page docs/SOAK.md`, on {date}, with {machine}.

On each backend one application pushed jobs, one after the other, about {rate:g} in a second at most: plain and delayed
ones, such as fail once, or fail or run past their timeout until they are mended and reloaded, such as need their lease
extended, bodies of 200 kB, and unique ones where the backend has them. Of two supervisors one was left in peace with
its worker; the other's worker was killed every 5 to 15 seconds, and the broker every 30 to 60 (of SQS, whose emulator
would forget everything, the way there).

*executed*: jobs that ran to their end. *lost*: pushes that were confirmed, and had not run in the end. *twice*: runs
beyond the first, by which at least once is kept.
"""

GROWTH: Final = """\
## What might have grown

Of the processes that nobody killed, and of the brokers: after {warm} minutes, at most, and in the last minute.
{verdict}
"""


@dataclass
class Result:
    """What came of one backend's soak."""

    backend: str
    kills: dict[str, int]
    measures: list[list[Measure]] = field(default_factory=list)  #: of each minute
    pushed: int = 0
    executed: int = 0
    lost: int = 0
    twice: int = 0
    steady_ended: bool = False  #: whether the worker that nobody killed was not there to the end


def told(site: Site, minute: int, measures: Sequence[Measure]) -> str:
    """One line for a minute."""
    things: dict[str, list[str]] = {}
    for each in measures:
        things.setdefault(each.thing, []).append(f"{each.value:.0f} {each.what}")
    figures = "; ".join(f"{thing}: {', '.join(values)}" for thing, values in things.items())
    kills = ", ".join(f"{count} {what}s killed" for what, count in site.kills.items())
    confirmed, ran = site.confirmed(), site.ran()
    return (
        f"minute {minute}, {site.name}: {len(confirmed):,} pushed, {len(set(confirmed) & set(ran)):,} executed, "
        f"{len(ran) - len(set(ran))} twice, {kills}; {figures}"
    )


def growth(measures: Sequence[Sequence[Measure]]) -> list[tuple[str, str]]:
    """What was more in the end than after the warming up, beyond its slack: the thing, and what of it."""
    courses = _courses(measures)
    return [key for key, course in courses.items() if course[-1].value > course[0].value + course[0].slack]


def _courses(measures: Sequence[Sequence[Measure]]) -> dict[tuple[str, str], list[Measure]]:
    """The figures from when all was warm, each in the course of time."""
    courses: dict[tuple[str, str], list[Measure]] = {}
    for minute in measures[WARM - 1 :] or measures[-1:]:
        for each in minute:
            courses.setdefault(each.key, []).append(each)
    return courses


def page(results: Sequence[Result], minutes: int, rate: float) -> str:
    """All of it, in Markdown."""
    head = HEAD.format(minutes=minutes, date=date(), machine=machine(), rate=rate)
    lines: list[tuple[str, ...]] = [
        ("backend", "pushed", "executed", "lost", "twice", "workers killed", "brokers killed")
    ]
    for each in results:
        counts = (each.pushed, each.executed, each.lost, each.twice, each.kills["worker"], each.kills["broker"])
        lines.append((each.backend, *(f"{count:,}" for count in counts)))
    grown = [f"{each.backend}: {thing}, {what}" for each in results for thing, what in growth(each.measures)]
    verdict = f"More than its slack has grown: {'; '.join(grown)}." if grown else "Nothing has grown beyond its slack."
    rows: list[tuple[str, ...]] = [("backend", "of", "figure", f"minute {WARM}", "most", "last", "slack")]
    for each in results:
        for (thing, what), course in _courses(each.measures).items():
            most = max(one.value for one in course)
            values = (course[0].value, most, course[-1].value, course[0].slack)
            if most:
                rows.append((each.backend, thing, what, *(f"{value:.0f}" for value in values)))
    return "\n".join((head, markdown(lines, 1), GROWTH.format(warm=WARM, verdict=verdict), markdown(rows, 3)))
