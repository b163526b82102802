"""What ``headrace bench`` shows of each run while it measures: a bar on a terminal, and lines elsewhere."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from headrace.cli.output import console, on_terminal
from headrace.printing import printable

if TYPE_CHECKING:
    from headrace_bench.results import Run
    from headrace_bench.session import Step


class Lines:
    """Progress where there is no terminal: a line for each measurement that is complete, and for what went wrong."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def began(self, step: "Step") -> None:
        """Nothing to show yet."""

    def ended(self, step: "Step", run: "Run") -> None:
        if run.error:
            self._tell(printable(f"{_told(step)}: {run.error}"))
        elif step.round == step.rounds - 1:
            self._tell(f"{_told(step)}: {_figures(step, run)}")


class _Bar(Lines):
    """Progress on a terminal: how far it is, and what runs."""

    def __init__(self, tell: Callable[[str], None], advance: Callable[..., None]) -> None:
        super().__init__(tell)
        self._advance = advance
        self._done = 0

    def began(self, step: "Step") -> None:
        self._advance(completed=self._done, description=_told(step))
        self._done += 1

    def ended(self, step: "Step", run: "Run") -> None:
        if run.error:
            self._tell(printable(f"{_told(step)}: {run.error}"))


def _told(step: "Step") -> str:
    from headrace_bench.words import told

    words = told(step.parameters)
    return f"{step.scenario.note.title}{', ' if words else ''}{words}: {step.member.participant.name}"


def _figures(step: "Step", run: "Run") -> str:
    from headrace_bench.words import figure

    described = step.scenario.note.figures
    return ", ".join(
        f"{described[name].title or name} {figure(value)} {described[name].unit}" for name, value in run.figures.items()
    )


@contextlib.contextmanager
def progress(count: int, tell: Callable[[str], None]) -> Iterator[Lines]:
    """Show how so many runs go, until the end of the block."""
    if not on_terminal():
        yield Lines(tell)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    screen = console()
    # Seldom, since drawing takes a little of what is measured.
    with Progress(*columns, console=screen, transient=True, refresh_per_second=2) as bar:
        task = bar.add_task("", total=count)
        yield _Bar(lambda text: screen.print(text, style="red"), lambda **words: bar.update(task, **words))
