"""Messages as commands show them: rows of a table, and objects for programs."""

import base64
import time
from collections.abc import Sequence
from typing import Any, Final

from headrace.cli.output import (
    NOTHING,
    Cell,
    Column,
    Row,
    arguments_text,
    duration,
    moment,
    on_terminal,
    shortened,
    show_table,
)
from headrace.printing import printable
from headrace.queue import Listed

#: Characters of arguments, and of an error's text, in a listing; `headrace show` has all of them.
LONGEST: Final = 200
#: The same where they share a terminal's width with others.
LONGEST_SHARED: Final = 100


def show_messages(listed: Sequence[Listed]) -> None:
    """Print messages as a table; nothing, if there are none."""
    if not listed:
        return
    if on_terminal():
        # Two lines for each, so that the whole id fits beside them into 80 columns.
        columns = (Column("id", whole=True), Column("job and arguments"), Column("state"))
        show_table(columns, [_tall_row(each) for each in listed])
    else:
        titles = ("id", "channel", "job", "attempt", "due_in", "failed_at", "arguments", "why")
        show_table([Column(title) for title in titles], [_flat_row(each) for each in listed])


def _tall_row(each: Listed) -> Row:
    message = each.message
    return (
        message.id,
        f"{printable(message.name)}\n{shortened(arguments_text(each.arguments), LONGEST_SHARED)}",
        Cell(f"{state(each)}\n{shortened(why(each), LONGEST_SHARED)}", "red" if each.channel == "failed" else ""),
    )


def _flat_row(each: Listed) -> Row:
    message = each.message
    return (
        printable(message.id),
        each.channel,
        printable(message.name),
        str(message.attempt),
        duration(message.delay) if message.delay else NOTHING,
        moment(message.note.time).replace(" ", "T") if message.note else NOTHING,
        shortened(arguments_text(each.arguments), LONGEST) or NOTHING,
        shortened(why(each), LONGEST) or NOTHING,
    )


def state(each: Listed) -> str:
    """Where a message stands, and since or until when, in a few words."""
    message = each.message
    parts: list[str] = [f"due in {duration(message.delay)}" if each.channel == "delayed" else each.channel]
    if message.note is not None:
        ago = duration(max(0.0, time.time() - message.note.time))
        parts.append(f"{ago} ago" if each.channel in ("failed", "timeout") else f"failed {ago} ago")
    if message.attempt:
        parts.append(f"attempt {message.attempt}")
    if message.deaths:
        parts.append(f"deaths {message.deaths}")
    return ", ".join(parts)


def why(each: Listed) -> str:
    """Why a message failed, on one line; empty if it did not."""
    note = each.message.note
    if note is None:
        return ""
    # Our own errors are known by their names; others by where they are from, too.
    name = note.type.removeprefix("headrace.errors.")
    return printable(f"{name}: {note.message}" if note.message else name)


def as_object(each: Listed) -> dict[str, Any]:
    """A message for programs, with all that is known of it. These keys stay."""
    message = each.message
    return {
        "id": message.id,
        "channel": each.channel,
        "job": message.name,
        "arguments": each.arguments,
        # Bytes that are no JSON cannot be arguments; they are here as they are.
        "body_base64": base64.b64encode(message.body).decode() if each.arguments is None else None,
        "attempt": message.attempt,
        "deaths": message.deaths,
        "delay": message.delay,
        "unique_key": message.unique_key,
        "headers": dict(message.headers),
        "note": None
        if message.note is None
        else {
            "type": message.note.type,
            "message": message.note.message,
            "traceback": message.note.traceback,
            "time": message.note.time,
        },
    }
