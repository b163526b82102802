"""The demo's jobs: one that works, and five that each show what becomes of trouble."""

import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from headrace import Job, current
from headrace.demo.counting import Results, count_file

#: The environment variable that names the demo's scratch folder to the worker processes.
FOLDER: Final = "HEADRACE_DEMO_FOLDER"
#: How long `RunsTooLong` may run, and how long it does, in seconds.
TIMEOUT: Final = 0.5
TOO_LONG: Final = 1.5


@asynccontextmanager
async def lifespan() -> AsyncIterator[Results]:
    """Around each worker: what handlers find as ``current().state``."""
    results = Results(_folder() / "results.db")
    try:
        yield results
    finally:
        results.close()


class CountFile(Job, queue="demo"):
    """Counts one file. A plain ``def``: the worker runs it in a thread."""

    path: str

    def handle(self) -> None:
        current().state.record(self.path, count_file(self.path))


class FailsTwice(CountFile, max_retries=3, retry_seconds=(0.3, 0.6)):
    """Works at its third run, as calls over a network may."""

    def handle(self) -> None:
        attempt = current().attempt
        if attempt < 2:
            raise ConnectionError(f"nobody answered run number {attempt + 1}")
        super().handle()


class FailsForGood(CountFile):
    """Has no retries left at once."""

    def handle(self) -> None:
        if not mended():
            raise ValueError("this cannot be counted before somebody mends it")
        super().handle()


class StartsLater(CountFile):
    """An ordinary job, which the demo pushes with a delay."""


class RunsTooLong(CountFile, handle_timeout=TIMEOUT):
    """Ends well, but after its time: it goes on, and its message rests in ``timeout``."""

    def handle(self) -> None:
        if not mended():
            time.sleep(TOO_LONG)
        super().handle()


class KillsItsWorker(CountFile):
    """Ends the process that runs it, as running out of memory does; each time."""

    def handle(self) -> None:
        if not mended():
            os.kill(os.getpid(), signal.SIGKILL)
        super().handle()


def mend() -> None:
    """Repair what ails the jobs that failed."""
    (_folder() / "mended").touch()


def mended() -> bool:
    return (_folder() / "mended").exists()


def _folder() -> Path:
    return Path(os.environ[FOLDER])
