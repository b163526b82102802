"""``headrace push``: push one job."""

import dataclasses
import difflib
import sys
from typing import Annotated

import msgspec
import typer

from headrace.app import Headrace
from headrace.cli.options import complete_job, complete_queue
from headrace.cli.output import say
from headrace.cli.session import session_of, shared_queue
from headrace.errors import InvalidPayload, UnknownJob
from headrace.job import Job, declared_jobs

EXAMPLES = (
    """headrace push SendWelcome '{"user_id": 1}'""",
    """headrace push SendWelcome '{"user_id": 1}' --delay 60 --queue mail""",
    """generate-arguments | headrace push SendWelcome -""",
)


def push(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's name.", autocompletion=complete_job)],
    arguments: Annotated[
        str, typer.Argument(metavar="ARGUMENTS", help="Its fields as a JSON object; - reads it from standard input.")
    ] = "{}",
    queue: Annotated[
        str | None,
        typer.Option(metavar="QUEUE", help="Push here, and not to the job's own queue.", autocompletion=complete_queue),
    ] = None,
    delay: Annotated[float, typer.Option(metavar="SECONDS", help="Run it so much later.", min=0)] = 0.0,
    unique: Annotated[
        str | None, typer.Option(metavar="KEY", help="Replace the job that is pending under this key, if there is one.")
    ] = None,
) -> None:
    """Push one job, and print its message's id.

    The job must be declared in a module that the configuration imports.
    """
    session = session_of(context)
    text = sys.stdin.read() if arguments == "-" else arguments
    session.app.load_jobs()
    made = make_job(session.app, job, text)

    async def work(app: Headrace) -> str:
        target = shared_queue(app, queue or made.job_options.queue)
        return await target.push(made, delay=delay, unique=unique)

    say(session.run(work))


def make_job(app: Headrace, name: str, arguments: str) -> Job:
    """The job of that name with these JSON arguments. Raises `UnknownJob` or `InvalidPayload`."""
    declared = declared_jobs()
    job_class = declared.get(name)
    if job_class is None:
        raise UnknownJob(f"there is no job {name!r}; {_known(name, declared, app)}")
    try:
        given = msgspec.json.decode(arguments)
    except msgspec.DecodeError as error:
        raise InvalidPayload(f"the arguments are not JSON: {error}") from None
    if not isinstance(given, dict):
        raise InvalidPayload(f'the arguments must be a JSON object, as in {{"user_id": 1}}, not {arguments}')
    fields = [field.name for field in dataclasses.fields(job_class)]  # type: ignore[arg-type]
    unknown = [each for each in given if each not in fields]
    if unknown:
        raise InvalidPayload(f"{name} has no field {unknown[0]!r}; it has {', '.join(fields) or 'none'}")
    job: Job = app.codec(job_class).decode(arguments.encode())
    return job


def _known(name: str, declared: dict[str, type[Job]], app: Headrace) -> str:
    if not declared:
        return f"none is declared in the imports of {app.config.describe()}: {list(app.config.imports)}"
    nearest = difflib.get_close_matches(name, declared, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"declared are {', '.join(sorted(declared))}"
