"""``headrace bench``: backends side by side, measured, as tables, JSON and charts.

Owns what is asked and shown; what is done stands in ``headrace_bench``, which is imported when the command runs, as it
needs what only the extra ``bench`` brings.
"""

import contextlib
import importlib.util
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headrace.cli.bench_progress import progress
from headrace.cli.options import Json, complete_backend, read_options
from headrace.cli.output import Cell, Column, note, plural, say, show_table
from headrace.cli.session import DONE, FAILED, INTERRUPTED, session_of
from headrace.errors import ConfigError
from headrace.printing import printable
from headrace.tables import show, suggest

if TYPE_CHECKING:
    from headrace_bench.participants import Absent, Member
    from headrace_bench.results import Question, Report
    from headrace_bench.scenario import Parameters, Scenario
    from headrace_bench.session import Session
    from headrace_bench.sizes import Size
    from headrace_bench.tables import Table

EXAMPLES = (
    "headrace bench --quick",
    "headrace bench redis sqlite --start-servers --scenario consume",
    "headrace bench --rate 200 --body 10kB",
    "headrace bench compare before/report.json headrace-bench/report.json",
)

#: In place of backends: two reports follow.
COMPARE: Final = "compare"

#: What the extra brings, as modules: without one of them nothing is measured.
_NEEDED: Final = ("matplotlib", "psutil")

#: How a table's cells look on a terminal.
_STYLES: Final = {"bad": "bold red", "remark": "dim"}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command was given, checked."""

    names: Sequence[str]
    options: dict[str, Any]
    start_servers: bool
    scenarios: "Sequence[tuple[Scenario, Sequence[Parameters]]]"
    question: "Question | None"
    size: "Size"
    runs: int | None
    output: Path


def bench(
    context: typer.Context,
    backend: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BACKEND",
            help="Installed or configured backends; all that can be reached, if none is named. "
            f"Or: {COMPARE} OLD.json NEW.json.",
            autocompletion=complete_backend,
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: a look, in about two minutes.")] = False,
    scenario: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this scenario; may be repeated.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="N", help="Which backend is for so many jobs a second? Measures what tells."),
    ] = None,
    body: Annotated[
        str | None, typer.Option(metavar="SIZE", help="With --rate: the size of a job's body, as in 10kB.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of the one backend that is named; may be repeated."),
    ] = None,
    start_servers: Annotated[
        bool,
        typer.Option("--start-servers", help="Start private brokers of those programs that are here, and end them."),
    ] = False,
    runs: Annotated[int | None, typer.Option(min=1, metavar="N", help="How often everything is measured.")] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where the report goes: JSON, a page, charts.")] = Path(
        "headrace-bench"
    ),
    listing: Annotated[bool, typer.Option("--list", help="List the scenarios, and measure nothing.")] = False,
    json: Json = False,
) -> None:
    """Measure backends side by side, beside their bare clients, every job accounted for.

    Each run proves by ids that every job ran and nothing is left over; what lost one shows LOST in place of a figure.
    Only queues that the suite makes are touched, and they are removed again; a relative path starts from a scratch
    folder within the output. Exits with 1 if a run failed or lost a job, or, comparing, if something got worse.
    """
    _require_extra()
    names = backend or []
    if names[:1] == [COMPARE]:
        _compare(names[1:])
    if listing:
        _list_scenarios()
        raise typer.Exit(DONE)
    if option and len(names) != 1:
        raise typer.BadParameter("it belongs to one backend: name that, and no other.", param_hint="--option")
    question = _question(rate, body)
    asked = _Asked(
        names=names,
        options=read_options(option or []),
        start_servers=start_servers,
        scenarios=_chosen(scenario or [], question, quick),
        question=question,
        size=_size(quick),
        runs=runs,
        output=output,
    )
    with _ended_by_sigterm():
        raise typer.Exit(_measure(context, asked, as_json=json))


def _require_extra() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"bench needs {' and '.join(missing)}: pip install 'headrace[bench]'")


# What is asked


def _size(quick: bool) -> "Size":
    from headrace_bench.sizes import FULL, QUICK

    return QUICK if quick else FULL


def _question(rate: float | None, body: str | None) -> "Question | None":
    from headrace_bench.results import Question
    from headrace_bench.scenario import BODY
    from headrace_bench.words import parse_size

    if rate is None:
        if body is not None:
            raise typer.BadParameter("it goes with --rate.", param_hint="--body")
        return None
    try:
        return Question(rate, BODY if body is None else parse_size(body))
    except ValueError:
        raise typer.BadParameter(f"{body!r} is no size, such as 100B or 10kB.", param_hint="--body") from None


def _chosen(
    names: Sequence[str], question: "Question | None", quick: bool
) -> "Sequence[tuple[Scenario, Sequence[Parameters]]]":
    """The scenarios with their parameters."""
    from headrace_bench import choosing
    from headrace_bench.scenarios import SCENARIOS

    if question is not None:
        if names:
            raise typer.BadParameter("--rate says itself what is measured.", param_hint="--scenario")
        return choosing.scenarios(question)
    known = {each.name: each for each in SCENARIOS}
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"there is no {show(name)}; {suggest(name, known)}", param_hint="--scenario")
    return [(each, each.variants(_size(quick))) for each in SCENARIOS if not names or each.name in names]


def _list_scenarios() -> None:
    from headrace_bench.scenarios import SCENARIOS

    columns = (Column("scenario", whole=True), Column("what is done"))
    show_table(columns, [(each.name, each.note.about) for each in SCENARIOS])


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM clean up as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# Measuring


def _measure(context: typer.Context, asked: _Asked, *, as_json: bool) -> int:
    """Find who takes part, measure, save and show; the exit code."""
    from headrace_bench.participants import Gathering
    from headrace_bench.session import Session

    tell = note if as_json else say
    try:
        asked.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{asked.output}: {error.strerror}", param_hint="--output") from None
    # Not where temporary files are: that may be in memory, where to write safely costs nothing.
    scratch = Path(tempfile.mkdtemp(prefix=".scratch-", dir=asked.output)).resolve()
    session: Session | None = None
    code = FAILED
    try:
        with Gathering(session_of(context).app, scratch, start_servers=asked.start_servers) as gathering:
            gathering.check(asked.names)
            members, absent = _gather(gathering.members(asked.names, asked.options), tell)
            if not members:
                tell("There is nothing to measure.")
                return FAILED
            session = Session(
                members=members,
                scenarios=asked.scenarios,
                size=asked.size,
                runs=asked.runs,
                folder=scratch,
                absent=absent,
                question=asked.question,
            )
            _run(session, asked.output, tell)
            code = FAILED if session.failed else DONE
    except KeyboardInterrupt:
        code = INTERRUPTED
        tell("Interrupted. What was measured until now is saved.")
        if session is not None:
            session.report.ended = "interrupted"
    finally:
        with _undisturbed():
            shutil.rmtree(scratch, ignore_errors=True)
            if session is not None:
                _finish(session.report, asked.output, as_json=as_json)
    return code


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let a second Ctrl-C not end what the first one began."""
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _gather(
    found: "Iterator[list[Member] | Absent]", tell: Callable[[str], None]
) -> "tuple[list[Member], list[Absent]]":
    members: list[Member] = []
    absent: list[Absent] = []
    for each in found:
        if isinstance(each, list):
            members += each
            described = each[0].participant
            tell(printable(f"{described.name}: {described.guarantee}; {described.durability}"))
        else:
            absent.append(each)
            tell(printable(f"{each.name}: not measured: {each.reason}"))
    return members, absent


