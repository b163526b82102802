"""What every driver test stands on: opened backends, a clock that tests move, and nothing left behind."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from headrace.driver import Backend
from headrace.testing import FakeClock
from headrace_memory.backend import MemoryBackend
from headrace_sqlite.backend import SqliteBackend
from headrace_sqlite.settings import SqliteSettings


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(kind: str, path: Path, clock: FakeClock | None) -> Backend:
    if kind == "memory":
        return MemoryBackend(clock) if clock else MemoryBackend()
    return SqliteBackend(path, SqliteSettings(), machine=clock)


@pytest.fixture
async def backend(kind: str, path: Path, clock: FakeClock) -> AsyncIterator[Backend]:
    """An opened backend whose time stands still."""
    backend = build(kind, path, clock)
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
async def live(kind: str, path: Path) -> AsyncIterator[Backend]:
    """An opened backend on the machine's own time: for tests of waiting."""
    backend = build(kind, path, None)
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
async def sqlite(path: Path) -> AsyncIterator[Callable[..., SqliteBackend]]:
    """Makes SQLite backends for one file; what a test opened is closed after it."""
    made: list[SqliteBackend] = []

    def make(*, machine: FakeClock | None = None, file: Path = path, **settings: object) -> SqliteBackend:
        backend = SqliteBackend(file, SqliteSettings(**settings), machine=machine)  # type: ignore[arg-type]
        made.append(backend)
        return backend

    yield make
    for backend in made:
        await backend.close()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
    assert not [name for name in left if name.startswith("headrace")]


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}
