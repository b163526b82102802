"""The processes of a contender, seen from outside: one that produces, and workers.

Owns starting, asking and ending them. Each leads a process group of its own, so that whatever it has
started ends with it. What they print goes to a file in the session's folder, whose end is shown
when one of them fails.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from peers.base import Place
from peers.contenders import Contender

#: Seconds in which a producer has to start, and to answer beyond the time it was asked to take.
PATIENCE: Final = 60.0

#: Seconds in which a worker has to end when told to, before it is killed: with nothing left to do.
GRACE: Final = 5.0

#: Characters of what a process printed that an error shows.
_TAIL: Final = 1500

_BENCHMARKS: Final = Path(__file__).parent.parent
_ADAPTERS: Final = Path(__file__).parent / "adapters"


class PeerFailed(Exception):
    """A contender's process ended, or did not answer. The text says which, and what it printed last."""


class _Process:
    """One process of a contender; as a context manager it is killed at the end."""

    def __init__(self, contender: Contender, what: str, place: Place, libraries: Path, log: Path) -> None:
        self._name = f"{contender.name}, {what}"
        self._log = log
        home = libraries / contender.library
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                _command(contender, what, place),
                stdin=subprocess.PIPE if what == "produce" else subprocess.DEVNULL,
                stdout=subprocess.PIPE if what == "produce" else output,
                stderr=output,
                cwd=home if contender.adapter.endswith(".mjs") else log.parent,
                env=_environment(contender, home),
                start_new_session=True,
            )

    def failed(self, how: str) -> PeerFailed:
        """The error that says so."""
        printed = self._log.read_text(errors="replace")[-_TAIL:].strip()
        return PeerFailed(f"{self._name}: {how}; it printed last: {printed or 'nothing'}")

    def check(self) -> None:
        """Raises `PeerFailed` if it has ended."""
        if self._process.poll() is not None:
            raise self.failed(f"ended with {self._process.returncode}")

    def kill(self) -> None:
        """End it, and all that it has started, with SIGKILL."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was not written has nobody to read it
                    stream.close()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()


class WorkerProcess(_Process):
    """A worker, which starts at once."""

    def __init__(self, contender: Contender, place: Place, libraries: Path, log: Path) -> None:
        super().__init__(contender, "work", place, libraries, log)

    def stop(self) -> None:
        """End it as an operator would; killed if it takes longer than `GRACE`."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self.kill()


class Producer(_Process):
    """A producer, connected to its broker."""

    def __init__(self, contender: Contender, place: Place, libraries: Path, log: Path) -> None:
        """Raises `PeerFailed` if it does not start."""
        super().__init__(contender, "produce", place, libraries, log)
        try:
            #: By the names of distributions.
            self.versions: Final[dict[str, str]] = self._answer(PATIENCE)["versions"]
        except BaseException:
            self.kill()
            raise

    def push_for(self, seconds: float, bulk: bool) -> tuple[int, float]:
        """Push as many jobs as go into these seconds; how many, and in how many seconds."""
        answer = self._ask(PATIENCE + seconds, do="push", first=0, count=None, seconds=seconds, bulk=bulk)
        return answer["count"], answer["seconds"]

    def push(self, count: int, first: int = 0) -> None:
        """Push so many jobs in bulk, from number ``first`` on."""
        self._ask(10 * PATIENCE, do="push", first=first, count=count, seconds=None, bulk=True)

    def pace(self, first: int, count: int, rate: float) -> list[float]:
        """Push at a fixed rate. When each job was pushed, on the monotonic clock."""
        pushed: list[float] = self._ask(PATIENCE + 2 * count / rate, do="pace", first=first, count=count, rate=rate)[
            "pushed"
        ]
        return pushed

    def left(self) -> int | None:
        """Jobs in the broker; ``None`` where the broker has to be asked."""
        left: int | None = self._ask(PATIENCE, do="left")["left"]
        return left

    def close(self) -> None:
        """Let it send what it has not sent yet, and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise self.failed(f"did not end within {PATIENCE:g} s") from None
        if self._process.returncode != 0:
            raise self.failed(f"ended with {self._process.returncode}")

    def _ask(self, patience: float, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self.failed("has ended") from None
        return self._answer(patience)

    def _answer(self, patience: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + patience
        text = b""
        while not text.endswith(b"\n"):
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise self.failed(f"did not answer within {patience:g} s")
            part = os.read(descriptor, 1 << 16)
            if not part:
                raise self.failed("has ended")
            text += part
        answer: dict[str, Any] = json.loads(text)
        return answer


def _command(contender: Contender, what: str, place: Place) -> Sequence[str]:
    text = json.dumps(asdict(place))
    if contender.adapter.endswith(".mjs"):
        return ["node", str(_ADAPTERS / contender.adapter), what, text]
    return [sys.executable, "-m", "peers.child", contender.adapter, what, text]


def _environment(contender: Contender, home: Path) -> dict[str, str]:
    paths = [str(_BENCHMARKS)] if contender.ours else [str(home), str(_BENCHMARKS)]
    return {**os.environ, **contender.environment, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
