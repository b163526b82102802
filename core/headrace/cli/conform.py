"""``headrace conform``: the conformance kit against an installed backend, with a scored report."""

import asyncio
import contextlib
import logging
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace.app import Headrace
from headrace.cli.options import complete_backend, read_options
from headrace.cli.output import Cell, Column, Row, console, on_terminal, plural, say, show_table
from headrace.cli.session import DONE, FAILED
from headrace.driver import Backend
from headrace.errors import UnknownBackend
from headrace.printing import printable_block
from headrace.tables import show, suggest

if TYPE_CHECKING:
    from headrace.conformance.case import Case
    from headrace.conformance.outcome import Outcome
    from headrace.conformance.report import Report

EXAMPLES = (
    "headrace conform sqlite",
    "headrace conform redis --option url=redis://127.0.0.1:6379/9",
    "headrace conform ledger --case 'a_stale_*' --json report.json",
)

#: Seconds after which a backend that does not open is asked no further for its versions: the cases tell of it.
OPENING: Final = 10.0


def conform(
    context: typer.Context,
    backend: Annotated[
        str, typer.Argument(metavar="BACKEND", help="An installed backend's name.", autocompletion=complete_backend)
    ],
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="An option of the backend's; may be repeated. Values as in TOML, or text."
        ),
    ] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this case; may be repeated, and have wildcards (*)."),
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", help="The long form too: millions of messages, more random calls.")
    ] = False,
    tick: Annotated[
        float,
        typer.Option(
            min=0.01, metavar="SECONDS", help="The shortest time that the backend tells apart on this machine."
        ),
    ] = 0.25,
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Cases to run side by side; by default as many as the server bears.",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write the tables as Markdown.")
    ] = None,
) -> None:
    """Prove that a backend keeps the contract, case by case.

    Takes the backend as it is installed, with the given options and none of the
    configuration's. Only queues that the kit makes are touched, and they are removed again; a
    relative path starts from a scratch folder. Exits with 1 if a case failed.
    """
    # The kit is imported when it is used: no other command should pay for it.
    from headrace.conformance import KIT, PluginHarness
    from headrace.conformance.probing import bearable
    from headrace.conformance.report import make_report, to_json, to_markdown
    from headrace.conformance.runner import UnknownCase, run_cases, select

    for file in (json_file, markdown_file):
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            raise typer.BadParameter(f"{file} is no file that could be written.")
    app = Headrace({})
    installed = {each.name: each for each in app.registry.names()}
    if backend not in installed:
        raise UnknownBackend(f"no backend {show(backend)} is installed; {suggest(backend, installed)}")
    harness = PluginHarness(backend, read_options(option or []), tick=tick)
    try:
        cases = select(case or [])
    except UnknownCase as error:
        raise typer.BadParameter(f"no case is named {error}.", param_hint="--case") from None
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="headrace-conform-") as folder:
        harness.folder = Path(folder)
        tested = harness.backend()
        versions = asyncio.run(_versions(tested))
    at_once = at_once or bearable(harness)
    side_by_side = "one after the other" if at_once == 1 else f"up to {at_once} side by side"
    say(printable_block(f"{installed[backend]}: {plural(len(cases), 'case')} against {tested.place}, {side_by_side}"))
    outcomes: list[Outcome] = []
    # Cases break things on purpose; what the engine logs of that is no news.
    logging.getLogger("headrace").addHandler(logging.NullHandler())
    logging.getLogger("headrace").propagate = False
    with (
        _progress(len(cases)) as progress,
        contextlib.closing(run_cases(harness, cases, long=long, at_once=at_once, began=progress.began)) as running,
    ):
        for outcome in running:
            outcomes.append(outcome)
            progress.ended(outcome)
    order = {each.name: place for place, each in enumerate(cases)}
    outcomes.sort(key=lambda outcome: order[outcome.case])
    report = make_report(
        tested,
        outcomes,
        name=backend,
        distribution=str(installed[backend]),
        versions=versions,
        kit=KIT,
        began=began,
        long=long,
        chosen=bool(case),
    )
    _print(report)
    for file, content in ((json_file, to_json(report)), (markdown_file, to_markdown(report).encode())):
        if file is not None:
            file.write_bytes(content)
    raise typer.Exit(DONE if report.conforms else FAILED)


async def _versions(backend: Backend) -> dict[str, str]:
    """Versions of client and server; of the client alone if the backend cannot be opened, which the cases tell."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(OPENING):
            await backend.open()
    try:
        return dict(backend.versions)
    finally:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(OPENING):
                await backend.close()


class _Lines:
    """Progress where there is no terminal: failures as they come."""

    def began(self, case: "Case") -> None:
        """Nothing to show yet."""

    def ended(self, outcome: "Outcome") -> None:
        if outcome.status == "failed":
            say(f"FAILED {outcome.case}")


class _Bar(_Lines):
    """Progress on a terminal: how far it is, what failed, and what runs."""

    def __init__(self, advance: Callable[[str], None]) -> None:
        self._advance = advance
        self._lock = threading.Lock()
        self._running: dict[str, None] = {}
        self._failed = 0

    def began(self, case: "Case") -> None:
        with self._lock:
            self._running[case.name] = None

    def ended(self, outcome: "Outcome") -> None:
        with self._lock:
            self._running.pop(outcome.case, None)
            self._failed += outcome.status == "failed"
            failed = f"{self._failed} failed; " if self._failed else ""
            self._advance(f"{failed}{next(iter(self._running), '')}")


@contextlib.contextmanager
def _progress(count: int) -> Iterator[_Lines]:
    if not on_terminal():
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    # Seldom, since a case measures what this process does while the backend is idle.
    with Progress(*columns, console=console(), transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("", total=count)
        yield _Bar(lambda text: progress.update(task, advance=1, description=text))


def _print(report: "Report") -> None:
    failures = [outcome for outcome in report.cases if outcome.status == "failed"]
    for outcome in failures:
        say(f"\nFAILED {printable_block(outcome.told())}")
    say("")
    rows: list[Row] = [
        (
            Cell(each.title, "red" if each.failed else ""),
            str(each.passed),
            Cell(str(each.failed), "bold red" if each.failed else "dim"),
            Cell(str(each.skipped), "dim"),
        )
        for each in report.promises
    ]
    counts = [Column("passed", right=True), Column("failed", right=True), Column("skipped", right=True)]
    show_table([Column("promise"), *counts], rows)
    say("")
    claims: list[Row] = [
        (_claimed(report, name), Cell(verdict, _STYLES.get(verdict, "bold red")))
        for name, verdict in report.proved.items()
    ]
    show_table([Column("capability"), Column("by the chosen cases" if report.chosen else "as proved")], claims)
    reasons = Counter(outcome.reason for outcome in report.cases if outcome.status == "skipped")
    if reasons:
        say("\nSkipped is what")
    for reason, count in reasons.most_common():
        say(f"  {reason}: {plural(count, 'case')}")
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    say(f"\n{versions}; {report.seconds:g} s")
    score = report.score
    verdict = "does NOT conform" if failures else "proved nothing"
    if report.conforms:
        verdict = "keeps what the chosen cases ask" if report.chosen else "conforms"
    say(f"{report.backend} {verdict}: {score.passed} passed, {score.failed} failed, {score.skipped} skipped")


def _claimed(report: "Report", name: str) -> str:
    """A capability, with its channels where it is claimed for some."""
    from headrace.conformance.report import claim

    said = claim(report, name)
    return name.replace("_", " ") + (f" ({said})" if said not in ("yes", "no") else "")


_STYLES: Final = {"proved": "green", "untested": "yellow", "not claimed": "dim"}
