"""What a report says, field by field: the schema of ``report.json``.

Owns the structs and how they become JSON and come back. Whatever measures job queues can write
such a report, and is then shown, drawn and compared like ours: one `Participant` for each thing
that was measured, one `Measurement` for each participant, scenario and set of parameters, and in
it one `Run` for each time that this was done. Medians, ratios and the like are not stored: they are computed from
the runs, by `headrace_bench.statistics`.

Units stand in `ScenarioNote.figures`, so that a report explains itself. Times are seconds, and
latencies milliseconds.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

#: The version of this schema. It grows when a field changes its meaning or goes; a field that is added has a default.
SCHEMA: Final = 1

#: What a measurement is of. ``backend``: headrace on one of its backends. ``bare``: that backend's client library
#: without headrace. ``peer``: another job queue.
Kind = Literal["backend", "bare", "peer"]

#: Which way a figure gets better.
Better = Literal["higher", "lower"]

#: The value of a scenario's parameter.
Parameter = str | int | float | bool


class Figure(msgspec.Struct, frozen=True):
    """What one figure of a scenario is, for people and for `headrace_bench.compare`."""

    unit: str  #: "jobs/s", "ms", "% of a CPU", "commands/s", "MiB", "requests/job", "s"
    better: Better
    title: str = ""  #: what it is called in a table, where its name does not say it


class ScenarioNote(msgspec.Struct, frozen=True):
    """What a scenario measures."""

    title: str  #: a line for tables and charts
    about: str  #: a sentence or two: what is done, from when to when it is timed
    figures: Mapping[str, Figure]  #: by name; the first one is the figure that stands for the scenario


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured."""

    cpu: str  #: the processor's own name, "unknown" where the system does not tell
    cores: int  #: that this process may use
    memory: int  #: bytes
    kernel: str  #: system and release
    python: str


class Calibration(msgspec.Struct, frozen=True):
    """A fixed piece of work, done before and after every run: it takes longer where something disturbs the machine."""

    reference: float  #: seconds that it takes when nothing disturbs: the shortest of all that were seen in the session
    tolerance: float  #: a run beside which it took longer than this many times the reference counts as disturbed


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was measured."""

    name: str  #: unique in the report: "redis", "redis, bare", "celery (late acks)"
    kind: Kind
    broker: str  #: what carries the messages: "redis", "sqlite"; participants of one broker stand together
    versions: Mapping[str, str] = {}  #: of headrace, library, client and server, by name
    settings: Mapping[str, str] = {}  #: what was set otherwise than by default, without secrets
    durability: str = ""  #: in a line: what a job is safe from once its push has returned: "fsync at each commit"
    guarantee: str = ""  #: in a few words, beside the name in charts: "at least once", "at most once"
    after_kill: str = ""  #: what became of jobs whose worker got a ``kill -9``, tried and not assumed; empty: not tried
    bare: str = ""  #: the participant that is this one's bare client, to which ratios are taken; empty: there is none
    lacks: list[str] = []  #: what it cannot do of what a chooser may want, in words


class Run(msgspec.Struct, kw_only=True):
    """One time that a scenario was done. Without figures where it proved nothing."""

    round: int  #: from 0; runs of one round took place next to each other, so that ratios are taken within it
    figures: dict[str, float] = {}  #: by the names in `ScenarioNote.figures`; empty if ``error`` or ``lost``
    percentiles: list[tuple[float, float]] = []  #: of latencies: per cent, milliseconds; rising
    jobs: int = 0  #: how many were pushed
    lost: int = 0  #: jobs that never ran, or messages that were left over: by ids, and 0 in every run that counts
    duplicates: int = 0  #: runs of jobs beyond the first of each
    disturbed: bool = False  #: the calibration beside it was slow: something else used the machine
    calibration: float = 0.0  #: seconds: the slower one of the two calibrations beside it
    seconds: float = 0.0  #: that it took, everything included
    error: str = ""  #: why there are no figures: an exception in one line; empty if all went well


class Measurement(msgspec.Struct, kw_only=True):
    """All runs of one scenario with one set of parameters, by one participant."""

    scenario: str  #: a key of `Report.scenarios`
    participant: str  #: a `Participant.name`
    parameters: dict[str, Parameter] = {}  #: such as ``{"body": 100, "concurrency": 10, "handler": "async"}``
    runs: list[Run] = []
    complete: bool = False  #: every run that was asked for has been done; else what there is was saved on the way out


class Skip(msgspec.Struct, frozen=True, kw_only=True):
    """What was not measured because it cannot be, and why."""

    scenario: str
    participant: str
    parameters: dict[str, Parameter] = {}
    reason: str  #: names the capability, or what is missing on this machine


class Question(msgspec.Struct, frozen=True):
    """What somebody who chooses has asked: ``headrace bench --rate 200 --body 10kB``."""

    rate: float  #: jobs a second
    body: int  #: bytes


class Report(msgspec.Struct, kw_only=True):
    """Everything that one session measured."""

    schema: int = SCHEMA
    began: float  #: seconds since the epoch
    seconds: float = 0.0  #: that the session took
    size: Literal["quick", "full"]
    complete: bool = False  #: false: interrupted, or ended by an error; what there is counts nevertheless
    ended: str = ""  #: why it is not complete, in a line
    machine: Machine
    calibration: Calibration | None = None
    question: Question | None = None
    scenarios: dict[str, ScenarioNote] = {}  #: those that the measurements are of, by name
    participants: list[Participant] = []  #: in the order in which they are shown
    measurements: list[Measurement] = []
    skipped: list[Skip] = []


class UnreadableReport(Exception):
    """A file is no report, or one of a schema that this version does not know. The text is for people."""


def to_json(report: Report) -> bytes:
    """The report as a document for programs, indented for people."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def from_json(data: bytes) -> Report:
    """Raises `UnreadableReport`."""
    try:
        found = _SCHEMA_OF.decode(data).schema
        if found != SCHEMA:
            raise UnreadableReport(f"it has version {found} of the schema, and this headrace reads {SCHEMA}")
        return msgspec.json.decode(data, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableReport(f"it is no report of headrace bench: {error}") from None


def read(path: Path) -> Report:
    """The report in a file. Raises `UnreadableReport`, naming it, and `OSError`."""
    try:
        return from_json(path.read_bytes())
    except UnreadableReport as error:
        raise UnreadableReport(f"{path}: {error}") from None


@functools.cache
def json_schema() -> dict[str, Any]:
    """The JSON Schema of a report, made from the structs above."""
    return msgspec.json.schema(Report)


class _Schema(msgspec.Struct):
    """As much of any report as tells its version."""

    schema: int


_SCHEMA_OF: Final = msgspec.json.Decoder(_Schema)
