"""The kit on SQS: moto's, or the real one where the environment says so."""

from typing import Any

import pytest

from headrace.conformance import DriverSuite, PluginHarness

#: A test waits for its case, which may be the last of a suite; each case has a limit of its own.
pytestmark = pytest.mark.timeout(600)


class TestKit(DriverSuite):
    at_once = 8

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, options: dict[str, Any]) -> PluginHarness:
        return PluginHarness("sqs", options)
