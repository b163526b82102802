"""The crash matrix as a page: the table of each backend, and before it what all of them come to."""

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from pages import date, machine, markdown

from .cells import JOBS, LEASE, POP_TIMEOUT, STEPS, Row

#: How people write the backends' names.
TITLES: Final = {"sqlite": "SQLite", "redis": "Redis", "rabbitmq": "RabbitMQ", "sqs": "SQS"}

#: What recovery consists of; see the page's words.
TIMES: Final = ("taken over", "begun again", "broker back")

HEAD: Final = """\
# The crash matrix

Every step of a message's life, with `kill -9` at that very step: of the process that takes it, and of the broker.
Made by `tox -e crash -- --crash-page docs/CRASH.md`, on {date}, with {machine}.

Each cell is {jobs} jobs in a queue of its own, with leases of {lease:g} s and a `pop_timeout` of {pop_timeout:g} s.

- *before* and *after*: just before the call is made, and just after it was answered. A handler is killed at its start,
  and at its end, when its work is done and nobody has been told.
- *process*: the worker, of which there are two (at `shutdown` the other one is started after the kill); at `push` the
  application, which is started again and repeats what was not confirmed; at `reload`, `flush` and `migrate` the
  command, which is given again.
- *broker*: Redis, or RabbitMQ, is started again at once, with what it has on disk. SQS cannot be killed, and the
  emulator that stands for it here would forget everything: so it is the way there that ends, and comes back.
  SQLite has no broker; RabbitMQ's leases are connections, and are not extended.
- *pushed*: pushes that were confirmed. *executed*: jobs of these that ran to an end. *lost*: those that did not run as
  often as they must, or do not rest in `failed` or `timeout` if they must; with `flush`, jobs beside those to be
  deleted. *twice*: runs beyond those that the jobs need: at least once means that there are some.
- *seconds*: from the kill, or from when the broker could be reached again, until the last run had ended, be it one that
  was not needed, and all rested that was to; the jobs' own time is in it.

The first table has the longest seconds of three kinds. *Taken over*: another worker was there; promised is a lease and
a `pop_timeout`, to which the jobs' own time comes. *Begun again*: a process had to be started, too: an application, a
command or a worker. *Broker back*: of those who were there, and of those who had to be started.
"""


def page(rows: Sequence[Row]) -> str:
    """All of it, in Markdown."""
    parts = [
        HEAD.format(date=date(), machine=machine(), jobs=JOBS, lease=LEASE, pop_timeout=POP_TIMEOUT),
        _totals(rows),
    ]
    for backend, group in groupby(rows, lambda row: row.backend):
        parts.append(f"## {TITLES[backend]}\n\n{_table(list(group))}")
    return "\n".join(parts)


def _totals(rows: Sequence[Row]) -> str:
    lines = [
        ("backend", "kills", "pushed", "executed", "lost", "twice", *TIMES),
        *(_total(TITLES[backend], list(group)) for backend, group in groupby(rows, lambda row: row.backend)),
        _total("all", rows),
    ]
    return markdown(lines, 1)


def _total(title: str, rows: Sequence[Row]) -> tuple[str, ...]:
    sums = [sum(getattr(row, name) for row in rows) for name in ("pushed", "executed", "lost", "twice")]
    longest = [max((row.seconds for row in rows if _time(row) == time), default=None) for time in TIMES]
    return title, str(len(rows)), *(f"{each:,}" for each in sums), *map(_seconds, longest)


def _time(row: Row) -> str:
    """Which of the times a recovery is."""
    if row.killed == "broker":
        return "broker back"
    (step,) = (each for each in STEPS if each.name == row.step)
    return "taken over" if step.scene == "worker" else "begun again"


def _table(rows: Sequence[Row]) -> str:
    names = ("pushed", "executed", "lost", "twice")
    lines: list[tuple[str, ...]] = [("step", "moment", "killed", *names, "seconds")]
    by_step = sorted(rows, key=lambda row: [each.step for each in rows].index(row.step))
    for row in by_step:
        counts = (str(getattr(row, name)) for name in names)
        lines.append((row.step, row.moment, row.killed, *counts, _seconds(row.seconds)))
    return markdown(lines, 3)


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"
