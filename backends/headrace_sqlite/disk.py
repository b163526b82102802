"""What reaches the disk, and when: syncing the log after commits, and emptying it.

Commits are made with ``synchronous=NORMAL``, which writes the log without waiting for the
disk, on the event loop. What a caller must be able to rely on is synced after that, by a
thread, and the caller is answered when it is done. This is what ``FULL`` does, with two
differences: the write lock is free in the meantime, and all commits that were made while
one sync was under way share the next. A crash of the machine leaves a prefix of the
commits either way.

Emptying the log ("checkpointing") is done by hand. Before SQLite 3.51.3 (and 3.50.7 and
3.44.6, which have the fix too) a checkpoint that begins while another connection commits
and thereby restarts the log can take the new log's pages for copied, and the file is
damaged: the "WAL-reset bug". It reads the log's header without the write lock, and goes
by it after the writer has changed it. So a checkpoint here runs on one connection while
another one of ours holds the write lock, and no connection ever checkpoints by itself.
The one at the closing of the last connection is no exception: SQLite then has the whole
file locked. All this costs writers a pause, of about 10 ms for `LOG_PAGES` pages.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

#: When the log has so many pages it is emptied: 4 MB. Larger logs make for longer pauses,
#: smaller ones for more work, as pages that change often are then copied more often.
LOG_PAGES: Final = 1024

#: From SQLite's file format: sizes in bytes of the log's header and of that of each page in
#: it, and where in the two the salts are, which tell pages of this log from older ones.
_LOG_HEADER: Final = 32
_PAGE_HEADER: Final = 24
_HEADER_SALTS: Final = 16
_PAGE_SALTS: Final = 8
_SALTS_SIZE: Final = 8


class Log:
    """The write-ahead log beside the file, seen from outside. Its locks are elsewhere, so it may be opened."""

    def __init__(self, path: Path, page_size: int) -> None:
        self.path = path.with_name(f"{path.name}-wal")
        self._page_size = page_size
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._emptied = b""
        self._next_try = 0.0

    def close(self) -> None:
        os.close(self._descriptor)

    def sync(self) -> None:
        """Return when every commit so far is on the disk. For a thread: waits for the hardware."""
        _sync(self._descriptor)

    def touch(self) -> None:
        """Let other processes hear of a commit: see `headrace_sqlite.notice`. One system call."""
        # Somebody else's file, in a folder that is ours: then the others poll, or wait a little longer.
        with contextlib.suppress(PermissionError):
            os.utime(self._descriptor)

    def is_full(self, now: float) -> bool:
        """Whether it is time for a checkpoint: the log has `LOG_PAGES` pages, and none of us has just emptied it.

        Two reads of eight bytes. An emptied log starts again at the next commit, unless some
        reader still needs it; then it grows on, and another try is made every second.
        """
        place = _LOG_HEADER + LOG_PAGES * (self._page_size + _PAGE_HEADER) + _PAGE_SALTS
        try:
            salts = os.pread(self._descriptor, _SALTS_SIZE, _HEADER_SALTS)
            if not salts or os.pread(self._descriptor, _SALTS_SIZE, place) != salts:
                return False
        except OSError:
            return False  # whoever writes next meets the disk's error where it can be reported
        return salts != self._emptied or now >= self._next_try

    def empty(self, connection: sqlite3.Connection) -> None:
        """Copy the log into the file. For a thread; another connection of ours must hold the write lock."""
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def emptied(self, now: float) -> None:
        """Remember that this log was dealt with, as far as readers allowed."""
        self._emptied = os.pread(self._descriptor, _SALTS_SIZE, _HEADER_SALTS)
        self._next_try = now + _TRY_AGAIN


#: Seconds until a log that could not start again, because of a reader, is looked at anew.
_TRY_AGAIN: Final = 1.0

#: The system's cheapest call that waits for the data; on macOS, as SQLite does there, fsync.
_sync: Final = getattr(os, "fdatasync", os.fsync)
