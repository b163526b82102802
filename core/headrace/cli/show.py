"""``headrace show``: one message, with all that is known of it."""

import json
from collections.abc import Sequence
from typing import Final

import typer

from headrace.app import Headrace
from headrace.cli.messages import as_object, why
from headrace.cli.options import Json, MessageId, Queue
from headrace.cli.output import NOTHING, duration, moment, say, say_error, say_json
from headrace.cli.session import FAILED, session_of, shared_queue
from headrace.driver import ALL_CHANNELS, Channel, in_order
from headrace.printing import printable, printable_block
from headrace.queue import Listed

EXAMPLES = (
    "headrace show mail 01912d68783e7a8bb9c0f1e2d3c4b5a6",
    "headrace show mail 01912d68783e7a8bb9c0f1e2d3c4b5a6 --json",
)

#: Columns of the names on the left.
_WIDTH: Final = 11


def show(context: typer.Context, queue: Queue, message_id: MessageId, as_json: Json = False) -> None:
    """Show one message: arguments, counters, and why it failed, with the traceback.

    With --json, one object with the keys that list has. Exits with 1 if there is no such message:
    it may be done, or in a channel that the backend cannot show.
    """

    async def work(app: Headrace) -> tuple[Listed | None, Sequence[Channel]]:
        target = shared_queue(app, queue)
        return await target.find(message_id), in_order(ALL_CHANNELS - target.capabilities.peek)

    found, hidden = session_of(context).run(work)
    if found is None:
        elsewhere = f", or in {' or '.join(hidden)}, which the backend cannot show" if hidden else ""
        say_error(f"{queue}: no message has the id {message_id}; it may be done{elsewhere}")
        raise typer.Exit(FAILED)
    if as_json:
        say_json(as_object(found))
    else:
        _print(queue, found)


def _print(queue: str, found: Listed) -> None:
    message = found.message
    lines = {
        "id": message.id,
        "queue": queue,
        "channel": found.channel,
        "job": message.name,
        "arguments": json.dumps(found.arguments, indent=2, ensure_ascii=False)
        if found.arguments is not None
        else f"not readable: {message.body[:200]!r}",
        "attempt": str(message.attempt),
        "deaths": str(message.deaths),
        "due in": duration(message.delay) if message.delay else NOTHING,
        "unique key": message.unique_key or NOTHING,
        **{f"header {name}": value for name, value in message.headers.items()},
    }
    if message.note is not None:
        lines["failed at"] = moment(message.note.time)
        lines["why"] = why(found)
    for name, value in lines.items():
        head, *rest = printable_block(value).split("\n")
        say("\n".join([f"{printable(name):{_WIDTH}} {head}", *(f"{'':{_WIDTH}} {line}" for line in rest)]))
    if message.note is not None and message.note.traceback:
        say("\n" + printable_block(message.note.traceback).rstrip("\n"))
