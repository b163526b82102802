"""RabbitMQ as private processes: one server, and three joined to a cluster.

Owns how they are configured, and what an operator may do to them. They do without Erlang's port
mapper, which would be one more process and would outlive them: a server is told the port of its
distribution, and so is who asks it. Where the program is, ``rabbitmq_home.py`` knows.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from headrace.conformance.servers.group import ServerGroup
from headrace.conformance.servers.process import ServerProcess, TlsFiles, free_port
from headrace.conformance.servers.rabbitmq_home import find_home, link_home

#: Marks every process of a server, its port programs included, with the server's folder.
_MARK: Final = "HEADRACE_TEST_SERVER"

#: Servers of one cluster share it. It guards nothing: they listen on loopback, for the time of a test.
_COOKIE: Final = "headrace"

#: Bytes of memory above which the server blocks publishers, in a test: several times what it takes when idle.
_MEMORY: Final = 512_000_000

#: Seconds between a channel's looks at how long its deliveries are held, and, with management, between two reports of
#: a queue's figures. RabbitMQ's 60 and 5 are long for a test.
_TICK: Final = 0.5

#: Seconds after which a message that expired, and whose next queue did not answer, is sent there again. RabbitMQ's 180
#: are long for a test.
_DEAD_LETTER_TIMEOUT: Final = 2.0

#: Seconds that a delivery may be held: RabbitMQ's own.
_CONSUMER_TIMEOUT: Final = 1800.0

#: Erlang for the processes that hold a server's connections, and for the user in whose name things are deleted.
_CONNECTIONS: Final = "rabbit_networking:local_connections()"
_OPERATOR: Final = '<<"operator">>'

#: What begins a connection of AMQP 0-9-1; a server that is ready answers it with a method's frame.
_GREETING: Final = b"AMQP\x00\x00\x09\x01"

#: The type of that frame.
_METHOD: Final = b"\x01"


class RabbitServer(ServerProcess):
    """One server, with the user ``guest`` and the vhost ``/``.

    ``management`` adds its HTTP interface, ``tls`` a port for that; `port` stays.
    """

    patience = 120.0  # several seconds of two idle processors

    def __init__(
        self,
        *,
        management: bool = False,
        tls: TlsFiles | None = None,
        schedulers: int = 1,
        memory: int = _MEMORY,
        options: Mapping[str, object] | None = None,
        address: str = "127.0.0.1",
        distribution_port: int | None = None,
    ) -> None:
        """``options`` as in ``rabbitmq.conf``. ``schedulers``: how many processors it may use, 1 starts soonest.

        ``memory``: bytes above which it blocks publishers.

        ``address`` and ``distribution_port`` are for `RabbitCluster`.
        """
        # First, as it may raise, and the folder would stay.
        home = find_home()
        super().__init__()
        self.node: Final = f"rabbit@{address}"
        self.management_port: Final = free_port() if management else None
        self.tls_port: Final = free_port() if tls else None
        self._address = address
        self._distribution_port = distribution_port or free_port()
        self._schedulers = schedulers
        self._memory = memory
        self._home = self.folder / "home"
        plugins = ["rabbitmq_management"] if management else []
        link_home(home, self._home, ["rabbit", *plugins])
        (self.folder / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")
        settings = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "log.console": "true",
            "log.console.level": "warning",
            "vm_memory_high_watermark.absolute": memory,
            "disk_free_limit.absolute": "1MB",
            **(self._management_settings() if management else {}),
            **(self._tls_settings(tls) if tls else {}),
            **(options or {}),
        }
        lines = [f"{name} = {value}\n" for name, value in settings.items()]
        (self.folder / "rabbitmq.conf").write_text("".join(lines))
        milliseconds = {
            "channel_tick_interval": _TICK * 1000,
            "dead_letter_worker_publisher_confirm_timeout": _DEAD_LETTER_TIMEOUT * 1000,
            **({"quorum_tick_interval": _TICK * 1000} if management else {}),
        }
        pairs = ", ".join(f"{{{name}, {round(value)}}}" for name, value in milliseconds.items())
        (self.folder / "advanced.config").write_text(f"[{{rabbit, [{pairs}]}}].\n")
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(_COOKIE)
        cookie.chmod(0o400)  # Erlang refuses one that others can read

    def _management_settings(self) -> dict[str, object]:
        return {
            "management.tcp.ip": "127.0.0.1",
            "management.tcp.port": self.management_port,
            "collect_statistics_interval": round(_TICK * 1000),
        }

    def _tls_settings(self, files: TlsFiles) -> dict[str, object]:
        return {
            "listeners.ssl.1": f"127.0.0.1:{self.tls_port}",
            "ssl_options.cacertfile": files.authority,
            "ssl_options.certfile": files.certificate,
            "ssl_options.keyfile": files.key,
            "ssl_options.verify": "verify_none",
        }

    @property
    def url(self) -> str:
        """For the backend's option ``url``; without user and password, as ``guest`` is everybody's default."""
        return self.url_of()

    def url_of(self, user: str = "", password: str = "", vhost: str = "/") -> str:
        """As `url`, for another user or vhost."""
        who = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
        return f"amqp://{who}127.0.0.1:{self.port}/{'' if vhost == '/' else quote(vhost, safe='')}"

    @property
    def tls_url(self) -> str:
        """As `url`, by TLS."""
        return f"amqps://127.0.0.1:{self.tls_port}/"

    @property
    def management_url(self) -> str:
        """Where its HTTP interface is; without user and password."""
        return f"http://127.0.0.1:{self.management_port}"

    def command(self) -> list[str]:
        return [str(self._home / "sbin" / "rabbitmq-server")]

    def environment(self) -> dict[str, str]:
        """Nothing of this process's own but the path, so that no setting of a user's RabbitMQ comes in."""
        distribution = f"-start_epmd false -erl_epmd_port {self._distribution_port}"
        address = self._address.replace(".", ",")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ERL_CRASH_DUMP_SECONDS": "0",  # none
            _MARK: str(self.folder),
            # As under systemd the script becomes the server, and does not stay before it as a parent.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_MNESIA_DIR": str(self.folder / "data" / "node"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-name {self.node} {distribution} -kernel inet_dist_use_interface {{{address}}} "
                # Line numbers of stack traces, which nobody reads here, take time at the start.
                f"+S {self._schedulers}:{self._schedulers} +L"
            ),
            "RABBITMQ_CTL_ERL_ARGS": f"{distribution} -dist_listen false",
        }

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(_GREETING)
            return connection.recv(1) == _METHOD

    def ctl(self, *arguments: object) -> str:
        """What ``rabbitmqctl`` prints. Raises `RuntimeError` with what it says when it fails."""
        command = [self._home / "sbin" / "rabbitmqctl", "--node", self.node, "--longnames", "--quiet", *arguments]
        return self._run(list(map(str, command)))

    def evaluate(self, expressions: str) -> str:
        """The value of Erlang expressions in the server. Raises `RuntimeError` for one that fails, or has no answer.

        It takes some milliseconds, and `ctl` the better part of a second.
        """
        caller = shutil.which("erl_call")
        if caller is None:
            return self.ctl("eval", f"{expressions}.").strip()
        address = f"{self._address}:{self._distribution_port}"
        answer = self._run([caller, "-address", address, "-c", _COOKIE, "-e"], f"{expressions}.\n")
        kind, _, value = answer.removeprefix("{").removesuffix("}").partition(", ")
        if kind != "ok":
            raise RuntimeError(f"{expressions}: {answer}")
        return value

    def _run(self, command: Sequence[str], given: str = "") -> str:
        try:
            done = subprocess.run(
                command, env=self.environment(), input=given, capture_output=True, text=True, timeout=self.patience
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{' '.join(command)}: no answer within {self.patience:g} s") from error
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def add_user(self, user: str, password: str, vhost: str = "/", permissions: Sequence[str] = (".*",) * 3) -> None:
        """Add a user, with permissions to configure, write and read what these expressions match."""
        self.ctl("add_user", user, password)
        self.ctl("set_permissions", "--vhost", vhost, user, *permissions)

    def add_vhost(self, vhost: str) -> None:
        """Add a vhost, which ``guest`` may use."""
        self.ctl("add_vhost", vhost)
        self.ctl("set_permissions", "--vhost", vhost, "guest", ".*", ".*", ".*")

    def close_connections(self) -> None:
        """End every connection as an operator does: clients are told."""
        self.evaluate(f'[rabbit_networking:close_connection(P, "closed by the test") || P <- {_CONNECTIONS}]')

    def disconnect(self) -> None:
        """Break every connection as a network does: clients are told nothing."""
        self.evaluate(f"[exit(P, kill) || P <- {_CONNECTIONS}]")

    def close_channels(self) -> None:
        """Let the server close every channel, for an acknowledgement that it never had to expect; connections stay."""
        acknowledgement = "{'basic.ack', 1000000000, false}"
        self.evaluate(f"[rabbit_channel:do(P, {acknowledgement}) || P <- rabbit_channel:list_local()]")

    def raise_alarm(self) -> None:
        """Block publishers, as when memory runs out. Every connection has been told when it returns."""
        self.evaluate(
            "vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1}), "
            "Wait = fun W() -> case rabbit_alarm:get_alarms() of [] -> timer:sleep(10), W(); _ -> ok end end, Wait()"
        )

    def lift_alarm(self) -> None:
        """Let publishers go on."""
        self.evaluate(f"vm_memory_monitor:set_vm_memory_high_watermark({{absolute, {self._memory}}})")

    def set_consumer_timeout(self, seconds: float) -> None:
        """How long a delivery may be held on channels that are opened from now on."""
        self.evaluate(f"application:set_env(rabbit, consumer_timeout, {round(seconds * 1000)})")

    def queues(self, vhost: str = "/") -> dict[str, dict[str, Any]]:
        """The queues by name, each with its arguments."""
        rows = json.loads(self.ctl("list_queues", "--vhost", vhost, "--formatter", "json", "name", "arguments"))
        return {row["name"]: {name: value for name, _, value in row["arguments"]} for row in rows}

    def exchanges(self, vhost: str = "/") -> set[str]:
        """The names of the exchanges, but for those that every vhost has."""
        rows = json.loads(self.ctl("list_exchanges", "--vhost", vhost, "--formatter", "json", "name"))
        return {row["name"] for row in rows if row["name"] and not row["name"].startswith("amq.")}

    def delete_queue(self, name: str, vhost: str = "/") -> None:
        """Delete a queue with all that it holds, under whoever consumes it."""
        resource = f"rabbit_misc:r({_binary(vhost)}, queue, {_binary(name)})"
        found = f"{{ok, Q}} = rabbit_amqqueue:lookup({resource})"
        self.evaluate(f"{found}, rabbit_amqqueue:delete(Q, false, false, {_OPERATOR})")

    def restart(self) -> None:
        """Kill it, and start it again on the same port with what it has on disk.

        It notes which quorum queues it has every half a second: killed before that, it has lost for ever a queue that
        was just declared, with all that is in it. That is RabbitMQ's own, so it may write first.
        """
        self.evaluate("[dets:sync(T) || T <- dets:all()]")
        super().restart()

    def mend(self) -> None:
        """Start it again if it has lost what dead-letters its messages.

        RabbitMQ 3.10 loses that for good, and cannot declare or delete a quorum queue from then on, when it starts it
        for a queue that is deleted in that moment.
        """
        if self.evaluate("whereis(rabbit_fifo_dlx_sup)") == "undefined":
            self.restart()

    def clear(self) -> None:
        """Delete all queues and exchanges, and let the server be as it was after its start, running if it is not."""
        if self._process is None:
            self.start()
        self.resume()
        self.mend()
        self.lift_alarm()
        self.set_consumer_timeout(_CONSUMER_TIMEOUT)
        self.evaluate(f"[rabbit_amqqueue:delete(Q, false, false, {_OPERATOR}) || Q <- rabbit_amqqueue:list()]")
        ours = '{_, _, _, X} = N <- rabbit_exchange:list_names(), X =/= <<>>, string:prefix(X, "amq.") =:= nomatch'
        self.evaluate(f"[rabbit_exchange:delete(N, false, {_OPERATOR}) || {ours}]")

    def connections(self) -> int:
        """How many connections clients have."""
        return int(self.evaluate(f"length({_CONNECTIONS})"))

    def _end(self, number: int) -> None:
        super()._end(number)
        # Erlang's helpers end by themselves when they notice; nobody would wait for them.
        while left := list(_processes(self.folder)):
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.01)


class RabbitCluster(ServerGroup[RabbitServer]):
    """Servers that share users, vhosts and quorum queues. Each has an address of loopback for the others."""

    def __init__(self, *, servers: int = 3) -> None:
        super().__init__()
        # Without a port mapper all of them must have the same port, each at its own address.
        port = free_port()
        for number in range(1, servers + 1):
            self.servers.append(RabbitServer(address=f"127.0.0.{number}", distribution_port=port))

    @property
    def url(self) -> str:
        """For the backend's option ``url``."""
        return f"amqp://{','.join(f'127.0.0.1:{each.port}' for each in self.servers)}/"

    def restart(self) -> None:
        """Kill the first one, to which clients connect, and start it again; the others go on meanwhile."""
        self.servers[0].restart()

    def disconnect(self) -> None:
        """As `RabbitServer.disconnect`, of all."""
        for server in self.servers:
            server.disconnect()

    def _set_up(self) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(RabbitServer.start, self.servers))
        # Not by the configuration: from 4.0 on a server would look at the others through one more Erlang.
        first, *others = self.servers
        for server in others:
            server.ctl("stop_app")
            server.ctl("join_cluster", first.node)
            server.ctl("start_app")


def _binary(text: str) -> str:
    """A text in Erlang."""
    return f"<<{','.join(map(str, text.encode()))}>>"


def _processes(folder: Path) -> Iterable[int]:
    """The processes of the server in a folder, as far as the system tells."""
    mark = f"{_MARK}={folder}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = process.joinpath("environ").read_bytes()
        except OSError:
            continue  # another user's, or gone
        if mark in environment.split(b"\0"):
            yield int(process.name)
