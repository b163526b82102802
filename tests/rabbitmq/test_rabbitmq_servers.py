"""The private servers of the tests: they start, do what they are told, and leave nothing."""

import socket
from pathlib import Path

import pytest

from headrace.conformance.servers.process import ServerNotFound
from headrace.conformance.servers.rabbitmq import RabbitServer
from headrace.conformance.servers.rabbitmq_home import PROGRAM


def family(process: int) -> set[int]:
    """A process, and all that descend from it."""
    found = {process}
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in task.joinpath("children").read_text().split():
            found |= family(int(child))
    return found


def alive(processes: set[int]) -> set[int]:
    """Those that have not ended; one that has may still wait for the system's first process to take note."""
    return {each for each in processes if _state(each) != "Z"}


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def listeners(server: RabbitServer) -> set[str]:
    """The addresses at which processes of a server listen, as Linux writes them; those too that it has let go."""
    sockets: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(server.folder).encode() in (process / "environ").read_bytes():
                sockets |= {_target(each) for each in (process / "fd").iterdir()}
        except OSError:
            continue  # it has ended
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets}


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""  # it was closed


def test_a_server_listens_on_loopback_only_and_leaves_no_process_and_no_folder() -> None:
    with RabbitServer() as server:
        processes = family(server.pid)
        assert len(processes) > 1
        opened = listeners(server)
        assert all(address.startswith("0100007F:") for address in opened), opened
        assert f"0100007F:{server.port:04X}" in opened
    assert alive(processes) == set()
    assert not server.folder.exists()


def test_a_killed_server_leaves_no_process_and_comes_back_with_its_data_on_its_port(server: RabbitServer) -> None:
    server.add_user("somebody", "a password")
    processes, port = family(server.pid), server.port
    server.kill()
    assert alive(processes) == set()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    server.start()
    assert server.port == port
    assert "somebody" in server.ctl("list_users")
    server.ctl("delete_user", "somebody")


def test_a_paused_server_answers_nobody_until_it_goes_on(server: RabbitServer) -> None:
    server.pause()
    with pytest.raises(TimeoutError), socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        connection.settimeout(0.5)
        connection.sendall(b"AMQP\0\0\x09\x01")
        connection.recv(1)
    server.resume()
    assert server.answers()


def test_a_server_has_the_memory_that_it_was_given_after_an_alarm_too() -> None:
    with RabbitServer(memory=2**30) as server:
        server.raise_alarm()
        server.clear()
        assert server.evaluate("vm_memory_monitor:get_vm_memory_high_watermark()") == f"{{absolute, {2**30}}}"


def test_what_fails_in_the_server_is_told(server: RabbitServer) -> None:
    assert server.evaluate("1 + 1") == "2"
    with pytest.raises(RuntimeError, match="badarith"):
        server.evaluate("1 / 0")
    with pytest.raises(RuntimeError, match="nobody"):
        server.ctl("set_permissions", "nobody", ".*", ".*", ".*")


def test_a_server_that_cannot_start_says_why_and_leaves_nothing() -> None:
    broken = RabbitServer(options={"no_such_setting": "1"})
    with pytest.raises(RuntimeError, match="no_such_setting"):
        broken.__enter__()
    assert not broken.folder.exists()


def test_a_program_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PROGRAM, str(tmp_path / "none"))
    with pytest.raises(ServerNotFound, match=PROGRAM):
        RabbitServer()
    monkeypatch.setenv(PROGRAM, "/bin/sh")
    with pytest.raises(ServerNotFound, match="/bin/sh is not in the sbin of a RabbitMQ"):
        RabbitServer()
