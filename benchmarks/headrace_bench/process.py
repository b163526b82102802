"""Processes of the suite's own: each does one task that it is given through a pipe.

Owns their lives. One is started afresh, not forked, so that nothing of ours reaches it but its task; it has a session
of its own, so that Ctrl-C ends only who started it; and it ends when that does, whatever happens, since the pipe of its
task ends then.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: The program: a module that reads its task, and does it.
_PROGRAM: Final = (sys.executable, "-P", "-m", "headrace_bench.child")

#: Seconds between two looks whether a process has ended.
_LOOK_EVERY: Final = 0.01

#: Characters of what a process wrote to its stderr that an error tells.
_TAIL: Final = 400


class Child:
    """One process. Whoever starts it calls `end`."""

    def __init__(
        self, task: bytes, log: Path, *, environment: Mapping[str, str] | None = None, own_session: bool = False
    ) -> None:
        """``task``: one line of JSON. ``log``: the file for all that it prints.

        ``own_session``: it and all that it starts can be ended together.
        """
        self._log = log
        self._own_session = own_session
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                _PROGRAM,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                start_new_session=own_session,
            )
        self.pid: Final = self._process.pid
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; its status tells
            self._process.stdin.write(task + b"\n")
            self._process.stdin.flush()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing if it has ended."""
        self._process.send_signal(number)

    def wait(self, limit: float) -> str:
        """Wait for its end, at most ``limit`` seconds; what went wrong, in a line, and empty if nothing did."""
        deadline = time.monotonic() + limit
        while self.alive:
            if time.monotonic() > deadline:
                return f"it did not end within {limit:g} s"
            time.sleep(_LOOK_EVERY)
        return self.ending()

    def ending(self) -> str:
        """How it ended, in a line, with the last that it printed; empty if it ended well."""
        status = self._process.returncode
        if not status:
            return ""
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        printed = self._log.read_text(errors="replace").strip().splitlines()
        return f"its process {how}" + (f": {printed[-1][:_TAIL]}" if printed else "")

    def end(self) -> None:
        """Make sure that it is gone, and all that it started, whatever they do."""
        if self._own_session:
            # Before its status is collected its number is nobody else's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
