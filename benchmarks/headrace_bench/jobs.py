"""The jobs that scenarios push. Each does nothing but count itself in its process's tally.

Imported only in processes of the suite's own: whoever imports this declares these jobs.
"""

import asyncio
from typing import Final

from headrace.context import current
from headrace.job import Job
from headrace_bench.seat import QUEUE
from headrace_bench.tally import Tally

#: Bytes of a body beside what pads it: ``{"number":123456,"pad":""}``.
_FRAME: Final = 26

#: Seconds of a moment: a query, a small request to another service.
_MOMENT: Final = 0.01

#: Where this process counts: one tally at a time, as a process serves one run.
_tally: Tally | None = None


def count_in(tally: Tally) -> None:
    """Let the jobs of this process count in a tally from now on."""
    global _tally
    _tally = tally


def _counting() -> Tally:
    if _tally is None:
        raise RuntimeError("a job of the benchmark ran in a process that counts none")
    return _tally


class Numbered(Job, queue=QUEUE):
    """What all of them have: a number, and what pads the body to its size."""

    number: int
    pad: str = ""


class Work(Numbered, name="headrace.bench.Work"):
    """A job of an ``async def`` handler."""

    async def handle(self) -> None:
        _counting().ran(self.number)


class WorkInThread(Numbered, name="headrace.bench.WorkInThread"):
    """A job of a plain handler, which runs in a thread."""

    def handle(self) -> None:
        _counting().ran(self.number)


class Stamp(Numbered, name="headrace.bench.Stamp"):
    """Notes when it started."""

    async def handle(self) -> None:
        _counting().started(self.number)


class Linger(Numbered, name="headrace.bench.Linger"):
    """Takes a moment, so that workers hold some whenever one looks."""

    async def handle(self) -> None:
        await asyncio.sleep(_MOMENT)
        _counting().ran(self.number)


class Refused(Exception):
    """What failing jobs raise."""


class Stumble(Numbered, name="headrace.bench.Stumble", max_retries=1, retry_seconds=0):
    """Raises in its first run, and counts itself in its second."""

    async def handle(self) -> None:
        if current().attempt == 0:
            raise Refused
        _counting().ran(self.number)


class Fall(Numbered, name="headrace.bench.Fall", max_retries=0):
    """Counts itself, and raises: it goes to ``failed``."""

    async def handle(self) -> None:
        _counting().ran(self.number)
        raise Refused


def padding(body: int) -> str:
    """What makes a job's body about so many bytes."""
    return "x" * max(0, body - _FRAME)


def body_of(number: int, pad: str) -> bytes:
    """The body that headrace makes of such a job, for who pushes without it."""
    return b'{"number":%d,"pad":"%s"}' % (number, pad.encode())


def number_of(body: bytes) -> int:
    """The job's number in such a body, without a look at what pads it."""
    return int(body[10 : body.index(b",")])
