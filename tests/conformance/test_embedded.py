"""The kit on the backends that need no server, with the time of their random calls under control."""

import pytest

from headrace.conformance import DriverSuite, PluginHarness
from headrace.driver import Backend
from headrace.testing.clock import FakeClock
from headrace_memory.backend import MemoryBackend
from headrace_sqlite.backend import SqliteBackend

#: A test waits for its case, which may be the last of a suite; each case has a limit of its own.
pytestmark = pytest.mark.timeout(600)


class MemoryHarness(PluginHarness):
    def __init__(self) -> None:
        super().__init__("memory")

    def controlled(self, clock: FakeClock) -> Backend:
        return MemoryBackend(clock)


class SqliteHarness(PluginHarness):
    def __init__(self) -> None:
        super().__init__("sqlite")

    def controlled(self, clock: FakeClock) -> Backend:
        return SqliteBackend(self.folder / "controlled.db", machine=clock)


class TestMemory(DriverSuite):
    """The executable reference."""

    harness = MemoryHarness
    at_once = 4


class TestSqlite(DriverSuite):
    """Files, each case's of its own."""

    harness = SqliteHarness
    at_once = 4
