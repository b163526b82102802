"""The kit's cases that break connections, on SQS behind a network; a proxy before all others would take its time."""

import asyncio
from collections.abc import Iterator

import pytest

from headrace.conformance import DriverSuite, PluginHarness
from headrace.conformance.servers.moto import MotoServer
from headrace.conformance.servers.proxy import Proxy

#: The networks of this process by URL: a harness is copied and goes to other processes, a network cannot.
PROXIES: dict[str, Proxy] = {}


class NetworkHarness(PluginHarness):
    """A server behind a network that breaks when told to. A restart is left out: moto forgets all."""

    async def disconnect(self) -> None:
        await asyncio.to_thread(PROXIES[self.options["endpoint_url"]].cut, reset=True)


class TestNetwork(DriverSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, server: MotoServer) -> Iterator[NetworkHarness]:
        with Proxy(server.port) as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
            PROXIES[url] = proxy
            yield NetworkHarness("sqs", {"endpoint_url": url})
            del PROXIES[url]
