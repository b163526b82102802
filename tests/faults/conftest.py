"""What the fault tests share: the backends' servers, and the jobs."""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from places import PLACES, Place

from headrace.conformance.servers.moto import ENVIRONMENT

from .works import APPLICATION


@pytest.fixture(scope="package")
def place_of() -> Iterator[Callable[[str], Place]]:
    """The place of a backend, by its name; its server is started when it is first needed."""
    with ExitStack() as stack:
        found: dict[str, Place] = {}

        def place_of(name: str) -> Place:
            if name not in found:
                found[name] = stack.enter_context(PLACES[name]())
            return found[name]

        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.syspath_prepend(APPLICATION)
        importlib.import_module("fault_jobs")
        yield place_of


@pytest.fixture
def place(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> Place:
    """For tests that are parametrized with backends' names."""
    return place_of(request.param)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of an emulator, and none of this machine's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
