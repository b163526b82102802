"""Redis or Valkey as private processes: one server, masters with Sentinels, and a Cluster.

Owns how they are configured, and asks them in their own protocol, of which it speaks as
much as that takes. The program is what the environment's ``HEADRACE_TEST_REDIS_SERVER`` names, or
`redis-server` or `valkey-server`; where neither can be had, it is run in a container.
"""

import socket
import time
from collections.abc import Callable, Sequence
from io import BufferedRWPair
from typing import Any, Final

from headrace.conformance.servers.group import ServerGroup
from headrace.conformance.servers.process import PATIENCE, ServerProcess, TlsFiles, free_port
from headrace.conformance.servers.programs import find_server

#: Names the program to run, before any that is on the path.
PROGRAM: Final = "HEADRACE_TEST_REDIS_SERVER"

#: What a container engine runs where there is neither a program nor a package of it.
IMAGE: Final = "docker.io/library/redis:7"

#: Slots of a Cluster: a number of Redis's.
SLOTS: Final = 16384

#: What Sentinels call the master that they watch.
SERVICE: Final = "headrace"

#: Seconds after which Sentinels give a silent master up: as short as a busy machine allows.
_DOWN_SECONDS: Final = 1.0


class RedisServer(ServerProcess):
    """One server. ``append_only`` makes it write each change to disk before it answers.

    With ``tls`` its clients and the other servers of its group speak TLS with it, at `front_port`; `port` stays.
    """

    def __init__(self, *, append_only: bool = False, tls: TlsFiles | None = None, **options: str) -> None:
        """``options`` as in ``redis.conf``, with ``_`` for ``-``."""
        self._program, container = find_server(PROGRAM, ("redis-server", "valkey-server"), "redis-server", IMAGE)
        super().__init__(container)
        #: Where clients and the others of its group reach it.
        self.front_port: Final = free_port() if tls else self.port
        self._options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes" if append_only else "no",
            "appendfsync": "always",
            "repl-diskless-sync-delay": "0",
            **(_tls_options(tls, self.front_port) if tls else {}),
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self.password = options.get("requirepass", "")
        self._scheme = _scheme(tls)

    @property
    def url(self) -> str:
        """For the backend's option ``url``; without the password."""
        return f"{self._scheme}://127.0.0.1:{self.front_port}/0"

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


def _tls_options(files: TlsFiles, port: int) -> dict[str, str]:
    return {
        "tls-port": str(port),
        "tls-cert-file": str(files.certificate),
        "tls-key-file": str(files.key),
        "tls-ca-cert-file": str(files.authority),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
        "tls-cluster": "yes",
    }


