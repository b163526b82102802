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
    """Leave the kit on all but one server to the long form, ``tox -e faults``.

    Protocol, parser and the way to the servers differ there; `test_redis_faults` ends masters and moves slots.
    """
    if "HEADRACE_TEST_LONG" in os.environ:
        return
    about_workers = left_to_the_long_form() if "HEADRACE_TEST_DRIVER_CASES" in os.environ else set()
    others = ("TestOlderProtocol", "TestSentinel", "TestCluster")
    deselected = [
        item for item in items if item.name in about_workers or (item.parent is not None and item.parent.name in others)
    ]
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
