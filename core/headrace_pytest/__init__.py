"""The pytest plugin: fixtures for the tests of code that pushes jobs. What they give is in `headrace.testing`.

A package of its own, since pytest imports it at every start wherever headrace is installed: inside
``headrace`` it would bring all of that along. Nothing is imported before a fixture is used.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from headrace.testing import Fake, FakeClock, MemoryApp
    from headrace.testing.apps import Configuration


@pytest.fixture
def headrace_config() -> "Configuration":
    """The configuration of the fixtures below; override it with a mapping or a path.

    By default that which is found upwards from the working directory.
    """
    return None


@pytest.fixture
def headrace_fake(headrace_config: "Configuration") -> Iterator["Fake"]:
    """Nothing is sent: pushes are recorded, to be asserted on and run; see `headrace.testing.fake`."""
    from headrace.testing import fake

    with fake(headrace_config) as jobs:
        yield jobs


@pytest.fixture
def headrace_inline(headrace_config: "Configuration") -> Iterator["Fake"]:
    """Each job runs where it is pushed; see `headrace.testing.inline`."""
    from headrace.testing import inline

    with inline(headrace_config) as jobs:
        yield jobs


@pytest.fixture
def headrace_clock() -> "FakeClock":
    """The clock of ``headrace_app``, moved by ``advance``; see `headrace.testing.FakeClock`."""
    from headrace.testing import FakeClock

    return FakeClock()


@pytest.fixture
def headrace_app(headrace_config: "Configuration", headrace_clock: "FakeClock") -> Iterator["MemoryApp"]:
    """The configured app with all queues in memory, on ``headrace_clock``; see `headrace.testing.app`.

    Bare pushes go to it.
    """
    from headrace.testing import app

    with app(headrace_config, clock=headrace_clock) as entered:
        yield entered
