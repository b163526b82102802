"""The kit on drivers that are broken on purpose: each is caught, and the case that catches it is named.

The short form runs the named case on each of them; the long form runs the whole kit, and tells
every case that noticed. The table is printed at the end: run it with ``-s`` to see it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from headrace.conformance.case import Case, all_cases
from headrace.conformance.outcome import Outcome
from headrace.conformance.runner import run_case, run_cases
from headrace.conformance.suite import LONG

from .mutations import MUTATIONS, MutantHarness

#: Side by side. Most of a case that fails is waiting for what does not come.
AT_ONCE: Final = 24

#: Seconds for all of the long form, which runs the kit more than a hundred times.
LONG_TIME: Final = 4 * 3600

CASES: Final[Mapping[str, Case]] = {case.name: case for case in all_cases()}

pytestmark = pytest.mark.timeout(LONG_TIME if LONG in os.environ else 300)


@pytest.fixture(scope="module")
def caught() -> Iterator[Mapping[str, Sequence[Outcome]]]:
    """The cases that failed, by the name of the mutation."""
    failed = _by_the_whole_kit() if LONG in os.environ else _by_the_named_cases()
    yield failed
    width = max(map(len, MUTATIONS))
    print(f"\n{'mutation':{width}}  caught by")
    for name, outcomes in failed.items():
        print(f"{name:{width}}  {', '.join(outcome.case for outcome in outcomes) or '-'}")


def _by_the_named_cases() -> dict[str, list[Outcome]]:
    def run(name: str) -> Outcome:
        return run_case(MutantHarness(name), CASES[MUTATIONS[name].case])

    beside = [name for name, mutation in MUTATIONS.items() if not CASES[mutation.case].alone]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = dict(zip(beside, pool.map(run, beside), strict=True))
    outcomes |= {name: run(name) for name in MUTATIONS if name not in outcomes}
    return {name: [outcomes[name]] if outcomes[name].status == "failed" else [] for name in MUTATIONS}


def _by_the_whole_kit() -> dict[str, list[Outcome]]:
    return {
        name: [
            outcome
            for outcome in run_cases(MutantHarness(name), CASES.values(), at_once=AT_ONCE)
            if outcome.status == "failed"
        ]
        for name in MUTATIONS
    }


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_broken_driver_is_caught_by_the_case_that_is_named(
    name: str, caught: Mapping[str, Sequence[Outcome]]
) -> None:
    MutantHarness(name).backend()  # it can be built: what failed is not that
    assert MUTATIONS[name].case in [outcome.case for outcome in caught[name]]


def test_the_sound_driver_passes_every_case_that_is_named() -> None:
    named = [CASES[name] for name in dict.fromkeys(mutation.case for mutation in MUTATIONS.values())]
    outcomes = list(run_cases(MutantHarness(), named, at_once=AT_ONCE))
    assert [outcome.told() for outcome in outcomes if outcome.status == "failed"] == []
