"""Private instances of brokers, for ``--start-servers``: those whose programs are found here.

Owns which options a backend needs to reach one. The servers themselves are `headrace.conformance.servers`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec

from headrace.conformance.servers.moto import ENVIRONMENT, MotoServer
from headrace.conformance.servers.process import ServerNotFound
from headrace.conformance.servers.rabbitmq import RabbitServer
from headrace.conformance.servers.redis import RedisServer
from headrace_bench.machine import describe

#: What RabbitMQ takes of a machine's memory before it blocks publishers, by its default.
_MEMORY_SHARE: Final = 0.4


class Instance(msgspec.Struct, frozen=True):
    """A running server, as a backend's options and a report have to know it."""

    options: dict[str, Any]  #: for the ``[backends.NAME]`` table
    pid: int
    settings: dict[str, str]  #: for the report
    durability: str  #: of what it has confirmed
    environment: dict[str, str] = {}


def _redis() -> RedisServer:
    return RedisServer(append_only=True, appendfsync="everysec")


def make_rabbitmq(schedulers: int) -> RabbitServer:
    """A RabbitMQ that blocks publishers where one does by default: a test's has memory for small queues only."""
    return RabbitServer(schedulers=schedulers, memory=round(_MEMORY_SHARE * describe().memory))


def _rabbitmq() -> RabbitServer:
    return make_rabbitmq(schedulers=describe().cores)


class _Kind(NamedTuple):
    """A sort of server."""

    make: Callable[[], Any]
    option: str  #: that takes its address
    server: str  #: for a report
    durability: str
    environment: Mapping[str, str] = {}


_KINDS: Final[Mapping[str, _Kind]] = {
    "redis": _Kind(_redis, "url", "private; appendfsync everysec", "written to disk within a second"),
    "rabbitmq": _Kind(_rabbitmq, "url", "private; one node", "quorum queue, on disk before it is confirmed"),
    "sqs": _Kind(
        MotoServer, "endpoint_url", "moto, an emulator: its rates say nothing of SQS", "in moto's memory", ENVIRONMENT
    ),
}

#: The plugins that need a server: without being told of one, nobody should come upon it.
NEED_SERVER: Final = frozenset(_KINDS)


@contextmanager
def private(plugin: str) -> Iterator[Instance]:
    """A server of our own for a plugin, gone at the end.

    Raises `LookupError` if none is known for that plugin, `ServerNotFound` if its program is not here, and
    `RuntimeError` if it does not start.
    """
    kind = _KINDS[plugin]
    with kind.make() as server:
        settings = {"server": kind.server}
        yield Instance({kind.option: server.url}, server.pid, settings, kind.durability, dict(kind.environment))


__all__ = ["NEED_SERVER", "Instance", "ServerNotFound", "make_rabbitmq", "private"]
