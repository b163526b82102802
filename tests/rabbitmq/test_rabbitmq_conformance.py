"""The kit on RabbitMQ: a server that is killed, and whose connections break."""

import asyncio
from collections.abc import Iterator

import pytest

from headrace.conformance import DriverSuite, PluginHarness
from headrace.conformance.servers.rabbitmq import RabbitServer

#: A test waits for its case, which may be the last of a suite; each case has a limit of its own.
pytestmark = pytest.mark.timeout(600)

#: The servers of this process by URL: a harness is copied and goes to other processes, a server cannot.
SERVERS: dict[str, RabbitServer] = {}


class ServerHarness(PluginHarness):
    """A server that can be killed, and that breaks connections."""

    @property
    def server(self) -> RabbitServer:
        return SERVERS[self.options["url"]]

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.restart)

    async def disconnect(self) -> None:
        await asyncio.to_thread(self.server.disconnect)


@pytest.fixture(scope="module")
def known(session_server: RabbitServer) -> Iterator[RabbitServer]:
    SERVERS[session_server.url] = session_server
    yield session_server
    del SERVERS[session_server.url]


class TestServer(DriverSuite):
    at_once = 4

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, known: RabbitServer) -> ServerHarness:
        return ServerHarness("rabbitmq", {"url": known.url})
