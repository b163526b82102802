"""``headrace migrate``: move all that one queue holds to another one."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headrace.app import Headrace
from headrace.cli.options import Json, complete_queue
from headrace.cli.output import (
    UNKNOWN,
    Column,
    console,
    note,
    on_terminal,
    plural,
    say,
    say_error,
    say_json,
    show_table,
)
from headrace.cli.session import DONE, FAILED, session_of, shared_queue
from headrace.driver import ALL_CHANNELS, Channel, Info, in_order
from headrace.errors import BackendError
from headrace.migration import Migration, Outcome, Plan, Progress, Way
from headrace.printing import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

EXAMPLES = (
    "headrace migrate mail post",
    "headrace migrate mail post --dry-run",
    "headrace migrate mail post --wait 0 --json",
)

#: Seconds between two lines of progress where there is no terminal.
_LINE_EVERY: Final = 5.0

#: Messages that are named which stayed, or are missing; --json has all of them.
_NAMED: Final = 20

#: What each way is called, of queues that are named.
_WAYS: Final[Mapping[Way, str]] = {
    Way.POPPED: "taken as a worker does, stored, then acked",
    Way.LENT: "handed out to be moved, stored, then acked",
    Way.SHOWN: "looked at, stored, then deleted",
    Way.DUE: "waited for until each is due",
    Way.NONE: "cannot be moved",
}

#: The same for what a worker has.
_RESERVED: Final = "waited for until its worker, or its lease, ends"


def migrate(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="The queue to empty.", autocompletion=complete_queue)],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="The queue to move it to.", autocompletion=complete_queue)
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Move nothing; tell what would be, and how.")] = False,
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="How long to wait for what cannot be had yet; else without end for what is delayed, and a lease long "
            "for what is reserved.",
        ),
    ] = None,
    drop_unique: Annotated[
        bool, typer.Option("--drop-unique", help="Move messages without their unique keys if TO honours none.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Look each message up in TO afterwards, where that is possible.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Move all that a queue holds to another queue, be it on another backend.

    Every channel is moved, with ids, attempts, headers, what remains of each delay, and why a message failed. What is
    reserved comes when its worker ends or gives it back. A message is stored in TO first and removed from FROM after
    that, so the command can be ended at any moment, even killed, and run again: then it finishes. What was between both
    steps is moved twice, unless TO knows ids again.

    Let no worker run FROM or TO meanwhile; or say --no-check, as a worker of TO takes away what is looked for. Exits
    with 1 if something stayed or is missing, and says what.
    """
    session = session_of(context)

    def migration(app: Headrace, on_progress: Callable[[Progress], object]) -> Migration:
        queues = shared_queue(app, source), shared_queue(app, target)
        return Migration(*queues, wait=wait, drop_unique=drop_unique, check=check, on_progress=on_progress)

    async def look(app: Headrace) -> Plan:
        return await migration(app, lambda progress: None).plan()

    async def move(app: Headrace) -> Outcome:
        with _progress() as show:
            moving = migration(app, show.progress)
            show.total((await moving.plan()).counts)
            return await moving.run()

    if dry_run:
        _show_plan(source, target, session.run(look), as_json=as_json)
        raise typer.Exit(DONE)
    try:
        outcome = session.run(move)
    except BackendError as error:
        raise BackendError(f"{error}\nWhat was moved by then is moved: run this again for the rest.") from error
    if as_json:
        say_json(_as_object(source, target, outcome))
    else:
        _show(source, target, outcome)
    raise typer.Exit(DONE if outcome.is_complete else FAILED)


def _show_plan(source: str, target: str, plan: Plan, *, as_json: bool) -> None:
    counts: dict[Channel, int | None] = {each: getattr(plan.counts, each) for each in in_order(ALL_CHANNELS)}
    how = {channel: _WAYS[plan.ways[channel]] if channel in plan.ways else _RESERVED for channel in counts}
    if as_json:
        channels = {channel: {"messages": counts[channel], "how": how[channel]} for channel in counts}
        say_json({"from": source, "to": target, "dry_run": True, "channels": channels})
        return
    rows = [(channel, UNKNOWN if count is None else f"{count:,}", how[channel]) for channel, count in counts.items()]
    show_table([Column("channel"), Column("messages", right=True), Column("how")], rows)
    note(f"nothing was moved from {source} to {target}")


