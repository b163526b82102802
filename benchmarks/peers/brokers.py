"""The brokers of a session: private processes on this machine, and files for SQLite.

Owns what every contender shares: an empty broker before each run, what is left in it after, and,
for trials that take place side by side, a database or a name of each one's own.
"""

import itertools
import sqlite3
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from headrace.conformance.servers.process import ServerNotFound
from headrace.conformance.servers.rabbitmq import RabbitServer
from headrace.conformance.servers.redis import RedisServer
from headrace_bench.servers import make_rabbitmq
from peers.contenders import Broker

#: Databases of the Redis: one for each trial that takes place beside others, and the first for runs.
DATABASES: Final = 128

#: What the processes that hold a queue say of messages that wait in it: exact, but without those in workers' hands.
_WAITING: Final = (
    "lists:sum([begin {ok, Ready, _} = rabbit_amqqueue:stat(Q), Ready end || Q <- rabbit_amqqueue:list()])"
)

#: What RabbitMQ's own figures say of all messages: of quorum queues some seconds late.
_HELD: Final = (
    "lists:sum([proplists:get_value(messages, rabbit_amqqueue:info(Q, [messages])) || Q <- rabbit_amqqueue:list()])"
)


class Brokers:
    """Those that are asked for; as a context manager they run, and are gone with all they held at the end."""

    def __init__(self, wanted: set[Broker], folder: Path) -> None:
        """``folder``: for the files of SQLite."""
        self._wanted = wanted
        self._folder = folder
        self._redis: RedisServer | None = None
        self._rabbit: RabbitServer | None = None
        self._stack = ExitStack()
        self._numbers = itertools.count(1)
        #: Why there is none, by broker.
        self.missing: Final[dict[Broker, str]] = {}
        #: Of the programs, by name, by broker.
        self.versions: Final[dict[Broker, dict[str, str]]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if "redis" in self._wanted:
                try:
                    self._redis = stack.enter_context(RedisServer(databases=str(DATABASES)))
                except ServerNotFound as reason:
                    self.missing["redis"] = str(reason)
            if "rabbitmq" in self._wanted:
                try:
                    self._rabbit = stack.enter_context(make_rabbitmq(schedulers=1))
                except ServerNotFound as reason:
                    self.missing["rabbitmq"] = str(reason)
            self._find_versions()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def empty(self, broker: Broker) -> str:
        """The URL of a broker with nothing in it, or the path of a file that does not exist."""
        if broker == "redis":
            assert self._redis is not None
            self._redis.ask("FLUSHALL")
            return self._redis.url
        if broker == "rabbitmq":
            assert self._rabbit is not None
            self._rabbit.clear()
            return self._rabbit.url
        for old in self._folder.glob("run-*"):
            old.unlink()
        return str(self._folder / f"run-{next(self._numbers)}.db")

    def own(self, broker: Broker) -> str:
        """As `empty`, of one's own as long as `empty` is not called; on RabbitMQ, queues need names of their own."""
        number = next(self._numbers)
        if broker == "redis":
            assert self._redis is not None
            return f"{self._redis.url.rpartition('/')[0]}/{1 + number % (DATABASES - 1)}"
        if broker == "rabbitmq":
            assert self._rabbit is not None
            return self._rabbit.url
        return str(self._folder / f"trial-{number}.db")

    def waiting(self) -> int:
        """Messages in all queues of RabbitMQ that no worker has."""
        assert self._rabbit is not None
        return int(self._rabbit.evaluate(_WAITING))

    def held(self) -> int:
        """Messages in all queues of RabbitMQ, those in the hands of workers included, as it was some seconds ago."""
        assert self._rabbit is not None
        return int(self._rabbit.evaluate(_HELD))

    def _find_versions(self) -> None:
        if self._redis is not None:
            info = self._redis.info("server")
            valkey = info.get("valkey_version")
            self.versions["redis"] = {"valkey-server": valkey} if valkey else {"redis-server": info["redis_version"]}
        if self._rabbit is not None:
            self.versions["rabbitmq"] = {"rabbitmq-server": self._rabbit.evaluate("rabbit_misc:version()").strip('"')}
        self.versions["sqlite"] = {"SQLite": sqlite3.sqlite_version}
