"""The jobs that cases push. Each notes what it does in the case's ledger, in whatever process it runs.

They belong to a queue of their own, so that no worker of anybody else's takes them for its business; and
their wire names begin with the package's, since the process may have declared the jobs of an application, too.
"""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Final

from headrace.conformance.ledger import Ledger
from headrace.context import current
from headrace.errors import Drop, Retry
from headrace.job import Job

#: The queue that these jobs belong to, as the configuration of a case calls it.
QUEUE: Final = "conformance"

#: For `Failing`: in more runs than any case allows.
ALWAYS: Final = 99

#: Seconds between looks at whether a gate is open.
_LOOK_EVERY: Final = 0.01


class Noting(Job, queue=QUEUE):
    """What all of them have."""

    ledger: str  #: the path of the case's ledger
    key: str  #: names the job in it

    def note(self, word: str) -> None:
        Ledger(Path(self.ledger)).write(word, self.key, current().attempt)


class Append(Noting, name="headrace.conformance.Append"):
    """Ends at once."""

    async def handle(self) -> None:
        self.note("ran")


class AppendInThread(Noting, name="headrace.conformance.AppendInThread"):
    """Ends at once, and is no coroutine."""

    def handle(self) -> None:
        self.note("ran")


class Sleeping(Noting, name="headrace.conformance.Sleeping"):
    """Takes a while, during which the event loop is free."""

    seconds: float
    then_raise: bool = False

    async def handle(self) -> None:
        self.note("began")
        await asyncio.sleep(self.seconds)
        self.note("ran")
        if self.then_raise:
            raise ValueError("after all")


class Blocking(Noting, name="headrace.conformance.Blocking"):
    """Takes a while, during which the event loop stands still."""

    seconds: float

    async def handle(self) -> None:
        self.note("began")
        time.sleep(self.seconds)  # noqa: ASYNC251 - what it is for
        self.note("ran")


class Failing(Noting, name="headrace.conformance.Failing"):
    """Raises in its first runs, as many as ``times``; later ones end well."""

    times: int
    seconds: float = 0.0

    async def handle(self) -> None:
        await asyncio.sleep(self.seconds)
        if current().attempt < self.times:
            self.note("raised")
            raise ValueError(f"run {current().attempt} of {self.key}")
        self.note("ran")

    async def failed(self, error: Exception) -> None:
        self.note("failed")


class AskingAgain(Noting, name="headrace.conformance.AskingAgain"):
    """Asks for another run, once, ``seconds`` later."""

    seconds: float

    async def handle(self) -> None:
        self.note("ran")
        if current().attempt == 0:
            raise Retry(delay=self.seconds)


class Dropping(Noting, name="headrace.conformance.Dropping"):
    """Ends without failure and without success."""

    async def handle(self) -> None:
        self.note("ran")
        raise Drop("not needed any more")


class Gated(Noting, name="headrace.conformance.Gated"):
    """Waits until the file ``gate`` is there. Raises then, unless it runs in the process ``home``."""

    gate: str
    home: int
    then_raise: bool = False

    async def handle(self) -> None:
        self.note("began")
        while not self._is_open():  # noqa: ASYNC110 - another process may open it
            await asyncio.sleep(_LOOK_EVERY)
        self.note("ran")
        if self.then_raise and os.getpid() != self.home:
            raise ValueError("away from home")

    def _is_open(self) -> bool:
        return Path(self.gate).exists()


class Poison(Noting, name="headrace.conformance.Poison"):
    """Ends its process, unless that is ``spared``: the one that judges."""

    spared: int

    async def handle(self) -> None:
        self.note("ran")
        if os.getpid() == self.spared:
            raise RuntimeError("a poison job was run where it must not")
        os.kill(os.getpid(), signal.SIGKILL)
