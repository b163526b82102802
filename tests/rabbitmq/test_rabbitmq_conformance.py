"""The kit on RabbitMQ: a server that is killed, and whose connections break."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from headrace.conformance import DriverSuite, PluginHarness
from headrace.conformance.servers.rabbitmq import RabbitCluster, RabbitServer

#: A test waits for its case, which may be the last of a suite; each case has a limit of its own.
pytestmark = pytest.mark.timeout(600)

#: The servers of this process by URL: a harness is copied and goes to other processes, a server cannot.
SERVERS: dict[str, RabbitServer | RabbitCluster] = {}


class ServerHarness(PluginHarness):
    """A server that can be killed, and that breaks connections; or three of them."""

    async def restart(self) -> None:
        await asyncio.to_thread(SERVERS[self.options["url"]].restart)

    async def disconnect(self) -> None:
        await asyncio.to_thread(SERVERS[self.options["url"]].disconnect)


@pytest.fixture(scope="class")
def known(session_server: RabbitServer) -> Iterator[RabbitServer]:
    SERVERS[session_server.url] = session_server
    yield session_server
    del SERVERS[session_server.url]


@pytest.fixture(scope="class")
def cluster() -> Iterator[RabbitCluster]:
    with RabbitCluster() as cluster:
        SERVERS[cluster.url] = cluster
        yield cluster
        del SERVERS[cluster.url]


class TestServer(DriverSuite):
    """On a server of ours; on that of the environment, if one is named, without the cases that break something."""

    at_once = 4

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, request: pytest.FixtureRequest) -> PluginHarness:
        if named := os.environ.get("HEADRACE_TEST_RABBITMQ_URL"):
            return PluginHarness("rabbitmq", {"url": named})
        return ServerHarness("rabbitmq", {"url": request.getfixturevalue("known").url})


class TestCluster(DriverSuite):
    """On three servers, of which a restart takes the one that clients are connected to."""

    at_once = 2

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, cluster: RabbitCluster) -> ServerHarness:
        return ServerHarness("rabbitmq", {"url": cluster.url})
