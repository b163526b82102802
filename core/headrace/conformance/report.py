"""The scored report of a run: for a terminal, as JSON, and as a table for a README.

The JSON document is a `Report`, field by field; ``schema`` is its version, which grows when a
field changes its meaning. `json_schema` describes it in the words of JSON Schema.
"""

import platform
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, get_args

import msgspec

from headrace import __version__
from headrace.conformance.case import CLAIMABLE, Capability, declares
from headrace.conformance.outcome import Outcome
from headrace.conformance.promises import Promise
from headrace.driver import Backend, Capabilities

#: The version of the JSON document.
SCHEMA: Final = 1

Verdict = Literal["proved", "disproved", "untested", "not claimed", "not claimed, but honoured"]


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """How many cases ended how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0


class PromiseScore(msgspec.Struct, frozen=True, kw_only=True):
    """One promise's cases."""

    promise: str
    title: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a run found."""

    schema: int
    backend: str  #: the plugin's name
    distribution: str  #: who offers it, with its version
    place: str
    versions: dict[str, str]  #: headrace, kit, Python, and what the backend told of client and server
    platform: str
    began: float  #: seconds since the epoch
    seconds: float
    long: bool
    chosen: bool  #: whether some cases were left out, so that a verdict on a capability is partial
    score: Score
    promises: list[PromiseScore]
    capabilities: dict[str, Any]  #: as claimed; what has no limit is null
    proved: dict[str, Verdict]  #: of each capability that is a yes or a no, or a yes for some channels
    cases: list[Outcome]

    @property
    def conforms(self) -> bool:
        return not self.score.failed and bool(self.score.passed)


def make_report(
    backend: Backend,
    outcomes: Sequence[Outcome],
    *,
    name: str,
    distribution: str,
    versions: dict[str, str],
    kit: int,
    began: float,
    long: bool,
    chosen: bool,
) -> Report:
    """Score the outcomes. ``began``: when the run did, in seconds since the epoch; ``chosen``: not all cases ran."""
    capabilities = backend.capabilities
    return Report(
        schema=SCHEMA,
        backend=name,
        distribution=distribution,
        place=backend.place,
        versions={"headrace": __version__, "kit": str(kit), "python": platform.python_version(), **versions},
        platform=platform.platform(),
        began=began,
        seconds=round(time.time() - began, 1),
        long=long,
        chosen=chosen,
        score=Score(**_count(outcomes)),
        promises=[
            PromiseScore(promise=promise.key, title=promise.value, **_count(mine))
            for promise in Promise
            if (mine := [outcome for outcome in outcomes if outcome.promise == promise.key])
        ],
        capabilities=capabilities.as_object(),
        proved={name: _verdict(name, capabilities, outcomes) for name in get_args(Capability)},
        cases=list(outcomes),
    )


def _count(outcomes: Iterable[Outcome]) -> dict[str, int]:
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for outcome in outcomes:
        counts[outcome.status] += 1
    return counts


def _verdict(name: Capability, capabilities: Capabilities, outcomes: Iterable[Outcome]) -> Verdict:
    """What the cases that need a capability say of it, or, where it is not claimed, those that refute it.

    One that is claimed for some channels is disproved, too, where it is honoured for another.
    """
    about = [outcome.status for outcome in outcomes if _concerns(name, outcome.needs)]
    refuted = any(outcome.status == "failed" and _concerns(name, outcome.lacks) for outcome in outcomes)
    if not declares(capabilities, name):
        return "not claimed, but honoured" if refuted else "not claimed"
    if refuted or "failed" in about:
        return "disproved"
    return "proved" if "passed" in about else "untested"


def _concerns(name: Capability, needs: Iterable[str]) -> bool:
    return any(need.partition(":")[0] == name for need in needs)


def to_json(report: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the document that `to_json` writes."""
    return msgspec.json.schema(Report)


def to_markdown(report: Report) -> str:
    """A table for the backend's README."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    score = report.score
    lines = [
        f"`headrace conform {report.backend}`: {score.passed} passed, {score.failed} failed, {score.skipped} skipped.",
        f"With {versions}.{' Not all cases were run.' if report.chosen else ''}",
        "",
        "| promise | passed | failed | skipped |",
        "|---|---:|---:|---:|",
        *(f"| {each.title} | {each.passed} | {each.failed} | {each.skipped} |" for each in report.promises),
        "",
        "| capability | claimed | verdict |",
        "|---|---|---|",
        *(
            f"| {name.replace('_', ' ')} | {claim(report, name)} | {verdict} |"
            for name, verdict in report.proved.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def claim(report: Report, name: str) -> str:
    """What the backend claims of a capability: yes, no, or the channels where it is not all of them."""
    if report.proved[name].startswith("not"):
        return "no"
    channels = report.capabilities.get(name)
    if not isinstance(channels, list) or CLAIMABLE[name] <= {*channels}:
        return "yes"
    return ", ".join(channels)
