"""The kit as pytest tests: derive `DriverSuite`, name a harness, and each case is a test.

Owns nothing but the translation; pytest is not imported here, so that ``headrace conform`` does without it.
"""

import os
import unittest
from collections.abc import Callable
from typing import Any, Final

from headrace.conformance.batch import Batch
from headrace.conformance.case import Case, all_cases
from headrace.conformance.harness import Harness
from headrace.conformance.outcome import Outcome
from headrace.conformance.runner import run_case

#: Set it in the environment to run the long cases as well.
LONG: Final = "HEADRACE_TEST_LONG"


class DriverSuite:
    """Every case of the kit as a test method. Name the harness as a class, or as a fixture called ``harness``.

    ::

        class TestLedger(DriverSuite):
            harness = LedgerHarness

    A case that a backend's capabilities leave nothing to prove is a skip which names the capability.
    """

    #: A `Harness`, a class of one, or a fixture that gives one: in the class, its module or ``conftest.py``.
    harness: Any = None

    #: How many cases run side by side, ahead of the tests that show their outcomes. With more than 1 all of them
    #: share one harness, each with a folder of its own: as a fixture it needs the scope of the class, or a wider one.
    at_once: int = 1

    _batch: Batch | None = None

    @classmethod
    def teardown_class(cls) -> None:
        """For pytest: end what still runs, after a test run that was cut short."""
        if cls._batch is not None:
            cls._batch.close()
            cls._batch = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for case in all_cases():
            name = f"test_{case.name}"
            if not hasattr(cls, name):
                setattr(cls, name, _test(case))


def _test(case: Case) -> Callable[[Any, Any], None]:
    def test(self: Any, request: Any) -> None:
        __tracebackhide__ = True
        outcome = _outcome(self, request, case)
        if outcome.status == "skipped":
            raise unittest.SkipTest(outcome.reason or "")
        if outcome.status == "failed":
            raise AssertionError(outcome.told())

    test.__name__ = f"test_{case.name}"
    test.__doc__ = case.sentence
    return test


def _outcome(suite: DriverSuite, request: Any, case: Case) -> Outcome:
    kind, long = type(suite), LONG in os.environ
    if kind.at_once <= 1:
        return run_case(_harness(suite, request), case, long=long)
    batch = kind._batch
    harness = batch.harness if batch is not None and isinstance(kind.harness, type) else _harness(suite, request)
    if batch is None or batch.harness is not harness:
        kind.teardown_class()
        chosen = {item.originalname for item in request.session.items if item.cls is kind}
        cases = [each for each in all_cases() if f"test_{each.name}" in chosen]
        batch = kind._batch = Batch(harness, cases, at_once=kind.at_once, long=long)
    return batch.outcome(case)


def _harness(suite: Any, request: Any) -> Harness:
    """The harness of a suite, however it is named."""
    named = type(suite).harness
    if isinstance(named, type):
        named = named()
    if not isinstance(named, Harness):
        named = request.getfixturevalue("harness")
    if not isinstance(named, Harness):
        raise TypeError(f"{type(suite).__name__}: harness is {named!r}, not a headrace.conformance.Harness")
    return named
