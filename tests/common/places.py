"""The backends that are killed from under workers, each with a server of its own that may be killed, too.

Owns the servers, and how a configuration names them. SQS cannot be killed, and its emulator forgets everything when
it is; so there the way to it is what ends: a process that passes connections on.
"""

from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final

from gate import Gate

from headrace.conformance.servers.moto import MotoServer
from headrace.conformance.servers.process import ServerProcess
from headrace.conformance.servers.rabbitmq import RabbitServer
from headrace.conformance.servers.redis import RedisServer

#: Seconds that a call to a server may take: more than moto needs on a busy machine.
TIMEOUT: Final = 5


class Place:
    """Where the messages of one backend are: as a context manager it is there, and ends with every process gone."""

    name: str  #: the plugin's
    options: dict[str, Any]  #: of its table in a configuration
    broker: ServerProcess | None = None  #: who is killed as the broker; SQLite has none
    forgets_the_young = False  #: whether a broker that is killed loses what was just made in it, unless `settle` helps

    def __init__(self) -> None:
        self._servers = ExitStack()

    def settle(self) -> None:
        """Let the broker write what is not ours to lose, so that it can be killed from now on."""

    def start_again(self) -> None:
        """Start the broker after it was killed. Returns when it can be reached."""
        assert self.broker is not None
        self.broker.kill()  # that it is dead is not all: what it has left is cleared away
        self.broker.start()

    def __enter__(self) -> "Place":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._servers.close()


class SqlitePlace(Place):
    """A file in the folder of the configuration."""

    name = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.options = {}


class RedisPlace(Place):
    """A server that writes each change to disk before it answers."""

    name = "redis"
    broker: RedisServer

    def __enter__(self) -> "RedisPlace":
        self.broker = self._servers.enter_context(RedisServer(append_only=True))
        self.options = {"url": self.broker.url, "timeout_seconds": TIMEOUT}
        return self


class RabbitPlace(Place):
    """A server of its own, whose quorum queues are on disk by themselves."""

    name = "rabbitmq"
    broker: RabbitServer
    forgets_the_young = True

    def __enter__(self) -> "RabbitPlace":
        self.broker = self._servers.enter_context(RabbitServer())
        self.options = {"url": self.broker.url, "timeout_seconds": TIMEOUT}
        return self

    def settle(self) -> None:
        """It notes which queues it has every half a second, and loses one that it had not noted when it is killed."""
        self.broker.evaluate("[dets:sync(T) || T <- dets:all()]")


class SqsPlace(Place):
    """Moto's server, which lives on, and a gate before it, which can be killed."""

    name = "sqs"
    server: MotoServer
    broker: Gate

    def __enter__(self) -> "SqsPlace":
        self.server = self._servers.enter_context(MotoServer())
        self.broker = self._servers.enter_context(Gate(self.server.port))
        self.options = {"endpoint_url": f"http://127.0.0.1:{self.broker.port}", "timeout_seconds": 4 * TIMEOUT}
        return self


#: By the backend's name.
PLACES: Final[dict[str, type[Place]]] = {each.name: each for each in (SqlitePlace, RedisPlace, RabbitPlace, SqsPlace)}
