"""The ``directory`` backend keeps the contract: each case of headrace's conformance kit is a test here."""

from headrace.conformance import DriverSuite, Harness
from headrace.driver import Backend

from headrace_directory.backend import DirectoryBackend


class DirectoryHarness(Harness):
    def backend(self) -> Backend:
        return DirectoryBackend(self.folder / "queues", poll_seconds=0.01)


class TestDirectory(DriverSuite):
    harness = DirectoryHarness
    at_once = 8  # cases side by side: most of them wait most of the time
