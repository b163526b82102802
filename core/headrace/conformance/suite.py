"""The kit as pytest tests: derive `DriverSuite`, name a harness, and each case is a test.

Owns nothing but the translation; pytest is not imported here, so that ``headrace conform`` does without it.
"""

import os
import unittest
from collections.abc import Callable
from typing import Any, Final

from headrace.conformance.case import Case, all_cases
from headrace.conformance.harness import Harness
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

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for case in all_cases():
            name = f"test_{case.name}"
            if not hasattr(cls, name):
                setattr(cls, name, _test(case))


def _test(case: Case) -> Callable[[Any, Any], None]:
    def test(self: Any, request: Any) -> None:
        __tracebackhide__ = True
        outcome = run_case(_harness(self, request), case, long=LONG in os.environ)
        if outcome.status == "skipped":
            raise unittest.SkipTest(outcome.reason or "")
        if outcome.status == "failed":
            raise AssertionError(outcome.told())

    test.__name__ = f"test_{case.name}"
    test.__doc__ = case.sentence
    return test


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
