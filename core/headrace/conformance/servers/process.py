"""A server as a process of ours: on a free port of 127.0.0.1, with a folder of its own.

Owns the process's life: start, wait until it answers, stop, kill, pause, resume, restart. What
kind of server it is, and how one sees that it answers, its derived class knows.
"""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

from headrace.conformance.servers.container import Container

#: Seconds that a server may take to answer after its start, or to end when told to: many times what it takes.
PATIENCE: Final = 30.0

#: Seconds between two looks whether a server answers.
_LOOK: Final = 0.02

#: Bytes of a server's log that an error shows: the reason, after which Erlang may report for pages.
_TAIL: Final = 8000

Self = TypeVar("Self", bound="ServerProcess")


@dataclass(frozen=True)
class TlsFiles:
    """What a server speaks TLS with, in PEM: its certificate for 127.0.0.1 and localhost, and who signed it."""

    certificate: Path
    key: Path
    authority: Path


class ServerNotFound(Exception):
    """There is no server program here. The text says how to get it."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class ServerProcess:
    """One server. As a context manager it starts, and at the end is killed and its folder removed."""

    #: Seconds that it may take to answer after its start, or to end when told to.
    patience: float = PATIENCE

    def __init__(self, container: Container | None = None) -> None:
        """``container``: where `command` is run, if not on this machine."""
        self.port: Final = free_port()
        self.folder: Final = Path(tempfile.mkdtemp(prefix="headrace-server-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._container = container

    def command(self) -> list[str]:
        """The command line."""
        raise NotImplementedError

    def environment(self) -> dict[str, str] | None:
        """The process's environment; ``None`` for this process's own."""
        return None

    def answers(self) -> bool:
        """Whether the server is ready. An `OSError` counts as no."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The process's number. Raises `RuntimeError` when there is none."""
        if self._process is None:
            raise RuntimeError(f"{type(self).__name__} on port {self.port} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start, and return when the server answers. Raises `RuntimeError`, with the end of its log, if it does not."""
        command = self.command()
        if self._container is not None:
            command = self._container.command(command, self.folder)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + self.patience
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{command[0]} did not start: {self.log()[-_TAIL:]}")
            time.sleep(_LOOK)

    def _is_ready(self) -> bool:
        try:
            return self.answers()
        except OSError:
            return False

    def stop(self) -> None:
        """End it as an operator would; what it has not written yet, it writes."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it in its tracks: connections stay, answers do not come."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it, and start it again on the same port with what it has on disk."""
        self.kill()
        self.start()

    def log(self) -> str:
        """What the server has written to its output."""
        return (self.folder / "log").read_text(errors="replace")

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._send(self._process, number)

    def _send(self, process: "subprocess.Popen[bytes]", number: int) -> None:
        if self._container is None:
            process.send_signal(number)
        else:
            self._container.send(number)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._send(process, number)
        self._send(process, signal.SIGCONT)  # one that was paused would not hear the other
        try:
            process.wait(self.patience)
        except subprocess.TimeoutExpired:
            self._send(process, signal.SIGKILL)
            process.kill()  # in case that the engine does not do it
            process.wait()

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self: Self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
