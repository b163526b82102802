"""One private server for all tests of the RabbitMQ backend that a process runs; a test leaves it as it found it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from helpers_rabbitmq import Make, build
from kit import left_to_the_long_form

from headrace.conformance.servers.process import TlsFiles
from headrace.conformance.servers.proxy import Proxy
from headrace.conformance.servers.rabbitmq import RabbitServer
from headrace.driver import Backend


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the kit's cases about workers to the long form: these tests' own faults have workers as well.

    Besides, RabbitMQ 3.10 counts a delivery that is on its way when its consumer is cancelled, which
    on a busy machine shows as a delivery too many where a case wants them counted exactly.
    """
    names = left_to_the_long_form()
    left_out = [item for item in items if item.name in names and "test_rabbitmq_conformance" in item.nodeid]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def sign(folder: Path, *identities: str) -> TlsFiles:
    """A certificate by an authority of its own."""
    authority = trustme.CA()
    certificate = authority.issue_cert(*identities)
    files = TlsFiles(folder / "certificate.pem", folder / "key.pem", folder / "authority.pem")
    certificate.cert_chain_pems[0].write_to_path(str(files.certificate))
    certificate.private_key_pem.write_to_path(str(files.key))
    authority.cert_pem.write_to_path(str(files.authority))
    return files


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return sign(tmp_path_factory.mktemp("tls"), "127.0.0.1", "localhost")


@pytest.fixture(scope="session")
def session_server(tls_files: TlsFiles) -> Iterator[RabbitServer]:
    """Takes seconds to start: hence only one, which some tests stop."""
    with RabbitServer(tls=tls_files) as server:
        yield server


@pytest.fixture
def server(session_server: RabbitServer) -> Iterator[RabbitServer]:
    """A server for one test, which may do with it what it likes."""
    yield session_server
    session_server.clear()


@pytest.fixture
def proxy(server: RabbitServer) -> Iterator[Proxy]:
    """A network before ``server``."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def make(server: RabbitServer) -> AsyncIterator[Make]:
    """Makes backends, not open; what a test opened is closed after it, and its thread is gone."""
    before, made = set(threading.enumerate()), list[Backend]()

    def make(url: str, **settings: Any) -> Backend:
        made.append(build(url, **settings))
        return made[-1]

    yield make
    server.resume()
    for backend in made:
        await backend.close()
    threads = set(threading.enumerate()) - before
    assert [each for each in threads if not each.name.startswith("asyncio_")] == []  # that is to_thread's


@pytest.fixture
async def backend(make: Make, server: RabbitServer) -> Backend:
    """An opened backend."""
    backend = make(server.url)
    await backend.open()
    return backend


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}
