"""The time that leases and delays follow, the same in every process that shares the file.

It advances as the machine's monotonic clock does, sleep included, so that nobody who sets
the wall clock shortens a lease. That clock starts again at every boot; an *offset*, kept
in the file beside the boot's id, carries the time across. The first to open the file
after a boot sets it, from the wall clock or the last time that the file saw, whichever is
later: the time never goes back, and delays go on while the machine is off.

Owns the arithmetic and the ``clock`` table's one row. Deciding what a new boot means for
leases is the schema's business.
"""

import sqlite3
import time
from pathlib import Path
from typing import Final, Protocol

#: How the file counts time: whole microseconds since the epoch, more or less. Integers
#: compare and print exactly, which floats of this size do not in JSON.
MICROSECONDS: Final = 1_000_000

#: How often the file is told the time, in microseconds. After a boot with a wall clock that
#: is behind, the time starts from there, and delays are late by this much at most.
_SEEN_EVERY: Final = 10 * MICROSECONDS

#: Linux's name for this run of the kernel.
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Machine(Protocol):
    """The clocks of the computer; tests bring their own."""

    def boot(self) -> str:
        """Names this run of the machine, or is empty where it has no name."""
        ...

    def elapsed(self) -> float:
        """Seconds since some point of this boot, the same for every process."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, as far as the computer knows."""
        ...


class ThisMachine:
    """The clocks of the computer that this process runs on."""

    def __init__(self) -> None:
        #: Counts while the machine sleeps, where there is such a clock: a lease is then over
        #: when the lid is opened, as it should be.
        self._clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def boot(self) -> str:
        try:
            return _BOOT_ID.read_text("ascii").strip()
        except OSError:
            return ""

    def elapsed(self) -> float:
        return time.clock_gettime(self._clock)

    def wall(self) -> float:
        return time.time()


class Clock:
    """The file's time, once `start` has read or set the offset."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._offset = 0
        self._seen = 0

    def now(self) -> int:
        """Microseconds; never less than before, in any process since the machine booted."""
        return self._offset + int(self._machine.elapsed() * MICROSECONDS)

    def start(self, connection: sqlite3.Connection) -> bool:
        """Take the offset from the file, or set it there; inside a write transaction. True if this is a new boot.

        Where a boot has no name, it is new if the monotonic clock is behind where the file
        last saw it. A reboot that this misses does no harm: leases end by their time.
        """
        boot, elapsed = self._machine.boot(), int(self._machine.elapsed() * MICROSECONDS)
        row = connection.execute("SELECT boot, shift, seen FROM clock").fetchone()
        if row is not None:
            known, self._offset, self._seen = row
            if known == boot and (boot or self._offset + elapsed >= self._seen):
                # Written each time, so that a read-only file is noticed here and not at the first push.
                connection.execute("UPDATE clock SET seen = max(seen, ?)", (self._offset + elapsed,))
                return False
        self._seen = max(int(self._machine.wall() * MICROSECONDS), self._seen)
        self._offset = self._seen - elapsed
        connection.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?)", (boot, self._offset, self._seen))
        return True

    def tell(self, connection: sqlite3.Connection, now: int) -> None:
        """Let the file know the time every now and then; inside a write transaction."""
        if now - self._seen >= _SEEN_EVERY:
            connection.execute("UPDATE clock SET seen = max(seen, ?)", (now,))
            self._seen = now
