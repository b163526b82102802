"""Private servers for the tests of the Redis backend; each kind is started once, when first needed.

``HEADRACE_TEST_REDIS_URL`` names a server that is there already: what neither ends it nor looks into it uses that.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from kit import left_to_the_long_form

from headrace.conformance.servers.proxy import Proxy
from headrace.conformance.servers.redis import RedisCluster, RedisSentinels, RedisServer
from headrace_redis.backend import RedisBackend
from headrace_redis.connections.place import parse
from headrace_redis.settings import RedisSettings


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to the long form what differs from one server's only in protocol, parser or the way there.

    These are the cases about workers; those that break servers of which Sentinel is in charge, which takes its time
    (`test_redis_faults` ends its master); and the slower parser.
    """
    every = "HEADRACE_TEST_DRIVER_CASES" in os.environ
    about_workers, breaking = left_to_the_long_form(), left_to_the_long_form(breaking=True)

    def is_left_out(item: pytest.Item) -> bool:
        kind = item.parent.name if item.parent is not None else ""
        if item.name in about_workers:
            return every or kind in ("TestOlderProtocol", "TestSentinel", "TestCluster")
        return item.name in breaking and kind == "TestSentinel"

    deselected = [item for item in items if is_left_out(item)]
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in deselected]


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Of a server that all tests share, and none may stop. What tests put into it has a prefix of their own."""
    named = os.environ.get("HEADRACE_TEST_REDIS_URL")
    if named:
        yield named
        return
    with RedisServer() as server:
        yield server.url


@pytest.fixture(scope="session")
def sentinels() -> Iterator[RedisSentinels]:
    with RedisSentinels() as sentinels:
        yield sentinels


@pytest.fixture(scope="session")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server for one test, which may do with it what it likes. It keeps everything on disk."""
    with RedisServer(append_only=True) as server:
        yield server


@pytest.fixture
def proxy(own_server: RedisServer) -> Iterator[Proxy]:
    """A network before ``own_server``."""
    with Proxy(own_server.port) as proxy:
        yield proxy


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """One that no other test has, nor another run of this one on the same server."""
    name = request.node.name.replace("{", "(").replace("}", ")")
    return f"{{{name} {secrets.token_hex(4)}}}"


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., RedisBackend]]:
    """Makes backends, not open; what a test opened is closed after it."""
    made: list[RedisBackend] = []

    def make(url: str, **settings: Any) -> RedisBackend:
        backend = RedisBackend(parse(url), RedisSettings(url=url, **settings))
        made.append(backend)
        return backend

    yield make
    for backend in made:
        await backend.close()


@pytest.fixture
async def backend(make: Callable[..., RedisBackend], url: str, prefix: str) -> AsyncIterator[RedisBackend]:
    """An opened backend on the server that tests share. What it has under ``prefix`` goes with the test."""
    backend = make(url)
    await backend.open()
    yield backend
    await backend.driver(prefix).destroy()


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}
