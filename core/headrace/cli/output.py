"""What commands print: tables on a terminal, plain lines elsewhere, JSON for programs.

Owns how things look. Rich is imported only where it draws, since most of the time that a
command takes is imports.
"""

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from headrace.printing import printable, printable_block

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: What stands for a figure that the backend cannot know; in JSON it is null.
UNKNOWN: Final = "unknown"
#: What stands for nothing at all.
NOTHING: Final = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False  #: figures
    whole: bool = False  #: never folded: what one copies from the screen


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a table, with its looks on a terminal."""

    text: str
    style: str = ""


Row = Sequence[Cell | str]


def on_terminal() -> bool:
    """Whether a person reads our output as it comes."""
    return sys.stdout.isatty()


def say(text: str) -> None:
    """Print lines; whatever of them came from jobs must have passed `printable` before."""
    # At once: who reads a pipe follows what happens, and whether anybody does is known here.
    print(text, flush=True)  # noqa: T201 - the one place that prints


def say_error(text: str) -> None:
    """Print what went wrong, on stderr."""
    word = "error:"
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        word = "\x1b[1;31merror:\x1b[0m"
    sys.stdout.flush()
    sys.stderr.write(f"{word} {printable_block(text)}\n")


def note(text: str) -> None:
    """Print a remark beside the listing: on stderr, so that a pipe gets the listing alone."""
    sys.stdout.flush()
    sys.stderr.write(printable_block(text) + "\n")


def say_json(value: Any) -> None:
    """Print one JSON document: indented for people, on one line for programs."""
    say(json.dumps(_finite(value), indent=2 if on_terminal() else None))


def console() -> "Console":
    """Rich's terminal. Text is never markup here: square brackets come from data."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def show_table(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print a table."""
    if on_terminal():
        console().print(rich_table(columns, rows))
    else:
        say(plain_table(columns, rows))


def rich_table(columns: Sequence[Column], rows: Sequence[Row]) -> "Table":
    """A table for a terminal: as wide as it has to be, folded where there is no room."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=column.whole,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(*_parts(cell)) for cell in row))
    return table


def plain_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """The same in aligned columns of plain text, nothing of it cut."""
    lines = [[column.title for column in columns], *([_parts(cell)[0] for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column.right else text.ljust(width)
            for column, text, width in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def duration(seconds: float | None) -> str:
    """A time span for people, in one unit."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, size, until in (("s", 1, 120), ("min", 60, 120 * 60), ("h", 3600, 48 * 3600)):
        if seconds < until:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def moment(seconds: float) -> str:
    """A time on the wall clock, in local time; seconds are since the epoch."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return UNKNOWN


def arguments_text(arguments: Any) -> str:
    """A job's arguments on one line, as ``name=value``; values as JSON."""
    if arguments is None:
        return "not readable"
    if not isinstance(arguments, dict):
        return printable(json.dumps(arguments, ensure_ascii=False))
    return printable(", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items()))


def shortened(text: str, length: int) -> str:
    """The text, cut to a length if it is longer."""
    return text if len(text) <= length else text[: length - 3] + "..."


def plural(count: int, noun: str, many: str = "") -> str:
    """``1 message``, ``2,000 messages``."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def _parts(cell: Cell | str) -> tuple[str, str]:
    return (cell.text, cell.style) if isinstance(cell, Cell) else (cell, "")


def _finite(value: Any) -> Any:
    """JSON has no infinity; what has no limit is null there."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
