"""The kit on Redis: one server, Sentinel, a Cluster, the older protocol, and the slower parser."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from headrace.conformance import DriverSuite, PluginHarness
from headrace.conformance.servers.redis import RedisCluster, RedisSentinels, RedisServer

#: A test waits for its case, which may be the last of a suite; each case has a limit of its own.
pytestmark = pytest.mark.timeout(600)

Servers: TypeAlias = RedisServer | RedisSentinels | RedisCluster

#: The servers of this process by URL: a harness is copied and goes to other processes, a server cannot.
SERVERS: dict[str, Servers] = {}


class ServerHarness(PluginHarness):
    """Servers that can be killed, and asked what they were sent."""

    @property
    def server(self) -> Servers:
        return SERVERS[self.options["url"]]

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.restart)

    async def disconnect(self) -> None:
        await asyncio.to_thread(self.server.disconnect)

    async def commands(self) -> int:
        return await asyncio.to_thread(self.server.commands)


@contextmanager
def serving(servers: Servers) -> Iterator[str]:
    """The URL of servers that are up as long as the block lasts."""
    with servers:
        SERVERS[servers.url] = servers
        yield servers.url
        del SERVERS[servers.url]


@pytest.fixture(scope="class")
def durable() -> Iterator[str]:
    """The URL of a server that outlives a kill."""
    with serving(RedisServer(append_only=True)) as url:
        yield url


@pytest.fixture(scope="class")
def durable_sentinels() -> Iterator[str]:
    with serving(RedisSentinels(append_only=True)) as url:
        yield url


@pytest.fixture(scope="class")
def durable_cluster() -> Iterator[str]:
    with serving(RedisCluster(append_only=True)) as url:
        yield url


class TestServer(DriverSuite):
    """On a server of ours; on that of the environment, if one is named, without the cases that break something."""

    at_once = 4

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, request: pytest.FixtureRequest) -> PluginHarness:
        if "HEADRACE_TEST_REDIS_URL" in os.environ:
            return PluginHarness("redis", {"url": request.getfixturevalue("url")})
        return ServerHarness("redis", {"url": request.getfixturevalue("durable")})


class TestOlderProtocol(DriverSuite):
    at_once = 4

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, durable: str) -> ServerHarness:
        return ServerHarness("redis", {"url": durable, "protocol": 2})


class TestSentinel(DriverSuite):
    at_once = 4

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, durable_sentinels: str) -> ServerHarness:
        return ServerHarness("redis", {"url": durable_sentinels, "wait_replicas": 1})


class TestCluster(DriverSuite):
    at_once = 4

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, durable_cluster: str) -> ServerHarness:
        return ServerHarness("redis", {"url": durable_cluster})


#: Runs this file's first class in a process where hiredis cannot be imported, so that redis-py reads answers itself.
WITHOUT_HIREDIS = """
import sys
sys.modules["hiredis"] = None
import pytest, redis.connection
assert "hiredis" not in redis.connection.DefaultParser.__name__.lower()
raise SystemExit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.skipif("HEADRACE_TEST_LONG" not in os.environ, reason="is part of the long form")
def test_the_kit_passes_with_the_parser_in_pure_python() -> None:
    arguments = ["-q", "-p", "no:cacheprovider", f"{Path(__file__)}::TestServer"]
    environment = {**os.environ, "HEADRACE_TEST_DRIVER_CASES": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HIREDIS, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
