"""``headrace worker``: run the jobs, in processes that a supervisor looks after."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from headrace import __version__
from headrace.app import Headrace
from headrace.cli.options import complete_queue
from headrace.cli.output import plural
from headrace.cli.session import DONE, FAILED, exit_code, session_of, shared_queue
from headrace.errors import ConfigError, HeadraceError
from headrace.log_fields import about_queue
from headrace.logs import LogFormatChoice, format_for, log_to_stderr

if TYPE_CHECKING:
    from headrace.groups import Group
    from headrace.health import Outlet
    from headrace.probes import Address
    from headrace.supervisor import Supervisor

EXAMPLES = (
    "headrace worker                   each enabled queue, by itself",
    "headrace worker high,low          one group: low when high is empty",
    "headrace worker high,low mail     two groups",
    "headrace worker --until-empty     work off what is there, then end",
    "headrace worker mail --processes 4 --concurrency 20",
    "headrace worker --health 8099     for probes: http://127.0.0.1:8099/live and /ready",
)

logger = logging.getLogger("headrace")

Level = Literal["debug", "info", "warning", "error", "critical"]


def worker(
    context: typer.Context,
    groups: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUEUES",
            help="Queues that share processes, joined by commas, first ones first; each enabled queue by itself, "
            "if none is named.",
            autocompletion=complete_queue,
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", help="Processes for each group; else as configured.", min=1)
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Handlers at once in each process; else as configured.", min=1)
    ] = None,
    max_messages: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Replace a process after so many messages; 0: never; else as configured.", min=0
        ),
    ] = None,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="End once nothing is waiting, delayed or reserved.")
    ] = False,
    log_level: Annotated[
        Level,
        typer.Option(
            metavar="LEVEL",
            envvar="HEADRACE_LOG_LEVEL",
            help="The least that is logged, on stderr: debug, info, warning, error or critical.",
        ),
    ] = "info",
    log_format: Annotated[
        LogFormatChoice,
        typer.Option(
            metavar="FORMAT",
            envvar="HEADRACE_LOG_FORMAT",
            help="How the log looks: plain, json, or auto, which is plain on a terminal and json elsewhere.",
        ),
    ] = "auto",
    health: Annotated[
        str | None,
        typer.Option(
            metavar="PORT|FILE",
            envvar="HEADRACE_HEALTH",
            help="Tell how the processes are: by HTTP at a port of this machine, or at HOST:PORT, or in a file.",
        ),
    ] = None,
) -> None:
    """Run jobs until told to stop.

    SIGTERM and Ctrl-C let running handlers end within their shutdown_timeout, and give back
    what has not started; a second one ends at once. A process that dies is started again,
    and what it held comes back within a lease.

    SIGHUP replaces the processes one by one, by such with fresh code and configuration; if a
    fresh one cannot work, the old ones stay. SIGTTIN gives each group a process more, SIGTTOU
    takes one away.

    A process that is stuck for longer than stall_seconds is told of, with the place where it is,
    and replaced if the configuration says so (on_stall).

    With --until-empty it exits with 1 if a backend stays out of reach for a minute.

    systemd is told how things are, if it has started this: Type=notify, WatchdogSec.
    """
    # Here, since what it brings along is for this command alone.
    from headrace.probes import HealthFile, read_place
    from headrace.supervisor import Supervisor
    from headrace.systemd import Systemd

    app = session_of(context).app
    place = None if not health else read_place(health)

    def read(app: Headrace) -> "list[Group]":
        chosen = choose(app, groups or [], processes=processes, concurrency=concurrency, max_messages=max_messages)
        announce(app, chosen)
        return chosen

    form = format_for(log_format, sys.stderr)
    log_to_stderr(log_level, form)
    try:
        with contextlib.ExitStack() as stack:
            outlets: list[Outlet] = []
            if (manager := Systemd.of(os.environ)) is not None:
                outlets.append(manager)
            if isinstance(place, Path):
                outlets.append(stack.enter_context(contextlib.closing(HealthFile(place))))
            supervisor = Supervisor(
                read(app),
                config=app.config.source,
                until_empty=until_empty,
                log_level=log_level,
                log_format=form,
                reread=lambda: read(Headrace.load(app.config.source)),
                outlets=outlets,
            )
            well = asyncio.run(_supervise(supervisor, place))
    except HeadraceError as error:
        if form == "plain":
            raise
        # Who collects lines of JSON is to find the last one, too.
        logger.critical("%s", error)
        raise typer.Exit(exit_code(error)) from error
    raise typer.Exit(DONE if well else FAILED)


def choose(
    app: Headrace,
    named: Sequence[str],
    *,
    processes: int | None = None,
    concurrency: int | None = None,
    max_messages: int | None = None,
) -> "list[Group]":
    """The groups to run: those named, such as ``high,low``, else one for each enabled queue."""
    from headrace.groups import group_of

    if named:
        wanted = [list(dict.fromkeys(filter(None, each.split(",")))) for each in named]
        if not all(wanted):
            raise ConfigError("a group names no queue; it is written as high,low, without spaces")
    else:
        wanted = [[each.name] for each in app.config.queues.values() if each.enabled]
        if not wanted:
            raise ConfigError(f"{app.config.describe()}: no queue is enabled, so there is nothing to do")
    return [
        group_of(
            [shared_queue(app, name).settings for name in names],
            processes=processes,
            concurrency=concurrency,
            max_messages=max_messages,
        )
        for names in wanted
    ]


def announce(app: Headrace, groups: "Sequence[Group]") -> None:
    """Say which configuration is used, and where each queue's messages are."""
    logger.info("headrace %s, configured by %s", __version__, app.config.describe())
    for group in groups:
        for name in group.queues:
            queue = app.queue(name)
            at_once = group.concurrency or queue.settings.concurrent.limit
            logger.info(
                "queue %s: %s at %s; %s, %d at once in each%s%s",
                name,
                queue.settings.backend,
                queue.place,
                plural(group.processes, "process", "processes"),
                at_once,
                f", together with {group.name}" if len(group.queues) > 1 else "",
                "" if queue.settings.enabled else "; not enabled in the configuration, but named here",
                extra=about_queue(name),
            )


async def _supervise(supervisor: "Supervisor", place: "Address | Path | None") -> bool:
    from headrace.probes import answering

    if place is None or isinstance(place, Path):
        return await _heeding_signals(supervisor)
    async with answering(place, supervisor.health):
        return await _heeding_signals(supervisor)


async def _heeding_signals(supervisor: "Supervisor") -> bool:
    loop = asyncio.get_running_loop()
    had_terminal = _has_terminal()

    def hang_up() -> None:
        # A terminal that is closed says so by the same signal; there, it means the end.
        if had_terminal and not _has_terminal():
            supervisor.stop()
        else:
            supervisor.reload()

    for number, act in (
        (signal.SIGTERM, supervisor.stop),
        (signal.SIGINT, supervisor.stop),
        (signal.SIGHUP, hang_up),
        (signal.SIGTTIN, supervisor.add),
        (signal.SIGTTOU, supervisor.remove),
    ):
        loop.add_signal_handler(number, act)
    return await supervisor.run()


def _has_terminal() -> bool:
    """Whether this process belongs to a terminal, and that is still there."""
    try:
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
