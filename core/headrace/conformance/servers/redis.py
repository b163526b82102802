"""Redis or Valkey as private processes: one server, masters with Sentinels, and a Cluster.

Owns how they are configured, and asks them in their own protocol, of which it speaks as
much as that takes. The program is `redis-server` or `valkey-server`, or what the environment's
``HEADRACE_TEST_REDIS_SERVER`` names.
"""

import socket
import time
from collections.abc import Callable
from io import BufferedRWPair
from types import TracebackType
from typing import Any, Final, TypeVar

from headrace.conformance.servers.process import PATIENCE, ServerProcess, free_port
from headrace.conformance.servers.programs import find_program

#: Names the program to run, before any that is on the path.
PROGRAM: Final = "HEADRACE_TEST_REDIS_SERVER"

#: Slots of a Cluster: a number of Redis's.
SLOTS: Final = 16384

#: What Sentinels call the master that they watch.
SERVICE: Final = "headrace"

#: Seconds after which Sentinels give a silent master up: as short as a busy machine allows.
_DOWN_SECONDS: Final = 1.0

Self = TypeVar("Self", bound="_Group")


class RedisServer(ServerProcess):
    """One server. ``append_only`` makes it write each change to disk before it answers."""

    def __init__(self, *, append_only: bool = False, **options: str) -> None:
        """``options`` as in ``redis.conf``, with ``_`` for ``-``."""
        super().__init__()
        self._program = find_program(PROGRAM, ("redis-server", "valkey-server"), "redis-server")
        self._options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes" if append_only else "no",
            "appendfsync": "always",
            "repl-diskless-sync-delay": "0",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self.password = options.get("requirepass", "")

    @property
    def url(self) -> str:
        """For the backend's option ``url``; without the password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        flags = [part for name, value in self._options.items() for part in (f"--{name}", *self._words(value))]
        return [self._program, *flags]

    @staticmethod
    def _words(value: str) -> list[str]:
        return value.split(" ")

    def answers(self) -> bool:
        try:
            return bool(self.ask("PING") == "PONG")
        except RuntimeError:  # it is there, and still reads its data
            return False

    def ask(self, *command: object) -> Any:
        """Send one command and return its answer. Raises `RuntimeError` for an error that is answered."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            stream = connection.makefile("rwb")
            if self.password:
                _send(stream, "AUTH", self.password)
                _receive(stream)
            _send(stream, *command)
            return _receive(stream)

    def info(self, section: str = "everything") -> dict[str, str]:
        """The lines of ``INFO``."""
        lines = [line.partition(":") for line in str(self.ask("INFO", section)).splitlines()]
        return {name: value for name, colon, value in lines if colon}

    def commands(self) -> int:
        """How many commands clients have sent; those that scripts call are not counted."""
        calls = 0
        for name, value in self.info("commandstats").items():
            if name in ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_bzpopmin"):
                calls += int(value.partition("calls=")[2].partition(",")[0])
        return calls

    def disconnect(self) -> None:
        """Break every connection of clients."""
        self.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


class _SentinelServer(RedisServer):
    """One Sentinel; its configuration is a file, as it rewrites it."""

    def __init__(self, master: int) -> None:
        super().__init__()
        (self.folder / "sentinel.conf").write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {self.folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {round(_DOWN_SECONDS * 1000)}\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )

    def command(self) -> list[str]:
        return [self._program, str(self.folder / "sentinel.conf"), "--sentinel"]


