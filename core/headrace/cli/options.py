"""The arguments and options that several commands take, so that they read alike everywhere.

Owns shell completion too. It looks only at what is cheap to look at, and never fails: a
broken configuration completes nothing, and the command itself says what is wrong.
"""

import contextlib
import io
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from headrace.app import Headrace
from headrace.cli.session import Session
from headrace.job import declared_jobs

S = TypeVar("S")


def complete_queue(context: typer.Context, incomplete: str) -> list[str]:
    """Names of configured queues; after a comma, those that are not named yet."""
    named, comma, last = incomplete.rpartition(",")
    with _quietly():
        names = [each for each in _app(context).config.queues if each not in named.split(",")]
        return [f"{named}{comma}{each}" for each in names if each.startswith(last)]
    return []


def complete_job(context: typer.Context, incomplete: str) -> list[str]:
    """Wire names of the jobs that the configured modules declare."""
    with _quietly():
        _app(context).load_jobs()
        return sorted(name for name in declared_jobs() if name.startswith(incomplete))
    return []


def complete_backend(incomplete: str) -> list[str]:
    """Names of installed backends."""
    return [each.name for each in Headrace({}).registry.names() if each.name.startswith(incomplete)]


def read_options(given: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` pairs as a backend's table; a value that is no TOML is text."""
    options: dict[str, Any] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"{each!r} is not KEY=VALUE.", param_hint="--option")
        try:
            options[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            options[key.strip()] = value
    return options


def _app(context: typer.Context) -> Headrace:
    session = context.find_object(Session)
    path = session.config if session else None
    if path is None:
        # Completion does not run the callback that makes the session; the option itself was read.
        stated = context.find_root().params.get("config")
        path = Path(stated) if stated else None
    return Headrace.load(path)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    # A module that prints when it is imported would print into the shell's completions.
    with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
        yield


Queue = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue's name.", autocompletion=complete_queue)]
MessageId = Annotated[str, typer.Argument(metavar="ID", help="The message's id, as push and list print it.")]
JobName = Annotated[
    str | None, typer.Option("--job", metavar="NAME", help="Only jobs of this name.", autocompletion=complete_job)
]
Ids = Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Only this message; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
