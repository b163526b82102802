"""The jobs of the soak, and what the processes that run them tell of themselves."""

import asyncio
import contextlib
import os
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Literal

from headrace import Job, current

#: What kinds of orders there are; see `Order`.
Kind = Literal["plain", "delayed", "retrying", "failing", "late", "large", "long", "unique"]

#: While this file is there, orders that would fail or be late are neither.
MENDED: Final = Path("mended")

#: Seconds that a long order takes: the better part of a lease, so that its worker has to extend it.
LONG: Final = 1.5

#: Seconds between two reports of a process.
REPORT_EVERY: Final = 2.0


def note(file: str, text: str) -> None:
    """Add a line to a file. One short append is one write: a kill leaves a whole line or none."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


class Order(Job, name="soak.Order"):
    """Notes that it ran. A ``retrying`` one fails at first; ``failing`` and ``late`` ones until they are mended."""

    number: int
    kind: Kind
    filling: str = ""

    async def handle(self) -> None:
        await asyncio.sleep(LONG if self.kind == "long" else random.uniform(0, 0.02))
        if self.kind == "retrying" and current().attempt == 0:
            raise ValueError("it will do the second time")
        if not MENDED.exists():
            if self.kind == "failing":
                raise ValueError("it is not mended yet")
            if self.kind == "late":
                await asyncio.sleep(0.5)
                return
        note("ran", str(self.number))


@contextlib.asynccontextmanager
async def reporting() -> AsyncIterator[None]:
    """Tell, as long as this lasts, how many tasks and threads this process has."""
    task = asyncio.create_task(_report())
    try:
        yield
    finally:
        task.cancel()


async def _report() -> None:
    while True:
        note("vitals", f"{os.getpid()} {len(asyncio.all_tasks())} {threading.active_count()}")
        await asyncio.sleep(REPORT_EVERY)
