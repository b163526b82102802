"""``headrace cancel``: remove a message that has not started."""

import typer

from headrace.app import Headrace
from headrace.cli.options import Json, MessageId, Queue
from headrace.cli.output import say, say_error, say_json
from headrace.cli.session import DONE, FAILED, session_of, shared_queue

EXAMPLES = ("headrace cancel mail 01912d68783e7a8bb9c0f1e2d3c4b5a6",)


def cancel(context: typer.Context, queue: Queue, message_id: MessageId, as_json: Json = False) -> None:
    """Remove a message that is waiting or delayed.

    Exits with 1 if there is none of that id: it may run, rest in failed or timeout, or be
    done. With --json, an object with queue, id and cancelled.
    """

    async def work(app: Headrace) -> bool:
        return await shared_queue(app, queue).cancel(message_id)

    cancelled = session_of(context).run(work)
    if as_json:
        say_json({"queue": queue, "id": message_id, "cancelled": cancelled})
    elif cancelled:
        say(f"{queue}: {message_id} cancelled")
    else:
        say_error(f"{queue}: no waiting or delayed message has the id {message_id}")
    raise typer.Exit(DONE if cancelled else FAILED)
