"""How a supervisor and its workers are: what probes, and the service manager, are told.

Owns the words for it, and what counts as live and as ready. Where they are told stands in
`headrace.probes` and `headrace.systemd`; how a stall is noticed in `headrace.stalls`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from headrace.child import Child, State

Phase = Literal["running", "reloading", "stopping"]


class WorkerHealth(msgspec.Struct, frozen=True):
    """One worker process."""

    pid: int
    queue: str  #: or the queues of its group, with commas
    since: datetime  #: when it was started
    state: State
    silent_seconds: float | None  #: since its last sign of life, which comes every few seconds; not before it works
    problem: str = ""  #: what is wrong, if it is stalled


class Health(msgspec.Struct, frozen=True):
    """All of them, at one moment. It names queues and processes, and nothing that is secret."""

    live: bool  #: no worker is stalled beyond its limit; one that is being replaced for that does not count
    ready: bool  #: every worker has opened its backends, and nobody has told them to stop
    phase: Phase
    workers: Sequence[WorkerHealth]

    def as_json(self) -> bytes:
        return msgspec.json.encode(self)

    def __str__(self) -> str:
        """In a few words, for people."""
        working = sum(each.state == "working" for each in self.workers)
        stalled = [f"process {each.pid} ({each.queue}): {each.problem}" for each in self.workers if each.problem]
        return "; ".join([f"{self.phase}, {working} of {len(self.workers)} workers at work", *stalled])


class Outlet(Protocol):
    """Somebody who is told how things are, when that changes and every few seconds."""

    @property
    def every(self) -> float:
        """Seconds between two calls of `show` that are enough."""
        ...

    def show(self, health: Health) -> None:
        """Pass it on. Must neither raise nor block: a supervisor has other things to do."""
        ...


def health_of(child: Child) -> WorkerHealth:
    """How a process is, as far as its supervisor knows."""
    silent = child.silent
    return WorkerHealth(
        pid=child.pid,
        queue=child.name,
        since=child.started_at,
        state=child.state,
        silent_seconds=None if silent is None else round(silent, 3),
        problem=child.problem if child.stalled.is_set() else "",
    )
