"""A private SQS for these tests: moto's, started once, when first needed; or another one.

``HEADRACE_TEST_SQS=ministack`` takes MiniStack's instead. ``HEADRACE_TEST_SQS=aws`` takes the account and region that
boto3 finds, for the tests that need nothing but SQS. Their queues have names of their own, and are deleted after them.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from helpers_sqs import Make
from kit import left_to_the_long_form
from meddling import Meddler
from second_emulator import MinistackServer

from headrace.conformance.case import all_cases
from headrace.conformance.servers.moto import ENVIRONMENT, MotoServer
from headrace.conformance.servers.proxy import Proxy
from headrace_sqs.backend import SqsBackend
from headrace_sqs.settings import SqsSettings

#: Which SQS it is.
KIND = os.environ.get("HEADRACE_TEST_SQS", "moto")

#: Whether it is the real one.
AWS = KIND == "aws"

#: Those that can be started here.
EMULATORS = {"moto": MotoServer, "ministack": MinistackServer}


#: The cases of the kit for which connections are broken.
NETWORK_CASES = {f"test_{case.name}" for case in all_cases() if "disconnect" in case.abilities}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to the suite behind a network what is about networks, to the other one all else.

    Workers are left to the long form: an emulator takes most of two processors for them, and
    `test_sqs_faults` has them as well.
    """
    about_workers = left_to_the_long_form()
    elsewhere = [
        item
        for item in items
        if item.parent is not None
        and item.parent.name in ("TestKit", "TestNetwork")
        and ((item.parent.name == "TestNetwork") != (item.name in NETWORK_CASES) or item.name in about_workers)
    ]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


@pytest.fixture(scope="session", autouse=True)
def credentials() -> Iterator[None]:
    """Those of an emulator, for this process and all that it starts; and no others, from files or the network."""
    if AWS:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def server(credentials: None) -> Iterator[MotoServer | MinistackServer]:
    """A server that all tests share, and none may stop. What tests put into it has a prefix of their own."""
    with EMULATORS[KIND]() as server:
        yield server


@pytest.fixture(scope="session")
def options(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The backend's options for the SQS of these tests."""
    if not AWS:
        # An emulator may take long to answer on a machine that is busy with eight cases at once.
        yield {"endpoint_url": request.getfixturevalue("server").url, "timeout_seconds": 20}
        return
    prefix = f"headrace-test-{secrets.token_hex(4)}-"
    yield {"queue_name_prefix": prefix}
    client = boto3.client("sqs")
    for page in client.get_paginator("list_queues").paginate(QueueNamePrefix=prefix):
        for url in page.get("QueueUrls", ()):
            client.delete_queue(QueueUrl=url)


@pytest.fixture
def own_server(credentials: None) -> Iterator[MotoServer | MinistackServer]:
    """A server for one test, which may do with it what it likes. It forgets all when it ends."""
    with EMULATORS[KIND]() as server:
        yield server


@pytest.fixture
def proxy(server: MotoServer) -> Iterator[Proxy]:
    """A network before ``server``."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def meddler(server: MotoServer) -> Iterator[Meddler]:
    """Something before ``server`` that can change single requests."""
    with Meddler(server.port) as meddler:
        yield meddler


@pytest.fixture
def prefix() -> str:
    """Of a queue of this test alone, which SQS calls by what is in the braces."""
    return "{test-" + secrets.token_hex(4) + "}"


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes backends, not open; what a test opened is closed after it."""
    made: list[SqsBackend] = []

    def make(**settings: Any) -> SqsBackend:
        backend = SqsBackend(SqsSettings(**settings))
        made.append(backend)
        return backend

    yield make
    for backend in made:
        await backend.close()


@pytest.fixture
async def backend(make: Make, options: dict[str, Any]) -> SqsBackend:
    """An opened backend on the server that tests share."""
    backend = make(**options)
    await backend.open()
    return backend


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}
