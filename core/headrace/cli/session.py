"""What every command shares: the app of the chosen configuration, exit codes, errors as text.

Owns the one place where an error becomes words and a status.
"""

import asyncio
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import typer

from headrace.app import Headrace
from headrace.cli.output import say_error
from headrace.errors import CapabilityError, ConfigError, HeadraceError, JobError
from headrace.queue import Queue

T = TypeVar("T")

#: Exit codes: what was asked for is done; it was tried, and failed; it was asked wrongly.
DONE: Final = 0
FAILED: Final = 1
WRONG: Final = 2
#: 128 and the number of the signal, as shells count.
INTERRUPTED: Final = 130


@dataclass
class Session:
    """The options that stand before the command, and the app that they lead to."""

    config: Path | None = None
    debug: bool = False
    _app: Headrace | None = field(default=None, repr=False)

    @property
    def app(self) -> Headrace:
        if self._app is None:
            self._app = Headrace.load(self.config)
        return self._app

    def run(self, work: Callable[[Headrace], Coroutine[Any, Any, T]]) -> T:
        """Run ``work`` with the app entered, and closed after."""

        async def entered() -> T:
            async with self.app:
                return await work(self.app)

        return asyncio.run(entered())


def session_of(context: typer.Context) -> Session:
    """The session that `headrace.cli.application` made for this command."""
    session = context.find_object(Session)
    assert session is not None
    return session


def shared_queue(app: Headrace, name: str) -> Queue:
    """The queue of that name, if what this process sees there is what others see.

    Raises `CapabilityError` where messages never leave the process that pushed them: an
    empty table, or a push that is forgotten at once, would be a lie.
    """
    queue = app.queue(name)
    queue.capabilities.require(
        queue.settings.backend,
        "shared",
        f"what is on the queue {name!r} is known only to the process that pushed it, and ends with it",
    )
    return queue


def exit_code(error: BaseException) -> int:
    """The status for an error: was it asked wrongly, or did the work fail?"""
    return WRONG if isinstance(error, ConfigError | CapabilityError | JobError) else FAILED


def report(error: BaseException, *, debug: bool) -> int:
    """Say on stderr what went wrong, and return the status. The traceback is for who debugs."""
    if debug:
        traceback.print_exception(error)
    elif isinstance(error, HeadraceError):
        say_error(str(error))
    elif isinstance(error, OSError):
        say_error(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
    else:
        say_error(
            f"{type(error).__name__}: {error}\n"
            "This is a mistake in headrace, or in what it loaded. HEADRACE_DEBUG=1 shows where."
        )
    return exit_code(error)


def hush_broken_pipe() -> None:
    """Let nobody hear that who read our output has left, as in ``headrace list q | head``."""
    # Python flushes stdout once more at exit; into nothing, that cannot fail.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
