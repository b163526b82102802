"""The ``headrace`` command: its commands, the options before them, and what becomes of errors."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from headrace import __version__
from headrace.cli import backends, cancel, check, demo, flush, info, list, push, reload, show, worker
from headrace.cli.session import INTERRUPTED, Session, hush_broken_pipe, report


class Commands(TyperGroup):
    """All commands; turns what they raise into words and an exit code."""

    def invoke(self, context: Any) -> Any:
        try:
            result = super().invoke(context)
            # What is still buffered may meet a broken pipe too: here it can be dealt with.
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            hush_broken_pipe()
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except _OWN:
            raise
        except Exception as error:
            session = context.find_object(Session)
            raise typer.Exit(report(error, debug=session is not None and session.debug)) from error


#: How typer speaks of usage, exits and refused prompts; its own business. (Usage errors have one
#: root, which typer does not export; `BadParameter` is the one of them that it does.)
_OWN = (typer.BadParameter.__mro__[2], typer.Exit, typer.Abort)

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    # Boxes and colours for people; without a terminal, plain lines.
    rich_markup_mode="rich" if sys.stdout.isatty() and sys.stderr.isatty() else None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
            "--config",
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


RUN, LOOK, MOVE, SETUP = "Run jobs", "Look at queues", "Move and remove messages", "Set up"

for function, panel, examples in (
    (demo.demo, RUN, demo.EXAMPLES),
    (worker.worker, RUN, worker.EXAMPLES),
    (push.push, RUN, push.EXAMPLES),
    (info.info, LOOK, info.EXAMPLES),
    (list.list_messages, LOOK, list.EXAMPLES),
    (show.show, LOOK, show.EXAMPLES),
    (reload.reload, MOVE, reload.EXAMPLES),
    (flush.flush, MOVE, flush.EXAMPLES),
    (cancel.cancel, MOVE, cancel.EXAMPLES),
    (check.check, SETUP, check.EXAMPLES),
    (backends.backends, SETUP, backends.EXAMPLES),
):
    app.command(
        function.__name__.partition("_")[0],
        rich_help_panel=panel,
        # \b keeps lines as they are.
        epilog="\b\nExamples:\n" + "".join(f"  {line}\n" for line in examples),
    )(function)