def _show(source: str, target: str, outcome: Outcome) -> None:
    if outcome.moved:
        rows = [(channel, f"{outcome.moved[channel]:,}") for channel in in_order(outcome.moved.keys())]
        show_table([Column("channel"), Column("moved", right=True)], rows)
    checked = "each was confirmed" if outcome.missing is None else f"{target} has all of them"
    if outcome.missing:
        checked = f"{len(outcome.missing):,} of them are missing"
    found = f"; {checked}" if outcome.total else ""
    say(f"{source}: {plural(outcome.total, 'message')} moved to {target} in {outcome.seconds:.1f} s{found}")
    if outcome.twice:
        say(f"{plural(outcome.twice, 'message')} may be there twice, or run twice: somebody took them from {source}")
    for line in _problems(source, target, outcome):
        say_error(line)


def _problems(source: str, target: str, outcome: Outcome) -> Iterator[str]:
    """What is not as it should be, a paragraph each."""
    if outcome.stayed:
        lines = [f"{each.id} ({each.channel}): {each.reason}" for each in outcome.stayed]
        yield _listed(f"{plural(len(lines), 'message')} could not be moved, and stayed on {source}:", lines)
    if outcome.missing:
        about = (
            f"{plural(len(outcome.missing), 'message')} were stored in {target}, and are in none of its channels now: "
            "unless a worker has run them, they are lost:"
        )
        yield _listed(about, outcome.missing)
    left: dict[Channel, int] = {channel: count for channel, count in outcome.left.items() if channel != "reserved"}
    if left and not outcome.stayed:
        yield f"{source} still counts {_counted(left)}: run this again"
    if "reserved" in outcome.left:
        yield (
            f"{source} has {_counted({'reserved': outcome.left['reserved']})}: a worker has them; run this again when "
            "it has stopped"
        )


def _listed(about: str, lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _NAMED:,} more; --json names all"] if len(lines) > _NAMED else []
    return "\n".join((about, *(f"  {printable(line)}" for line in (*lines[:_NAMED], *more))))


def _counted(counts: Mapping[Channel, int]) -> str:
    return ", ".join(f"{count:,} {channel}" for channel, count in counts.items())


def _as_object(source: str, target: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "from": source,
        "to": target,
        "dry_run": False,
        "complete": outcome.is_complete,
        "moved": {channel: outcome.moved[channel] for channel in in_order(outcome.moved.keys())},
        "twice": outcome.twice,
        "stayed": [{"id": each.id, "channel": each.channel, "reason": each.reason} for each in outcome.stayed],
        "missing": outcome.missing,
        "left": outcome.left,
        "seconds": round(outcome.seconds, 3),
    }


class _Lines:
    """Progress where there is no terminal: a line now and then, beside the result."""

    def __init__(self) -> None:
        self._of = ""
        self._due = time.monotonic() + _LINE_EVERY
        self._waits = False

    def total(self, counts: Info) -> None:
        """How many there are when it begins."""
        known = [count for channel in in_order(ALL_CHANNELS) if (count := getattr(counts, channel)) is not None]
        self.expect(sum(known))

    def expect(self, count: int) -> None:
        self._of = f" of {count:,}"

    def progress(self, progress: Progress) -> None:
        """So many were moved, and this is waited for."""
        begins_to_wait = bool(progress.waits_for) and not self._waits
        self._waits = bool(progress.waits_for)
        if begins_to_wait or time.monotonic() >= self._due:
            waits = f"; {_waiting(progress)}" if progress.waits_for else ""
            note(f"{progress.moved:,}{self._of} moved{waits}")
            self._due = time.monotonic() + _LINE_EVERY


class _Bar(_Lines):
    """Progress on a terminal."""

    def __init__(self, bar: "Bar") -> None:
        super().__init__()
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def expect(self, count: int) -> None:
        self._bar.update(self._task, total=count)

    def progress(self, progress: Progress) -> None:
        self._bar.update(self._task, completed=progress.moved, description=_waiting(progress))


def _waiting(progress: Progress) -> str:
    return f"waiting for {_counted(progress.waits_for)}" if progress.waits_for else ""


@contextlib.contextmanager
def _progress() -> Iterator[_Lines]:
    if not on_terminal():
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=console(), transient=True) as bar:
        yield _Bar(bar)
