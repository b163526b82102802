"""``headrace demo``: everything at work on real files, in under 20 seconds.

Owns what is shown; what is done stands in `headrace.demo`. That is imported when the
command runs: importing it declares its jobs, which no other command should know.
"""

import asyncio
import re
import signal
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace.cli import info
from headrace.cli.messages import why
from headrace.cli.output import Cell, Column, console, note, on_terminal, plural, say, say_error, show_table
from headrace.cli.session import DONE, FAILED, INTERRUPTED
from headrace.printing import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from headrace.demo.counting import Found
    from headrace.demo.stage import Progress, Stage

EXAMPLES = (
    "headrace demo",
    "headrace demo ~/src",
)

#: Seconds between two lines of progress where there is no terminal.
_PLAIN_SECONDS: Final = 1.0
#: Files that are named when totals differ.
_MOST_NAMED: Final = 5

#: A line of a worker's log, as `headrace.logs` writes it.
_LOG_LINE: Final = re.compile(r"\S+ (?P<time>[\d:]{8})\S* (?P<level>[A-Z]+) \[(?P<process>\d+)\] (?P<message>.*)")
#: A message's id, and its queue's name: all are on one queue here, and each job's name says enough.
_ID: Final = re.compile(r" [0-9a-f]{32} on demo")
_STYLES: Final = {"WARNING": "yellow", "ERROR": "red"}


