"""The search for calls that a backend answers wrongly: what it tells, and what it does with less than memory can."""

import asyncio
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from headrace.conformance import Harness, PluginHarness, search
from headrace.conformance.outcome import Outcome
from headrace.conformance.runner import run_case, select
from headrace.driver import Backend, Capabilities, Channel
from headrace.errors import BackendUnavailable
from headrace.testing.clock import FakeClock
from headrace_memory.backend import CAPABILITIES, MemoryBackend
from headrace_memory.driver import MemoryDriver

from .mutations import MutantHarness

(CALLS,) = select(["random_calls_are_answered_as_by_the_reference"])
(CALLS_AND_TIMES,) = select(["random_calls_and_times_are_answered_as_by_the_reference"])

NONE: Final[frozenset[Channel]] = frozenset()

#: Capabilities that other backends lack, one kind of them after the other.
LESS: Final[Sequence[dict[str, Any]]] = (
    {"ordered": False},
    {"counts": "approximate"},
    {"counts": "unknown", "peek": NONE, "cancel": False, "selective": NONE, "unique": False, "idempotent": False},
    {"ordered": False, "counts": "approximate", "peek": NONE, "max_batch": 3, "max_delay": 900.0},
    {"peek": frozenset({"failed", "timeout"}), "selective": frozenset({"timeout"})},
    {"leases": "connection", "max_delay": 5.0},
)


class OddHarness(Harness):
    """The memory backend with other claims, and with a driver that does worse than it."""

    def __init__(self, driver: type[MemoryDriver] = MemoryDriver, **claims: Any) -> None:
        self._driver = driver
        self._claims = claims

    def backend(self) -> Backend:
        return _Odd(self._driver, self._claims)

    def controlled(self, clock: FakeClock) -> Backend:
        return _Odd(self._driver, self._claims, clock)


class _Odd(MemoryBackend):
    def __init__(self, driver: type[MemoryDriver], claims: dict[str, Any], *clock: FakeClock) -> None:
        super().__init__(*clock)
        self._odd_driver = driver
        self._claims = claims

    @property
    def capabilities(self) -> Capabilities:
        return dataclasses.replace(CAPABILITIES, **self._claims)

    def clone(self) -> MemoryBackend:
        return self

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> MemoryDriver:
        return self._odd_driver(self._store, prefix, lease_seconds)


def calls(outcome: Outcome) -> list[str]:
    """The calls of a failure, without their times."""
    assert outcome.status == "failed"
    return [line[9:] for line in outcome.calls]


@pytest.mark.parametrize("claims", LESS, ids=[",".join(claims) for claims in LESS])
def test_a_backend_is_asked_for_no_more_than_it_claims(claims: dict[str, Any]) -> None:
    for case in (CALLS, CALLS_AND_TIMES):
        outcome = run_case(OddHarness(**claims), case)
        assert outcome.status == "passed", outcome.told()


def test_a_failure_is_told_by_the_few_calls_that_lead_to_it() -> None:
    outcome = run_case(MutantHarness("a stale receipt is said to have worked"), CALLS)
    assert calls(outcome) == [
        "queue.push([a]) -> [a]",
        "queue.pop(1, wait=1) -> [a count=1]",
        "queue.ack([a]) -> [DONE]",
        "queue.ack([a]) -> [DONE]",
        "(found by the seed 0)",
    ]
    assert (outcome.reason, outcome.expected, outcome.found) == ("what ack answers", "['STALE']", "['DONE']")


def test_time_that_passed_is_told_among_the_calls() -> None:
    outcome = run_case(MutantHarness("leases never end"), CALLS_AND_TIMES)
    assert calls(outcome) == [
        "queue.push([a]) -> [a]",
        "queue.pop(1, wait=1) -> [a count=1]",
        "(30 s pass)",
        "(found by the seed 0)",
    ]
    assert outcome.reason == "the counts after that"


class RaisingDriver(MemoryDriver):
    async def flush(self, channel: Channel) -> int:
        raise BackendUnavailable("no flush today")


def test_an_error_of_the_driver_is_told_with_the_call_that_raised_it() -> None:
    outcome = run_case(OddHarness(RaisingDriver), CALLS)
    assert outcome.reason == "raised BackendUnavailable: no flush today"
    assert calls(outcome)[-2:] == [
        "queue.flush('waiting') -> raised BackendUnavailable: no flush today",
        "(found by the seed 0)",
    ]


class SilentDriver(MemoryDriver):
    async def flush(self, channel: Channel) -> int:
        await asyncio.Event().wait()
        return 0


def test_a_call_that_never_ends_is_given_up_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "HANGING", 0.05)
    outcome = run_case(OddHarness(SilentDriver), CALLS)
    assert (outcome.reason, outcome.found) == ("the last call", "it has not ended after 0.05 s")
    assert calls(outcome)[-2] == "queue.flush('waiting') -> cancelled"


class MoodyDriver(MemoryDriver):
    """Wrong once, and never again."""

    wrong = True

    async def flush(self, channel: Channel) -> int:
        flushed = await super().flush(channel)
        was_wrong, MoodyDriver.wrong = MoodyDriver.wrong, False
        return flushed + was_wrong


def test_a_failure_that_does_not_come_again_is_told_as_such() -> None:
    MoodyDriver.wrong = True
    outcome = run_case(OddHarness(MoodyDriver), CALLS)
    assert outcome.reason == "how many messages flush deleted"
    assert calls(outcome)[-1] == "(found by the seed 0; when it was tried again, there was nothing wrong)"


def test_the_long_form_goes_on_from_seed_to_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LONG", 3.0)
    monkeypatch.setattr(search, "SCRIPTS", 10)
    monkeypatch.setenv(search.SEED, "7")
    outcome = run_case(MutantHarness("a stale receipt is said to have worked"), CALLS, long=True)
    assert "(found by the seed " in calls(outcome)[-1]
    assert run_case(PluginHarness("memory"), CALLS, long=True).status == "passed"


def test_without_hypothesis_the_case_fails_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "headrace.conformance.search")
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    outcome = run_case(PluginHarness("memory"), CALLS)
    assert (outcome.status, outcome.found) == ("failed", "no hypothesis is installed")
    assert outcome.expected == "hypothesis (pip install 'headrace[conformance]')"


def test_nothing_is_left_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_case(PluginHarness("memory"), CALLS).status == "passed"
    assert list(tmp_path.iterdir()) == []
