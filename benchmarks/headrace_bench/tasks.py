"""What the suite's processes are told to do, and what they answer: JSON through a pipe, and a file."""

from pathlib import Path
from typing import Any, Final

import msgspec

from headrace_bench.results import Parameter, Run
from headrace_bench.scenario import Traits
from headrace_bench.seat import Seat
from headrace_bench.sizes import SizeName

#: The file in a task's folder where its answer is.
ANSWER: Final = "answer.json"

#: What begins the name of the file by which a worker process tells that it works.
READY: Final = "ready-"


class Look(msgspec.Struct, frozen=True, tag=True):
    """See whether a participant can be reached, and what it is. The answer is `Found`."""

    seat: Seat
    folder: str


class Do(msgspec.Struct, frozen=True, tag=True):
    """Do a scenario once. The answer is a `Run`, or an `Unfit`."""

    seat: Seat
    folder: str
    scenario: str
    parameters: dict[str, Parameter]
    size: SizeName


class Serve(msgspec.Struct, frozen=True, tag=True):
    """Be a worker until SIGTERM. There is no answer."""

    seat: Seat
    folder: str  #: for the tally, shared by all workers of the same jobs
    prefix: str
    settings: dict[str, Any]  #: the queue's
    total: int  #: how many jobs there are
    concurrency: int


class Found(msgspec.Struct, frozen=True, tag=True):
    """What a look has found."""

    traits: Traits
    versions: dict[str, str]
    place: str
    durability: str
    guarantee: str
    lacks: list[str]
    checks: list[str] = []  #: what the backend itself finds to remark
    about: str = ""  #: of a bare client: what it does


class Unfit(msgspec.Struct, frozen=True, tag=True):
    """It cannot be done, or not here; nothing went wrong."""

    reason: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """A scenario was done."""

    run: Run


class Failed(msgspec.Struct, frozen=True, tag=True):
    """An exception, in a line."""

    error: str


Task = Look | Do | Serve
Answer = Found | Unfit | Done | Failed


def write_answer(folder: str, answer: Answer) -> None:
    """Leave an answer for who gave the task."""
    Path(folder, ANSWER).write_bytes(msgspec.json.encode(answer))


def read_answer(folder: str) -> Answer | None:
    """What a process has left; ``None`` if it ended before."""
    try:
        answer: Answer = msgspec.json.decode(Path(folder, ANSWER).read_bytes(), type=Answer)
        return answer
    except FileNotFoundError:
        return None
