"""The jobs of the fault tests. They note what they do in a ledger beside the configuration."""

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

from headrace import Job, current
from headrace.conformance.ledger import Ledger

ledger = Ledger(Path("ledger"))

#: What has leaked, so that nobody collects it.
kept: list[object] = []


class Noting(Job):
    """What all of them have."""

    number: int

    def note(self, word: str) -> None:
        ledger.write(word, str(self.number), current().attempt)


class Slow(Noting, name="faults.Slow"):
    """Takes so many seconds; raises after that in its first runs, as many as ``failures``."""

    seconds: float
    failures: int = 0

    async def handle(self) -> None:
        self.note("began")
        await asyncio.sleep(self.seconds)
        if current().attempt < self.failures:
            raise ValueError(f"run {current().attempt} of {self.number}")
        self.note("ran")


class Poison(Noting, name="faults.Poison"):
    """Kills its process, once so many ``innocents`` have begun, here or in another one before."""

    innocents: int

    async def handle(self) -> None:
        while len(set(ledger.keys("began"))) < self.innocents:
            await asyncio.sleep(0.02)
        self.note("kills")
        os.kill(os.getpid(), signal.SIGKILL)


class Leaking(Noting, name="faults.Leaking"):
    """Leaves a file open, a thread and a task behind, none of which ever ends."""

    async def handle(self) -> None:
        kept.append(Path(os.devnull).open())  # noqa: SIM115 - it is to leak
        threading.Thread(target=time.sleep, args=(10_000,)).start()
        kept.append(asyncio.get_running_loop().create_task(asyncio.sleep(10_000)))
        self.note("ran")
