"""``headrace reload``: move messages from ``failed`` or ``timeout`` back to ``waiting``."""

from collections.abc import Sequence
from typing import Annotated

import typer

from headrace.app import Headrace
from headrace.cli.messages import as_object, show_messages
from headrace.cli.options import Ids, JobName, Json, Queue
from headrace.cli.output import note, plural, say, say_json
from headrace.cli.session import DONE, FAILED, session_of, shared_queue
from headrace.driver import RestingChannel
from headrace.queue import Listed

EXAMPLES = (
    "headrace reload mail",
    "headrace reload mail --channel timeout --job SendWelcome --limit 100",
    "headrace reload mail --id 01912d68783e7a8bb9c0f1e2d3c4b5a6",
    "headrace reload mail --dry-run",
)


def reload(
    context: typer.Context,
    queue: Queue,
    channel: Annotated[RestingChannel, typer.Option(metavar="CHANNEL", help="failed or timeout.")] = "failed",
    job: JobName = None,
    ids: Ids = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="At most so many, oldest first.", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Move nothing; list what would be moved.")] = False,
    as_json: Json = False,
) -> None:
    """Let messages that rest in failed or timeout run again, as if they were new.

    Their attempts and deaths start again from 0. Exits with 1 if messages were named by --id
    and none of them was there. With --json, an object with queue, channel and moved; with
    --dry-run, the array that list prints.
    """
    session = session_of(context)
    if dry_run:

        async def look(app: Headrace) -> Sequence[Listed]:
            target = shared_queue(app, queue)
            if ids is None:
                return await target.list(channel, limit=limit or _EVERYTHING, job=job)
            target.capabilities.require(target.settings.backend, "peek", channel=channel)
            found = [await target.find(each) for each in dict.fromkeys(ids)]
            return [each for each in found if each and each.channel == channel and job in (None, each.message.name)][
                :limit
            ]

        listed = session.run(look)
        if as_json:
            say_json([as_object(each) for each in listed])
        else:
            show_messages(listed)
            note(f"{plural(len(listed), 'message')} would move from {channel} to waiting")
        raise typer.Exit(_status(len(listed), ids))

    async def move(app: Headrace) -> int:
        return await shared_queue(app, queue).reload(channel, limit=limit, job=job, ids=ids)

    moved = session.run(move)
    if as_json:
        say_json({"queue": queue, "channel": channel, "moved": moved})
    else:
        say(f"{queue}: {plural(moved, 'message')} moved from {channel} to waiting")
    raise typer.Exit(_status(moved, ids))


#: More than any channel that one would look through.
_EVERYTHING = 1_000_000_000


def _status(count: int, ids: Sequence[str] | None) -> int:
    return FAILED if ids and not count else DONE
