"""What machine this is, as a report tells it."""

import os
import platform
from pathlib import Path
from typing import Final

from headrace_bench.results import Machine

#: Where Linux tells of its processors; other systems have no such file.
_CPUINFO: Final = Path("/proc/cpuinfo")


def describe() -> Machine:
    """This machine."""
    return Machine(
        cpu=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )


def _processor() -> str:
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"
