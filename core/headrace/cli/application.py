"""The ``headrace`` command: its commands, the options before them, and what becomes of errors."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from headrace import __version__
from headrace.cli import (
    backends,
    bench,
    cancel,
    check,
    conform,
    demo,
    flush,
    info,
    migrate,
    new,
    push,
    reload,
    show,
    worker,
)
from headrace.cli import list as listing
from headrace.cli.session import INTERRUPTED, Session, hush_broken_pipe, report
from headrace.cli.words import Command, Group, flowing

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    # Boxes and colours for people; where there is no terminal, plain lines.
    rich_markup_mode="rich" if sys.stdout.isatty() and sys.stderr.isatty() else None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RUN: Final = "Run jobs"
LOOK: Final = "Look at queues"
MOVE: Final = "Move and remove messages"
SETUP: Final = "Set up"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headrace {__version__}")
        raise typer.Exit


@app.callback()
def headrace(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The configuration; else HEADRACE_CONFIG, else headrace.toml or pyproject.toml, looked for upwards.",
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="HEADRACE_DEBUG", help="Show the traceback of errors.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A job queue whose backend is one line of configuration."""
    context.obj = Session(config, debug)


def _add(command: Callable[..., None], panel: str | None, examples: tuple[str, ...], group: typer.Typer = app) -> None:
    """Add a command to ``group``. Whatever it raises becomes words on stderr and an exit code."""

    @functools.wraps(command)
    def guarded(context: typer.Context, **given: object) -> None:
        try:
            command(context, **given)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except BrokenPipeError:
            hush_broken_pipe()
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            session = context.find_object(Session)
            raise typer.Exit(report(error, debug=session is not None and session.debug)) from None

    # \b keeps the lines that follow it as they are.
    epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples)
    name = command.__name__.partition("_")[0]
    group.command(name, cls=Command, help=flowing(command.__doc__), rich_help_panel=panel, epilog=epilog)(guarded)


_add(demo.demo, RUN, demo.EXAMPLES)
_add(worker.worker, RUN, worker.EXAMPLES)
_add(push.push, RUN, push.EXAMPLES)
_add(info.info, LOOK, info.EXAMPLES)
_add(listing.list_messages, LOOK, listing.EXAMPLES)
_add(show.show, LOOK, show.EXAMPLES)
_add(reload.reload, MOVE, reload.EXAMPLES)
_add(flush.flush, MOVE, flush.EXAMPLES)
_add(cancel.cancel, MOVE, cancel.EXAMPLES)
_add(migrate.migrate, MOVE, migrate.EXAMPLES)
_add(check.check, SETUP, check.EXAMPLES)
_add(backends.backends, SETUP, backends.EXAMPLES)
_add(conform.conform, SETUP, conform.EXAMPLES)
_add(bench.bench, SETUP, bench.EXAMPLES)

making = typer.Typer(cls=Group, no_args_is_help=True, help="Make a project to go on with.")
app.add_typer(making, name="new", rich_help_panel=SETUP)
_add(new.backend, None, new.EXAMPLES, making)
