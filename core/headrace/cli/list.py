"""``headrace list``: the messages of one channel."""

from collections.abc import Sequence
from typing import Annotated

import typer

from headrace.app import Headrace
from headrace.cli.messages import as_object, show_messages
from headrace.cli.options import JobName, Json, Queue
from headrace.cli.output import note, plural, say_json
from headrace.cli.session import session_of, shared_queue
from headrace.driver import Channel
from headrace.queue import Listed

EXAMPLES = (
    "headrace list mail --channel failed",
    "headrace list mail --channel delayed --job SendWelcome --limit 10",
    "headrace list mail --channel failed --json",
)


def list_messages(
    context: typer.Context,
    queue: Queue,
    channel: Annotated[
        Channel, typer.Option(metavar="CHANNEL", help="waiting, reserved, delayed, failed or timeout.")
    ] = "failed",
    job: JobName = None,
    limit: Annotated[int, typer.Option(metavar="N", help="At most so many, oldest first.", min=1)] = 100,
    as_json: Json = False,
) -> None:
    """List the messages of a channel, oldest first, with what failed and why.

    With --json, an array of objects: id, channel, job, arguments, body_base64 (if the body is no JSON),
    attempt, deaths, delay, unique_key, headers, and note, which is null or has type, message,
    traceback and time.
    """

    async def work(app: Headrace) -> Sequence[Listed]:
        return await shared_queue(app, queue).list(channel, limit=limit + 1, job=job)

    found = session_of(context).run(work)
    shown = found[:limit]
    if as_json:
        say_json([as_object(each) for each in shown])
        return
    show_messages(shown)
    # Beside the listing, so that a pipe gets messages only.
    if not found:
        note(f"{queue}: no message in {channel}" + (f" of {job}" if job else ""))
    elif len(found) > limit:
        note(f"{plural(limit, 'message')} shown; there are more (--limit)")
