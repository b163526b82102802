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

A sync that failed must not simply be tried again. Linux tells of a failed write once and
takes the pages for clean from then on, so the next sync succeeds without having written
them, and would confirm commits that stand behind a hole in the log; PostgreSQL learnt it
the hard way ("fsyncgate") and has since stopped at the first failure, to write everything
again from its log. Here the log itself is what has to be written again, and a checkpoint is
no way to do it: the library syncs the log first, believes what it is told, and while it then
copies pages into the file a power cut would leave a damaged one. So `Log.mend` writes the same bytes to the
same places, which makes the pages dirty again, and the sync after that is worth something.
Until it has succeeded nothing is confirmed and nothing checkpointed. A file system that
does not even keep the bytes in memory (btrfs may not) takes the commits back that were
never confirmed; SQLite goes by the log's checksums when the file is next opened.
"""

import contextlib
import fcntl
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable
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


#: How much of the log `Log.mend` reads and writes at once, in bytes.
_BLOCK: Final = 2**20


class Log:
    """The write-ahead log beside the file, seen from outside. Its locks are elsewhere, so it may be opened."""

    def __init__(self, path: Path, page_size: int) -> None:
        self.path = log_of(path)
        self._page_size = page_size
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.is_torn = False  #: a sync has failed: only `mend` helps
        self._syncing = threading.Lock()  #: a failure is told once, and must not be another thread's success
        self._emptied = b""
        self._next_try = 0.0

    def close(self) -> None:
        os.close(self._descriptor)

    def sync(self) -> None:
        """Return when every commit so far is on the disk. For a thread: waits for the hardware.

        After an `OSError` it raises nothing else, until `mend` has helped.
        """
        with self._syncing:
            if self.is_torn:
                raise OSError("an earlier sync has failed")
            try:
                _sync(self._descriptor)
            except OSError:
                self.is_torn = True
                raise

    def check_name(self) -> None:
        """Raise `OSError` if the log was removed, so that what was synced is lost when its last user is gone."""
        if not os.fstat(self._descriptor).st_nlink:
            raise OSError(f"{self.path.name} was removed while it was in use: stop all who use it, and start again")

    def mend(self) -> None:
        """Write the log once more, byte for byte, and sync it. For a thread, with the write lock held by one of ours.

        Readers notice nothing. Raises `OSError` if the disk still does not take it.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            with self._syncing:
                if not os.path.samestat(os.fstat(descriptor), os.fstat(self._descriptor)):
                    raise OSError(f"{self.path.name} was replaced while it was in use: stop all who use it")
                place = 0
                while block := os.pread(descriptor, _BLOCK, place):
                    place += os.pwrite(descriptor, block, place)
                _sync(descriptor)
                _sync(self._descriptor)  # each is told of failures for itself; what it was told so far is mended
                self.is_torn = False
        finally:
            os.close(descriptor)

    def set_aside(self) -> None:
        """Take the name from this log, whose file has lost its own: see `set_aside`."""
        _set_aside(self.path, self._descriptor, lambda: True)

    def touch(self) -> None:
        """Let other processes hear of a commit: see `headrace_sqlite.notice`. One system call."""
        # If it cannot be done (somebody else's file, in a folder that is ours), the others wait a little longer.
        with contextlib.suppress(OSError):
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
        """Copy the log into the file. For a thread; another connection of ours must hold the write lock.

        Raises `OSError` as `sync` does, which comes first: the library's own sync tells a
        connection that was opened later nothing of a failure.
        """
        self.sync()
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def emptied(self, now: float) -> None:
        """Remember that this log was dealt with, as far as readers allowed."""
        self._emptied = os.pread(self._descriptor, _SALTS_SIZE, _HEADER_SALTS)
        self._next_try = now + _TRY_AGAIN


#: Seconds until a log that could not start again, because of a reader, is looked at anew.
_TRY_AGAIN: Final = 1.0

#: The system's cheapest call that waits for the data; on macOS, as SQLite does there, fsync.
_sync: Final = getattr(os, "fdatasync", os.fsync)


def log_of(path: Path) -> Path:
    """Where the library keeps the log of the file ``path``."""
    return path.with_name(f"{path.name}-wal")


def set_aside(path: Path) -> None:
    """Rename the log, and its index, that a missing file has left behind, lest they be taken for the next one's.

    The library deletes an old log that it finds beside an empty file, and plays it into any
    other, which ruins that. They are kept, as they belong to a file that may only have been
    moved: it needs its log back to be whole.
    """
    log = log_of(path)
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _set_aside(log, descriptor, lambda: not path.exists())
    finally:
        os.close(descriptor)


def _set_aside(log: Path, descriptor: int, is_left_behind: Callable[[], bool]) -> None:
    """Of several who notice, the lock lets one act; the others then find that what has the name is none of theirs."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        if is_left_behind() and os.path.samestat(log.stat(), os.fstat(descriptor)):
            mark = secrets.token_hex(4)
            for name in (log, log.with_name(f"{log.name.removesuffix('-wal')}-shm")):
                with contextlib.suppress(FileNotFoundError):
                    name.rename(f"{name}.{mark}")
    except FileNotFoundError:
        pass  # it went with its file
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
