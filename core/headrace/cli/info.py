"""``headrace info``: how many messages each channel of each queue holds."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from headrace.app import Headrace
from headrace.cli.options import Json, complete_queue
from headrace.cli.output import (
    NOTHING,
    UNKNOWN,
    Cell,
    Column,
    Row,
    console,
    duration,
    on_terminal,
    rich_table,
    say_error,
    say_json,
    show_table,
)
from headrace.cli.session import DONE, exit_code, session_of, shared_queue
from headrace.driver import Info
from headrace.errors import BackendError, CapabilityError, ConfigError
from headrace.printing import printable_block

EXAMPLES = (
    "headrace info",
    "headrace info mail images --watch",
    "headrace info --json",
)

#: Seconds between two looks of ``--watch``.
WATCH_SECONDS: Final = 1.0

CHANNELS: Final = ("waiting", "reserved", "delayed", "failed", "timeout")
#: How channels look in which messages wait for somebody.
_ALARMING: Final = {"failed": "bold red", "timeout": "bold yellow"}

COLUMNS: Final = (
    Column("queue", whole=True),
    Column("backend"),
    *(Column(channel, right=True, whole=True) for channel in CHANNELS),
    Column("oldest", right=True, whole=True),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One queue at one moment."""

    queue: str
    backend: str
    place: str
    counts: str  #: exact, approximate or unknown
    info: Info | None
    error: Exception | None = None


def info(
    context: typer.Context,
    queues: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUEUE", help="Queues to show; all, if none is named.", autocompletion=complete_queue),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew each second, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Count the messages of each queue, by channel.

    A message waits, is reserved by a worker, delayed, or rests in failed or timeout until
    somebody reloads or flushes it. Oldest is how long the oldest waiting one has been due.
    With --json, an array of one object for each queue; with --watch, one such line each second.
    """
    session = session_of(context)
    names = list(dict.fromkeys(queues)) if queues else [*session.app.config.queues]

    async def work(app: Headrace) -> Sequence[Line]:
        lines = await look(app, names)
        if watch:
            await _watch(app, names, lines, as_json)
        else:
            _print(lines, as_json)
        return lines

    try:
        lines = session.run(work)
    except KeyboardInterrupt:
        if not watch:
            raise
        return
    raise typer.Exit(max((exit_code(each.error) for each in lines if each.error is not None), default=DONE))


async def look(app: Headrace, names: Sequence[str]) -> Sequence[Line]:
    """Ask all queues at once. What one cannot tell is in its line, and costs the others nothing."""
    queues = [app.queue(name) for name in names]
    return await asyncio.gather(*(_look_at(app, each.name) for each in queues))


async def _look_at(app: Headrace, name: str) -> Line:
    backend = app.queue(name).settings.backend
    try:
        queue = shared_queue(app, name)
        return Line(name, backend, queue.place, queue.capabilities.counts, await queue.info())
    except (BackendError, CapabilityError, ConfigError) as error:
        return Line(name, backend, "", "unknown", None, error)


async def _watch(app: Headrace, names: Sequence[str], lines: Sequence[Line], as_json: bool) -> None:
    if as_json or not on_terminal():
        while True:
            _print(lines, as_json)
            await asyncio.sleep(WATCH_SECONDS)
            lines = await look(app, names)
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(console=console(), auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            live.update(
                Group(rich_table(COLUMNS, rows_of(lines)), *(Text(each) for each in _errors(lines))), refresh=True
            )
            await asyncio.sleep(WATCH_SECONDS)
            lines = await look(app, names)


def _print(lines: Sequence[Line], as_json: bool) -> None:
    if as_json:
        say_json([as_object(each) for each in lines])
    else:
        show_table(COLUMNS, rows_of(lines))
    for each in _errors(lines):
        say_error(each)


def _errors(lines: Sequence[Line]) -> list[str]:
    return [f"{line.queue}: {printable_block(str(line.error))}" for line in lines if line.error is not None]


def rows_of(lines: Sequence[Line]) -> list[Row]:
    """The lines as rows of a table with `COLUMNS`."""
    return [
        (
            line.queue,
            line.backend,
            *(_count(line, channel) for channel in CHANNELS),
            duration(line.info.oldest_seconds if line.info else None),
        )
        for line in lines
    ]


def as_object(line: Line) -> dict[str, Any]:
    """The line for programs. Counts are null where the backend cannot know, or could not be asked."""
    return {
        "queue": line.queue,
        "backend": line.backend,
        "place": line.place,
        **{channel: getattr(line.info, channel, None) for channel in CHANNELS},
        "oldest_seconds": line.info.oldest_seconds if line.info else None,
        "counts": line.counts,
        "error": None if line.error is None else str(line.error),
    }


def _count(line: Line, channel: str) -> Cell:
    if line.info is None:
        return Cell(NOTHING, "dim")
    count: int | None = getattr(line.info, channel)
    if count is None:
        return Cell(UNKNOWN, "dim")
    text = f"~{count}" if line.counts == "approximate" else str(count)
    return Cell(text, _ALARMING.get(channel, "") if count else "dim")
