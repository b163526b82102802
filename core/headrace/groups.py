"""Queues that are served together, and what their processes are to keep to."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.settings import QueueSettings


@dataclass(frozen=True, slots=True)
class Group:
    """Queues that are served together, in strict order, by processes of their own."""

    queues: tuple[str, ...]
    processes: int
    concurrency: int | None = None  #: ``None``: each queue's own
    max_messages: int | None = None  #: ``None``: the queues' own; 0: no end
    max_memory: int = 0  #: MiB of resident memory above which a process is replaced; 0: none
    max_seconds: float = 0.0  #: age from which a process is replaced; 0: none
    shutdown_timeout: float = 25.0  #: seconds that handlers have to end
    stall_seconds: float = 300.0  #: seconds without a sign of life after which a process counts as stalled
    replace_stalled: bool = False  #: it is replaced then, and not only told of

    @property
    def name(self) -> str:
        return ",".join(self.queues)


def group_of(
    queues: Sequence[QueueSettings],
    *,
    processes: int | None = None,
    concurrency: int | None = None,
    max_messages: int | None = None,
) -> Group:
    """The group for these queues; what is not given is as configured.

    Of limits the largest of their values, of what watches over a process the strictest.
    """
    return Group(
        queues=tuple(each.name for each in queues),
        processes=processes or max(each.processes for each in queues),
        concurrency=concurrency,
        max_messages=max_messages,
        max_memory=max(each.max_memory for each in queues),
        max_seconds=max(each.max_seconds for each in queues),
        shutdown_timeout=max(each.shutdown_timeout for each in queues),
        stall_seconds=min(each.stall_seconds for each in queues),
        replace_stalled=any(each.on_stall == "replace" for each in queues),
    )
