"""The cells of the crash matrix, as data: which step of a message's life, what is killed there, and on which backend.

A new step is one more line of `STEPS`; how it is brought about stands in ``scenes.py``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from headrace.conformance.faulty import Verb
from headrace.driver import RestingChannel

#: What a step's scene is about: workers, an application that pushes, a command, workers that are told to stop.
Scene = Literal["worker", "producer", "reload", "flush", "migrate", "shutdown"]

#: Who ends by SIGKILL: whoever takes the step, or the broker.
Killed = Literal["process", "broker"]

#: Jobs of a cell: three times as many as one worker has in its hands.
JOBS: Final = 30

#: Seconds: the shortest lease of SQS that a process on a busy machine still keeps, and how long a pop may wait.
LEASE: Final = 2.0
POP_TIMEOUT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step, at which something is killed."""

    name: str
    verb: Verb | None  #: whose call is struck; ``None``: a handler does it
    at: int = 1  #: which call of that verb
    scene: Scene = "worker"
    moments: tuple[str, str] = ("before", "after")
    seconds: float = 0.02  #: how long a handler works
    late: float = 0.0  #: and how long it goes on after that
    failures: int = 0  #: runs of each job that raise
    rests: RestingChannel | None = None  #: where the jobs come to rest, if they do
    settings: Mapping[str, Any] = field(default_factory=dict)  #: of the queue
    timed: bool = False  #: only where leases have an end

    @property
    def runs(self) -> int:
        """How often each job is run where nothing is killed."""
        return 1 if self.rests else 1 + self.failures


STEPS: Final = (
    Step("push", "push", at=10, scene="producer"),
    # The second one, so that messages are in the worker's hands.
    Step("pop", "pop", at=2),
    Step("handler", None, moments=("start", "end")),
    Step("ack", "ack", at=2),
    Step("retry", "retry", failures=1, settings={"max_retries": 1, "retry_seconds": 0.1}),
    Step("fail", "fail", failures=1, rests="failed"),
    # More slots than jobs: a worker all of whose handlers are late would end by itself.
    Step(
        "timeout",
        "fail",
        late=0.5,
        rests="timeout",
        settings={"handle_timeout": 0.1, "concurrent": {"limit": 2 * JOBS}},
    ),
    # A lease is extended when a third of it is over.
    Step("extend", "extend", seconds=1.2, timed=True),
    Step("reload", "reload", scene="reload"),
    Step("flush", "flush", scene="flush"),
    Step("migrate: store", "push", scene="migrate"),
    Step("migrate: remove", "ack", scene="migrate"),
    # Handlers that do not end in time are given back.
    Step("shutdown", "retry", scene="shutdown", seconds=1.0, settings={"shutdown_timeout": 0.3}),
)

#: The backends, and whether they have a broker to be killed.
BACKENDS: Final[Mapping[str, bool]] = {"sqlite": False, "redis": True, "rabbitmq": True, "sqs": True}

#: Where a delivery lasts as long as its connection.
UNTIMED: Final = frozenset({"rabbitmq"})


@dataclass(frozen=True, slots=True)
class Cell:
    """One kill."""

    backend: str
    killed: Killed
    step: Step
    moment: str

    def __str__(self) -> str:
        step = self.step.name.replace(": ", "-")
        return f"{self.backend}-{self.killed}-{self.moment}-{step}"


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a cell."""

    backend: str
    killed: Killed
    step: str
    moment: str
    pushed: int  #: pushes that were confirmed
    executed: int  #: jobs of these that ran to an end
    lost: int  #: jobs of these that neither ran as they should nor rest where they should
    twice: int  #: runs beyond those that each job needs
    seconds: float  #: from the kill, or from when the broker was back, until the last run had ended


def cells() -> Iterator[Cell]:
    """All of them, in the order of the table."""
    for backend, has_broker in BACKENDS.items():
        for killed in ("process", "broker") if has_broker else ("process",):
            for step in STEPS:
                if step.timed and backend in UNTIMED:
                    continue
                for moment in step.moments:
                    yield Cell(backend, killed, step, moment)
