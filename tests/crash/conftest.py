"""The servers of the crash matrix, and the page that is written of it.

``--crash-page PATH`` writes the table in Markdown; without it the table is printed.
"""

import importlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from places import PLACES, Place

from headrace.conformance.servers.moto import ENVIRONMENT

from .cells import Cell, Row, cells
from .page import page
from .stage import APPLICATION

#: The property of a test's report that carries its row, from one process to the other.
ROW = "crash-row"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--crash-page", type=Path, help="where the crash matrix is written, in Markdown")


@pytest.fixture(scope="module")
def place_of() -> Iterator[Callable[[Cell], Place]]:
    """The place of a cell. Those whose brokers are killed are others than those whose brokers live."""
    with ExitStack() as stack:
        found: dict[tuple[str, str], Place] = {}

        def place_of(cell: Cell) -> Place:
            key = cell.backend, cell.killed
            if key not in found:
                found[key] = stack.enter_context(PLACES[cell.backend]())
            return found[key]

        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.syspath_prepend(APPLICATION)
        importlib.import_module("crash_jobs")
        yield place_of


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of an emulator, and none of this machine's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[Row], None]:
    """Takes a test's row for the table."""
    return lambda row: record_property(ROW, json.dumps(asdict(row)))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table, or write it."""
    reports = [each for outcome in ("passed", "failed") for each in terminalreporter.stats.get(outcome, ())]
    found = [Row(**json.loads(value)) for each in reports for name, value in each.user_properties if name == ROW]
    if not found:
        return
    order = [(cell.backend, cell.killed, cell.step.name, cell.moment) for cell in cells()]
    text = page(sorted(found, key=lambda row: order.index((row.backend, row.killed, row.step, row.moment))))
    path = config.getoption("--crash-page", None)
    if path is None:
        terminalreporter.write(f"\n{text}\n")
    else:
        path.write_text(text)
        terminalreporter.write_line(f"the crash matrix is in {path}")
