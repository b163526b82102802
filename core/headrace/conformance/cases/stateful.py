"""Random calls: the backend and the reference tell their callers the same.

The search itself stands in ``headrace.conformance.search``, and needs hypothesis, whose state is
the process's: it sets the seed of `random`. So these cases run alone.
"""

from typing import TYPE_CHECKING, Final

from headrace.conformance.case import case
from headrace.conformance.lab import Lab, Mismatch
from headrace.conformance.promises import Promise

if TYPE_CHECKING:
    from headrace.testing.clock import FakeClock

#: Seconds. The long form searches for one and a half minutes, and what it finds is then made shorter.
TIME_LIMIT: Final = 180.0


@case(Promise.SAME, alone=True, time_limit=TIME_LIMIT)
def random_calls_are_answered_as_by_the_reference(lab: Lab) -> None:
    """Whatever is called in whatever order, the backend answers as the reference does: the ``memory`` backend."""
    _search(lab)


@case(Promise.SAME, abilities=("controlled",), alone=True, time_limit=TIME_LIMIT)
def random_calls_and_times_are_answered_as_by_the_reference(lab: Lab) -> None:
    """The same holds while time passes between the calls: delays and leases end when those of the reference do."""
    from headrace.testing.clock import FakeClock

    clock = FakeClock()
    lab.backend = lab.harness.controlled(clock)
    _search(lab, clock)


def _search(lab: Lab, clock: "FakeClock | None" = None) -> None:
    try:
        from headrace.conformance.search import search
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        install = "pip install 'headrace[conformance]'"
        # Not a skip: a backend that was not searched is not proved.
        raise Mismatch("the search did not run", "no hypothesis is installed", f"hypothesis ({install})") from error
    search(lab, clock)
