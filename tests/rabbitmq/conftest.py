"""One private server for all tests of the RabbitMQ backend that a process runs; a test leaves it as it found it.

``HEADRACE_TEST_RABBITMQ_URL`` names a broker that is there already: the kit uses that, without what ends it.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from helpers_rabbitmq import Make, build

from headrace.conformance.case import all_cases
from headrace.conformance.servers.process import TlsFiles
from headrace.conformance.servers.proxy import Proxy
from headrace.conformance.servers.rabbitmq import RabbitServer
from headrace.driver import Backend

#: Modules of the kit whose cases take 5 to 15 s each here, as processes start and broken brokers heal. What they are
#: about the tests of faults beside them have as well, under load.
SLOW = ("faults", "processes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the kit's slow modules, and the kit on a cluster, to the long form."""
    if "HEADRACE_TEST_LONG" in os.environ:
        return
    names = {f"test_{case.name}" for case in all_cases() if case.run.__module__.rpartition(".")[2] in SLOW}
    kit = [item for item in items if "test_rabbitmq_conformance" in item.nodeid]
    left_out = [item for item in kit if item.name in names or "TestCluster" in item.nodeid]
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