class _Group:
    """Several servers that start and end together."""

    def __init__(self) -> None:
        self.servers: list[RedisServer] = []

    def _set_up(self) -> None:
        """Start the servers and join them."""
        raise NotImplementedError

    def close(self) -> None:
        for server in self.servers:
            server.close()

    def __enter__(self: Self) -> Self:
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class RedisSentinels(_Group):
    """A master, replicas of it, and three Sentinels that choose another master when it is gone."""

    def __init__(self, *, replicas: int = 2, append_only: bool = False) -> None:
        super().__init__()
        self._replicas = replicas
        self._append_only = append_only
        self.data: list[RedisServer] = []
        self.sentinels: list[RedisServer] = []

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in self.sentinels)}/{SERVICE}/0"

    def _set_up(self) -> None:
        def add(server: RedisServer, members: list[RedisServer]) -> RedisServer:
            self.servers.append(server)
            members.append(server)
            server.start()
            return server

        master = add(RedisServer(append_only=self._append_only), self.data)
        for _ in range(self._replicas):
            replica = RedisServer(append_only=self._append_only, replicaof=f"127.0.0.1 {master.port}")
            add(replica, self.data)
        for _ in range(3):
            add(_SentinelServer(master.port), self.sentinels)
        _wait(lambda: all(self._knows_all(sentinel) for sentinel in self.sentinels), "the Sentinels to know each other")

    def _knows_all(self, sentinel: RedisServer) -> bool:
        about = sentinel.ask("SENTINEL", "MASTER", SERVICE)
        known = dict(zip(about[::2], about[1::2], strict=True))
        return (
            known["num-slaves"] == str(self._replicas)
            and known["num-other-sentinels"] == str(len(self.sentinels) - 1)
            and int(self.master().info("replication")["connected_slaves"]) == self._replicas
        )

    def master(self) -> RedisServer:
        """The server that the Sentinels call the master at present."""
        port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1]
        return next(server for server in self.data if server.port == int(port))

    def wait_for_other_master(self, than: RedisServer) -> RedisServer:
        """Return when all Sentinels name another one, and it takes writes."""

        def changed() -> bool:
            named = {each.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1] for each in self.sentinels}
            return named != {str(than.port)} and len(named) == 1 and self.master().info()["role"] == "master"

        _wait(changed, "another master")
        return self.master()


class RedisCluster(_Group):
    """A Cluster of masters without replicas, each with its share of the slots."""

    def __init__(self, *, masters: int = 3, append_only: bool = False) -> None:
        super().__init__()
        for _ in range(masters):
            bus = str(free_port())
            server = RedisServer(append_only=append_only, cluster_enabled="yes", cluster_port=bus)
            self.servers.append(server)
        self._ids: dict[int, str] = {}

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{each.port}' for each in self.servers)}"

    def _set_up(self) -> None:
        share = -(-SLOTS // len(self.servers))
        for at, server in enumerate(self.servers):
            server.start()
            server.ask("CLUSTER", "ADDSLOTSRANGE", at * share, min((at + 1) * share, SLOTS) - 1)
            self._ids[server.port] = server.ask("CLUSTER", "MYID")
        first = self.servers[0]
        for server in self.servers[1:]:
            server.ask("CLUSTER", "MEET", "127.0.0.1", first.port, first._options["cluster-port"])
        _wait(lambda: all(self._is_whole(server) for server in self.servers), "the Cluster to form")

    def _is_whole(self, server: RedisServer) -> bool:
        state = str(server.ask("CLUSTER", "INFO"))
        return "cluster_state:ok" in state and f"cluster_known_nodes:{len(self.servers)}" in state

    def owner(self, key: str) -> RedisServer:
        """The server that has a key's slot."""
        slot = self.servers[0].ask("CLUSTER", "KEYSLOT", key)
        for start, end, (_, port, *_rest), *_replicas in self.servers[0].ask("CLUSTER", "SLOTS"):
            if start <= slot <= end:
                return next(server for server in self.servers if server.port == port)
        raise RuntimeError(f"no server has the slot {slot}")

    def move_slot(self, key: str, pause: float = 0.0) -> None:
        """Move a key's slot, and all keys in it, to the next server; ``pause`` seconds between two keys."""
        slot, source = self.servers[0].ask("CLUSTER", "KEYSLOT", key), self.owner(key)
        target = self.servers[(self.servers.index(source) + 1) % len(self.servers)]
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self._ids[source.port])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self._ids[target.port])
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, round(PATIENCE * 1000), "KEYS", *keys)
            time.sleep(pause)
        for server in (target, source, *self.servers):
            server.ask("CLUSTER", "SETSLOT", slot, "NODE", self._ids[target.port])


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if condition():
                return
        except (OSError, RuntimeError):
            pass  # on their way up servers refuse this and that
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.05)


def _send(stream: "BufferedRWPair", *command: object) -> None:
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    stream.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
    stream.flush()


def _receive(stream: "BufferedRWPair") -> Any:
    """One answer of protocol version 2; text is decoded as far as it goes."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the server hung up")
    kind, rest = line[:1], line[1:-2].decode(errors="replace")
    if kind == b"-":
        raise RuntimeError(rest)
    if kind == b"+":
        return rest
    if kind == b":":
        return int(rest)
    if rest == "-1":
        return None
    if kind == b"$":
        return stream.read(int(rest) + 2)[:-2].decode(errors="surrogateescape")
    return [_receive(stream) for _ in range(int(rest))]