class _SentinelServer(RedisServer):
    """One Sentinel; its configuration is a file, as it rewrites it."""

    def __init__(self, master: int, tls: TlsFiles | None) -> None:
        super().__init__(tls=tls)
        options = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self.folder)}
        options |= _tls_options(tls, self.front_port) if tls else {}
        (self.folder / "sentinel.conf").write_text(
            "".join(f"{name} {value}\n" for name, value in options.items())
            + f"sentinel monitor {SERVICE} 127.0.0.1 {master} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {round(_DOWN_SECONDS * 1000)}\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )

    def command(self) -> list[str]:
        return [self._program, str(self.folder / "sentinel.conf"), "--sentinel"]


class _Group(ServerGroup[RedisServer]):
    """Several servers that start and end together."""

    def restart(self) -> None:
        """Kill those that take writes, start them again, and return when they take them again."""
        raise NotImplementedError

    def holders(self) -> list[RedisServer]:
        """Those that hold messages."""
        return self.servers

    def commands(self) -> int:
        """As `RedisServer.commands`, of all."""
        return sum(server.commands() for server in self.holders())

    def disconnect(self) -> None:
        """As `RedisServer.disconnect`, of all."""
        for server in self.holders():
            server.disconnect()


class RedisSentinels(_Group):
    """A master, replicas of it, and three Sentinels that choose another master when it is gone."""

    def __init__(self, *, replicas: int = 2, append_only: bool = False, tls: TlsFiles | None = None) -> None:
        super().__init__()
        self._replicas = replicas
        self._append_only = append_only
        self._tls = tls
        self.data: list[RedisServer] = []
        self.sentinels: list[RedisServer] = []

    @property
    def url(self) -> str:
        return f"{_scheme(self._tls)}+sentinel://{_addresses(self.sentinels)}/{SERVICE}/0"

    def _set_up(self) -> None:
        def add(server: RedisServer, members: list[RedisServer]) -> RedisServer:
            self.servers.append(server)
            members.append(server)
            server.start()
            return server

        master = add(RedisServer(append_only=self._append_only, tls=self._tls), self.data)
        replicaof = f"127.0.0.1 {master.front_port}"
        for _ in range(self._replicas):
            add(RedisServer(append_only=self._append_only, tls=self._tls, replicaof=replicaof), self.data)
        for _ in range(3):
            add(_SentinelServer(master.front_port, self._tls), self.sentinels)
        _wait(lambda: all(self._knows_all(sentinel) for sentinel in self.sentinels), "the Sentinels to know each other")

    def holders(self) -> list[RedisServer]:
        return self.data

    def restart(self) -> None:
        """It may be another one that takes writes afterwards."""
        self.master().restart()
        _wait(lambda: all(self._knows_all(sentinel) for sentinel in self.sentinels), "the master to have its replicas")

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
        return next(server for server in self.data if server.front_port == int(port))

    def wait_for_other_master(self, than: RedisServer) -> RedisServer:
        """Return when all Sentinels name another one, and it takes writes."""

        def changed() -> bool:
            named = {each.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1] for each in self.sentinels}
            return named != {str(than.front_port)} and len(named) == 1 and self.master().info()["role"] == "master"

        _wait(changed, "another master")
        return self.master()


class RedisCluster(_Group):
    """A Cluster of masters without replicas, each with its share of the slots."""

    def __init__(self, *, masters: int = 3, append_only: bool = False, tls: TlsFiles | None = None) -> None:
        super().__init__()
        self._tls = tls
        for _ in range(masters):
            bus = str(free_port())
            server = RedisServer(append_only=append_only, tls=tls, cluster_enabled="yes", cluster_port=bus)
            self.servers.append(server)
        self._ids: dict[int, str] = {}

    @property
    def url(self) -> str:
        return f"{_scheme(self._tls)}+cluster://{_addresses(self.servers)}"

    def _set_up(self) -> None:
        share = -(-SLOTS // len(self.servers))
        for at, server in enumerate(self.servers):
            server.start()
            server.ask("CLUSTER", "ADDSLOTSRANGE", at * share, min((at + 1) * share, SLOTS) - 1)
            self._ids[server.port] = server.ask("CLUSTER", "MYID")
        first = self.servers[0]
        for server in self.servers[1:]:
            server.ask("CLUSTER", "MEET", "127.0.0.1", first.front_port, first._options["cluster-port"])
        _wait(lambda: all(self._is_whole(server) for server in self.servers), "the Cluster to form")

    def _is_whole(self, server: RedisServer) -> bool:
        state = str(server.ask("CLUSTER", "INFO"))
        return "cluster_state:ok" in state and f"cluster_known_nodes:{len(self.servers)}" in state

    def restart(self) -> None:
        for server in self.servers:
            server.restart()
        _wait(lambda: all(self._is_whole(server) for server in self.servers), "the Cluster to form again")

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


def _scheme(tls: TlsFiles | None) -> str:
    return "rediss" if tls else "redis"


def _addresses(servers: Sequence[RedisServer]) -> str:
    return ",".join(f"127.0.0.1:{each.front_port}" for each in servers)


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
