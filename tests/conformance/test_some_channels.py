"""The kit on a backend that can look into ``failed`` and ``timeout``, and choose there, and nowhere else.

As brokers are that hand out a message to show it, and count that.
"""

from collections.abc import Mapping
from typing import Final

import pytest

from headrace.conformance import DriverSuite, PluginHarness
from headrace.conformance.runner import select
from headrace.conformance.wrapping import LimitedBackend
from headrace.driver import Backend, Channel
from headrace.testing.clock import FakeClock
from headrace_memory.backend import MemoryBackend

#: A test waits for its case, which may be the last of a suite; each case has a limit of its own.
pytestmark = pytest.mark.timeout(600)

RESTING: Final[frozenset[Channel]] = frozenset({"failed", "timeout"})


class RestingHarness(PluginHarness):
    def __init__(self) -> None:
        super().__init__("memory")

    def backend(self) -> Backend:
        return LimitedBackend(super().backend(), peek=RESTING, selective=RESTING)

    def controlled(self, clock: FakeClock) -> Backend:
        return LimitedBackend(MemoryBackend(clock), peek=RESTING, selective=RESTING)


class TestResting(DriverSuite):
    harness = RestingHarness
    at_once = 4


def test_only_what_concerns_other_channels_is_skipped_and_the_skip_names_the_channel() -> None:
    harness = RestingHarness()
    claimed = LimitedBackend(MemoryBackend(), peek=RESTING, selective=RESTING).capabilities
    skipped: Mapping[str, str] = {
        case.name: reason
        for case in select()
        if any(need.startswith(("peek", "selective")) for need in (*case.needs, *case.lacks))
        and (reason := case.obstacle(claimed, harness, long=False)) is not None
    }
    assert skipped == {
        "what_expired_can_be_seen_and_cancelled": "needs the capability peek for reserved",
        "a_delayed_message_shows_what_remains_of_its_delay": "needs the capability peek for delayed",
    }
