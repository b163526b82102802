"""The time that leases and delays follow: one for all processes, which goes on when the machine is started anew.

Nobody sets the clock that is used here, but it begins again at each start of the machine. A file named after
that start says what to add; the first process to look makes that file, from the wall clock of the moment.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

#: Linux's name for this start of the machine, and its clock of the time since then, sleep included.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SINCE_BOOT = time.CLOCK_BOOTTIME


def nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


class Clock:
    """Nanoseconds since 1970, more or less. A call takes longer than one of them, so no two give the same."""

    def __init__(self) -> None:
        self._offset = 0

    def start(self, folder: Path, draft: Path) -> None:
        """Read the file in ``folder``, or make it; ``draft`` is where it stands until it is complete."""
        file = folder / f"clock,{BOOT_ID.read_text().strip()}"
        draft.write_text(str(time.time_ns() - time.clock_gettime_ns(SINCE_BOOT)))
        with suppress(FileExistsError):  # another process was first, and its file counts
            os.link(draft, file)
        draft.unlink()
        self._offset = int(file.read_text())

    def now(self) -> int:
        return time.clock_gettime_ns(SINCE_BOOT) + self._offset
