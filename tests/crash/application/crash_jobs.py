"""The jobs of the crash matrix. They note what they do in a ledger beside the configuration."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Literal

from headrace import Job, current
from headrace.conformance.faulty import claim
from headrace.conformance.ledger import Ledger

ledger = Ledger(Path("ledger"))


class Sale(Job, name="crash.Sale"):
    """Works for ``seconds``, goes on for ``late`` after that, and raises in its first runs, as many as ``failures``.

    One of all that have a ``kill_at`` kills a process, once, when its handler starts or ends: ``victim``, or its own.
    """

    number: int
    seconds: float
    late: float = 0.0
    failures: int = 0
    kill_at: Literal["", "start", "end"] = ""
    victim: int = 0

    async def handle(self) -> None:
        self._kill("start")
        self._note("began")
        await asyncio.sleep(self.seconds)
        self._note("ended")
        self._kill("end")
        await asyncio.sleep(self.late)
        if current().attempt < self.failures:
            raise ValueError(f"run {current().attempt} of sale {self.number}")

    def _note(self, word: str) -> None:
        ledger.write(word, str(self.number), current().attempt)

    def _kill(self, at: str) -> None:
        if self.kill_at == at and claim(Path("struck")):
            os.kill(self.victim or os.getpid(), signal.SIGKILL)
