"""How much memory a process has in use. Owns the ways to ask systems for it."""

import os
import subprocess
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
#: Bytes of a MiB, and KiB of one.
_MIB: Final = 2**20
_KIB: Final = 2**10


def resident_mib(process: int) -> float:
    """The resident memory of a process in MiB; 0 for one that has ended.

    Blocks for some microseconds where there is ``/proc``; elsewhere, on macOS, for some milliseconds.
    """
    if (_PROC / "self").exists():
        try:
            pages = int((_PROC / str(process) / "statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / _MIB
    asked = subprocess.run(["ps", "-o", "rss=", "-p", str(process)], capture_output=True, text=True, check=False)
    return int(asked.stdout.strip() or 0) / _KIB
