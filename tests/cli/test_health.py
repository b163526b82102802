"""What probes and systemd are told by ``headrace worker``."""

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.conformance.servers.process import free_port
from headrace.errors import ConfigError
from headrace.probes import Address, read_place
from headrace.systemd import Systemd

from .conftest import CONFIG, Shop, until
from .test_stalled import configure


def ask(port: int, path: str, method: str = "GET") -> tuple[int, Any]:
    """A probe's request: the status, and what is told."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
    except OSError:
        return 0, None
    finally:
        connection.close()
    return response.status, json.loads(body) if body else None


def test_a_port_answers_whether_the_processes_are_ready_and_live(shop: Shop) -> None:
    configure(shop, "report")
    port = free_port()
    worker = shop.start("worker", "mail", "low", "--health", str(port))
    until(lambda: ask(port, "/ready")[0] == 200, "both processes are ready")
    status, told = ask(port, "/live")
    assert (status, told["live"], told["ready"], told["phase"]) == (200, True, True, "running")
    assert sorted(each["queue"] for each in told["workers"]) == ["low", "mail"]
    assert sorted(each["pid"] for each in told["workers"]) == sorted(shop.processes())
    until(lambda: {each["state"] for each in ask(port, "/live")[1]["workers"]} == {"working"}, "both work")
    assert ask(port, "/live", "HEAD") == (200, None)
    assert (ask(port, "/")[0], ask(port, "/live", "POST")[0]) == (404, 405)

    shop.store("Block", {})
    until(lambda: ask(port, "/live")[0] == 503, "a process is stalled")
    (stalled,) = (each for each in ask(port, "/live")[1]["workers"] if each["queue"] == "mail")
    assert (stalled["state"], stalled["silent_seconds"] > 0.5) == ("stalled", True)
    assert "its event loop has been blocked" in stalled["problem"]
    shop.touch("mended")
    until(lambda: ask(port, "/live")[0] == 200, "it works again")

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_who_says_nothing_or_too_much_to_the_port_disturbs_nobody(shop: Shop) -> None:
    port = free_port()
    worker = shop.start("worker", "mail", HEADRACE_HEALTH=f"127.0.0.1:{port}")
    until(lambda: ask(port, "/ready")[0] == 200, "it is ready")
    silent, loud = (socket.create_connection(("127.0.0.1", port)) for _ in range(2))
    with silent, loud:
        loud.sendall(b"GET /live HTTP/1.1\r\nX: " + b"x" * 20_000)
        assert ask(port, "/live")[0] == 200
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert "Traceback" not in shop.log


def test_a_process_that_waits_for_its_backend_is_not_ready(shop: Shop) -> None:
    shop.configure(
        f"{CONFIG}[queues.far]\nbackend = 'redis'\n[backends.redis]\nurl = 'redis://127.0.0.1:{free_port()}'\n"
    )
    port = free_port()
    worker = shop.start("worker", "far", "--health", str(port))
    until(lambda: "is out of reach" in shop.log, "the backend is found to be away")
    status, told = ask(port, "/ready")
    assert (status, told["workers"][0]["state"]) == (503, "starting")
    assert ask(port, "/live")[0] == 200
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_a_port_in_use_is_wrong_usage_and_starts_nothing(shop: Shop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = shop.run("worker", "mail", "--health", str(port), status=2)
    assert f"--health: 127.0.0.1:{port} cannot be used: " in done.stderr
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert "started" not in done.stderr


def test_a_file_holds_the_same_while_the_supervisor_runs(shop: Shop) -> None:
    path = shop.folder / "health.json"
    worker = shop.start("worker", "mail", "--health", str(path))
    until(lambda: path.exists() and json.loads(path.read_text())["ready"], "it is ready")
    assert json.loads(path.read_text())["live"] is True
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert list(shop.folder.glob("*health*")) == []


def test_a_file_that_cannot_be_written_is_wrong_usage(shop: Shop) -> None:
    done = shop.run("worker", "mail", "--health", "nowhere/health.json", status=2)
    assert "--health: nowhere/health.json cannot be written: No such file or directory" in done.stderr


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("8099", Address("127.0.0.1", 8099)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("[::1]:8099", Address("::1", 8099)),
        ("./8099", Path("8099")),
        ("/run/headrace.json", Path("/run/headrace.json")),
    ],
)
def test_health_is_told_at_a_port_or_in_a_file(text: str, place: Address | Path) -> None:
    assert read_place(text) == place


@pytest.mark.parametrize("text", ["health.json", "localhost:http", "127.0.0.1:70000", "127.0.0.1"])
def test_what_may_be_meant_as_either_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="allowed: a port such as 8099"):
        read_place(text)


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    """A service manager's end; in the abstract namespace, as no path of a test may be too long for a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0headrace-test-{os.getpid()}")
        listening.settimeout(20)
        yield listening


def heard(manager: socket.socket, wanted: str) -> dict[str, str]:
    """The next note that says so, as its lines."""
    while True:
        note = dict(line.split("=", 1) for line in manager.recv(4096).decode().split("\n"))
        if wanted in note:
            return note


def test_systemd_is_told_of_readiness_life_reloads_and_the_end(shop: Shop, manager: socket.socket) -> None:
    address = "@" + manager.getsockname()[1:].decode()
    worker = shop.start("worker", "mail", NOTIFY_SOCKET=address, WATCHDOG_USEC="1000000")
    assert heard(manager, "READY")["READY"] == "1"
    began = time.monotonic()
    assert [heard(manager, "WATCHDOG")["WATCHDOG"] for _ in range(3)] == ["1"] * 3
    assert time.monotonic() - began < 10
    assert heard(manager, "STATUS")["STATUS"].startswith("running, 1 of 1 workers")
    for process in shop.processes():
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{process}/environ").read_bytes()

    asked = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    worker.send_signal(signal.SIGHUP)
    reloading = heard(manager, "RELOADING")
    assert asked <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert heard(manager, "READY")["READY"] == "1"

    worker.send_signal(signal.SIGTERM)
    assert heard(manager, "STOPPING")["STOPPING"] == "1"
    assert worker.wait(20) == 0


def test_a_reload_that_cannot_be_is_over_for_systemd_too(shop: Shop, manager: socket.socket) -> None:
    worker = shop.start("worker", "mail", NOTIFY_SOCKET="@" + manager.getsockname()[1:].decode())
    heard(manager, "READY")
    shop.configure(f"{CONFIG}max_retires = 3\n")
    worker.send_signal(signal.SIGHUP)
    heard(manager, "RELOADING")
    heard(manager, "READY")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_a_watchdog_of_another_process_is_not_ours_and_nothing_is_left_to_inherit() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}
    found = Systemd.of(environ)
    assert (found is not None and found.every, environ) == (1.0, {})
    found = Systemd.of({"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"})
    assert found is not None
    assert found.every > 1.0
    assert Systemd.of({"PATH": "/bin"}) is None