def _run(session: "Session", output: Path, tell: Callable[[str], None]) -> None:
    from headrace_bench.saving import save_report

    plan = session.plan()
    tell(f"{plural(len(plan), 'run')} of {plural(len(session.scenarios), 'scenario')}\n")
    with progress(len(plan), tell) as shown, contextlib.closing(session.run()) as running:
        for step, run in running:
            if run is None:
                shown.began(step)
            else:
                shown.ended(step, run)
                save_report(session.report, output)


def _finish(report: "Report", output: Path, *, as_json: bool) -> None:
    from headrace_bench import choosing, tables
    from headrace_bench.results import to_json
    from headrace_bench.saving import CHARTS, PAGE, REPORT, save

    save(report, output)
    if as_json:
        say(to_json(report).decode().rstrip())
        return
    for table in tables.of_scenarios(report):
        _show(table)
    _show(tables.of_participants(report))
    if report.skipped:
        _show(tables.of_skips(report))
    if report.question is not None:
        _show(choosing.answer(report, report.question))
    say(f"\n{report.seconds:.0f} s; {output / PAGE}, {output / REPORT}, {output / CHARTS}")
    if not report.complete:
        say(f"INCOMPLETE: {report.ended or 'ended by an error'}")


def _show(table: "Table") -> None:
    say(f"\n{table.title}" + (f"\n{table.about}" if table.about else "") + "\n")
    columns = [Column(title, right=place in table.figures) for place, title in enumerate(table.columns)]
    show_table(
        columns, [[Cell(printable(each.text), _STYLES.get(each.kind, "")) for each in row] for row in table.rows]
    )


# Comparing


def _compare(files: Sequence[str]) -> None:
    """Say what changed from one report to another. Exits with 1 if something was lost."""
    from headrace_bench import compare
    from headrace_bench.results import UnreadableReport, read

    if len(files) != 2:
        raise typer.BadParameter(f"{COMPARE} takes two reports: OLD.json NEW.json.")
    try:
        old, new = (read(Path(each)) for each in files)
    except OSError as error:
        raise typer.BadParameter(f"{error.filename}: {error.strerror}.") from None
    except UnreadableReport as error:
        raise typer.BadParameter(f"{error}.") from None
    if old.machine != new.machine or old.size != new.size:
        note("The two are of different machines or sizes: what differs may be due to that.")
    changes = compare.compare(old, new)
    if changes:
        _show(compare.table(changes))
    else:
        say("Nothing changed beyond the noise.")
    raise typer.Exit(FAILED if any(each.is_loss for each in changes) else DONE)
