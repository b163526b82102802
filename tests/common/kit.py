"""Which cases of the kit the short form of the tests leaves to the long one."""

import os

from headrace.conformance.case import all_cases

#: Modules of the kit that are about workers: what differs between protocols, parsers and emulators is below them.
ABOUT_WORKERS = ("engine", "faults", "processes")


def left_to_the_long_form() -> set[str]:
    """The names of their tests; none where this is the long form."""
    if "HEADRACE_TEST_LONG" in os.environ:
        return set()
    return {f"test_{case.name}" for case in all_cases() if case.run.__module__.rpartition(".")[2] in ABOUT_WORKERS}