def demo(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH",
            help="A folder of files; Python's own library, if none is named.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """See it work: one job for each file of a folder, and five jobs that make trouble.

    Jobs are pushed, run by worker processes, retried, failed, timed out, recovered from a
    killed worker, and reloaded; what they counted is checked against a plain loop. All of it
    happens in a scratch folder, in less than 20 seconds, and nothing is left behind. Exits
    with 1 if the totals differ. It reads no configuration file; HEADRACE_BACKEND=redis, and
    HEADRACE__BACKENDS__REDIS__URL where that is needed, let it run on another backend.
    """
    from headrace.demo.counting import find_files
    from headrace.demo.stage import scratch_folder

    started = time.monotonic()
    root = (path or Path(sysconfig.get_path("stdlib"))).resolve()
    found = find_files(root)
    if not found.paths:
        raise typer.BadParameter(f"{root} holds no file that can be read.", param_hint="PATH")
    try:
        with scratch_folder() as folder:
            well = asyncio.run(_play(folder, root, found))
    except (KeyboardInterrupt, asyncio.CancelledError):
        note("Interrupted. The workers are stopped, and the scratch folder is removed.")
        raise typer.Exit(INTERRUPTED) from None
    say(f"\nThat took {time.monotonic() - started:.1f} s. The workers are stopped, and the scratch folder is removed.")
    raise typer.Exit(DONE if well else FAILED)


async def _play(folder: Path, root: Path, found: "Found") -> bool:
    """The whole demo; whether the jobs' totals were those of the plain loop."""
    from headrace.demo.stage import Late, Stage

    _end_on_signals()
    async with Stage(folder, found.paths) as stage:
        _introduce(stage, root, found)
        screen = _Screen()

        _step("Push", 'await app.queue("demo").push_many(jobs)')
        started = time.monotonic()
        await stage.push()
        say(f"{plural(len(stage.files), 'job')} stored in {time.monotonic() - started:.2f} s.")

        _step("Work", "headrace worker demo")
        try:
            stage.start_workers(screen.log)
            with screen.progress():
                await stage.until_settled(screen.show)

            _step("Look", "headrace info demo; headrace list demo --channel failed")
            await _show_channels(stage)

            _step("Mend and reload", "headrace reload demo --channel failed, and timeout")
            reloaded = await stage.mend_and_reload()
            with screen.progress():
                await stage.until_done(screen.show)
            say(f"{plural(reloaded, 'message')} moved back to waiting, and done.")
        except Late as error:
            say_error(str(error))
            await _show_channels(stage)
            return False
        await stage.stop_workers()

        _step("Check the totals", "the same files, counted by a plain loop in one process")
        return await _compare(stage)


def _end_on_signals() -> None:
    """Let SIGTERM and SIGHUP clean up as Ctrl-C does."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)


def _introduce(stage: "Stage", root: Path, found: "Found") -> None:
    from headrace.demo.stage import TROUBLE

    settings = stage.queue.settings
    left_out = f" (without {found.left_out:,} that are too large or too many)" if found.left_out else ""
    say(
        f"{len(found.paths):,} files of {found.size / 1e6:.0f} MB{left_out} become jobs:\n"
        f"  {printable(str(root))}\n"
        "A job reads one file, counts lines and tokens, and takes the SHA-256.\n"
        f"The jobs are on {settings.backend}, at {printable(stage.queue.place)}.\n"
        f"{settings.processes} worker processes run them, {settings.concurrent.limit} at once in each.\n\n"
        "Among them are five that make trouble:"
    )
    for trouble in TROUBLE:
        say(f"  {trouble.job_class.__name__:15} {trouble.does}")


def _step(title: str, command: str) -> None:
    """Open a part of the demo, with what one would write for it."""
    if on_terminal():
        from rich.text import Text

        console().print(Text.assemble("\n", (title, "bold cyan"), "   ", (command, "dim")))
    else:
        say(f"\n{title}   ({command})")


async def _show_channels(stage: "Stage") -> None:
    show_table(info.COLUMNS, info.rows_of(await info.look(stage.app, ["demo"])))
    resting = await stage.resting()
    if resting:
        say("")
        columns = (Column("channel"), Column("job", whole=True), Column("why"))
        show_table(columns, [(each.channel, printable(each.message.name), why(each)) for each in resting])


async def _compare(stage: "Stage") -> bool:
    from headrace.demo.counting import Totals
    from headrace.demo.stage import plain_counts

    started = time.monotonic()
    expected = await plain_counts(stage.files)
    seconds = time.monotonic() - started
    counted = stage.results.all()
    ours, theirs = Totals.of(counted.items()), Totals.of(expected.items())
    rows = [
        (name, Cell(jobs, "" if jobs == plain else "bold red"), plain)
        for name, jobs, plain in (
            ("files", f"{ours.files:,}", f"{theirs.files:,}"),
            ("bytes", f"{ours.size:,}", f"{theirs.size:,}"),
            ("lines", f"{ours.lines:,}", f"{theirs.lines:,}"),
            ("tokens", f"{ours.tokens:,}", f"{theirs.tokens:,}"),
            ("SHA-256 of all", ours.digest[:16], theirs.digest[:16]),
        )
    ]
    show_table(
        (Column(""), Column("by jobs", right=True), Column(f"by the loop, in {seconds:.1f} s", right=True)), rows
    )
    repeated = stage.results.repeated()
    if repeated:
        say(
            f"{plural(repeated, 'file was', 'files were')} counted more than once, after a worker died, and count once."
        )
    if ours == theirs:
        _verdict("The totals agree.")
        return True
    differing = sorted(path for path in expected if counted.get(path) != expected[path])
    say_error(
        f"the totals differ, by {plural(len(differing), 'file')} (did somebody change one meanwhile?):\n"
        + "\n".join(f"  {printable(path)}" for path in differing[:_MOST_NAMED])
    )
    return False


def _verdict(text: str) -> None:
    if on_terminal():
        from rich.text import Text

        console().print(Text.assemble(("✓ ", "bold green"), (text, "bold")))
    else:
        say(text)


class _Screen:
    """The workers' log, and how far they are: below it on a terminal, in lines between it elsewhere."""

    def __init__(self) -> None:
        self._console = console() if on_terminal() else None
        self._progress: Progress | None = None
        self._shown_at = 0.0

    def log(self, line: str) -> None:
        """Show a line of a worker's log. Tracebacks are left out; `headrace show` has them."""
        found = _LOG_LINE.fullmatch(line)
        if found is None:
            return
        text = f"{found['time']} [{found['process']}] {_ID.sub('', found['message'])}"
        if self._console is None:
            # That nobody reads any more is for `show` to find, which runs where it can end the demo.
            with suppress(BrokenPipeError):
                say(text)
        else:
            self._console.print(text, style=_STYLES.get(found["level"], "dim"))

    def show(self, progress: "Progress") -> None:
        """Note how far the jobs are."""
        changed, self._progress = progress != self._progress, progress
        now = time.monotonic()
        if self._console is None and changed and now - self._shown_at >= _PLAIN_SECONDS:
            self._shown_at = now
            say("; ".join(filter(None, (f"{progress.done:,} of {progress.total:,} done", _channels(progress)))))

    @contextmanager
    def progress(self) -> Iterator[None]:
        """While inside, keep the last `show` in sight."""
        if self._console is None:
            yield
            return
        from rich.live import Live

        with Live(console=self._console, get_renderable=self._render, refresh_per_second=10, transient=True):
            yield

    def _render(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        if self._progress is None:
            return ""
        done, total = self._progress.done, self._progress.total
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=total, completed=done, width=40), f"{done:,} of {total:,} done")
        return Group(bar, _channels(self._progress))


def _channels(progress: "Progress") -> str:
    return ", ".join(f"{count:,} {channel}" for channel, count in progress.channels.items() if count)
