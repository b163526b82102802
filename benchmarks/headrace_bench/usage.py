"""What processes have used, as the system tells: of ours, and of servers that are ours."""

import contextlib
from collections.abc import Callable
from typing import Any

import psutil  # type: ignore[import-untyped]


def processor_seconds(pid: int | None) -> float | None:
    """Seconds of a processor that a process and all its children have had; ``None`` if there is no such process."""
    return _sum(pid, _processor_seconds)


def resident(pid: int | None) -> float | None:
    """Bytes of memory that a process and all its children have. What they share is counted in each."""
    return _sum(pid, lambda process: float(process.memory_info().rss))


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that has ended, and whose status nobody has collected yet, does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _processor_seconds(process: Any) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _sum(pid: int | None, used: Callable[[Any], float]) -> float | None:
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        total = used(process)
        children = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return None
    for each in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += used(each)
    return total
