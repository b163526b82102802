"""``headrace flush``: delete messages of a channel."""

import sys
from typing import Annotated, Literal

import typer

from headrace.app import Headrace
from headrace.cli.options import Ids, JobName, Json, Queue
from headrace.cli.output import plural, say, say_error, say_json
from headrace.cli.session import DONE, FAILED, WRONG, session_of, shared_queue

EXAMPLES = (
    "headrace flush mail --channel failed",
    "headrace flush mail --channel delayed --job SendWelcome --yes",
    "headrace flush mail --channel failed --id 01912d68783e7a8bb9c0f1e2d3c4b5a6 --yes",
)

#: All channels but ``reserved``: what a worker holds is not ours to delete.
Flushable = Literal["waiting", "delayed", "failed", "timeout"]


def flush(
    context: typer.Context,
    queue: Queue,
    channel: Annotated[Flushable, typer.Option(metavar="CHANNEL", help="waiting, delayed, failed or timeout.")],
    job: JobName = None,
    ids: Ids = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete messages for good.

    Asks first; where nobody can be asked, it wants --yes. Exits with 1 if messages were named
    by --id and none of them was there. With --json, an object with queue, channel and deleted.
    """
    session = session_of(context)
    chosen = plural(len(ids), "message") if ids else "all messages"
    what = f"{chosen}{f' of {job}' if job else ''} in {channel} of {queue}"
    session.app.queue(queue)
    if not yes:
        if not sys.stdin.isatty():
            say_error(f"this deletes {what} for good; say --yes to confirm")
            raise typer.Exit(WRONG)
        held = getattr(session.run(lambda app: shared_queue(app, queue).info()), channel)
        counted = f", which holds {held:,}" if held is not None else ""
        if not typer.confirm(f"Delete {what}{counted}, for good?", err=True):
            say("nothing was deleted")
            raise typer.Exit(FAILED)

    async def work(app: Headrace) -> int:
        return await shared_queue(app, queue).flush(channel, job=job, ids=ids)

    deleted = session.run(work)
    if as_json:
        say_json({"queue": queue, "channel": channel, "deleted": deleted})
    else:
        say(f"{queue}: {plural(deleted, 'message')} deleted from {channel}")
    raise typer.Exit(FAILED if ids and not deleted else DONE)
