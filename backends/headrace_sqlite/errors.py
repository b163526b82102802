"""What the SQLite library reports, as headrace's errors: one table, used at every edge.

Owns the words that a person reads when the file cannot be used, each with what to do.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from headrace.errors import BackendError, BackendUnavailable

#: By primary result code: the class, and what is wrong and what helps. `BackendUnavailable`
#: where the same call may succeed later without anybody repairing the file.
_MEANINGS: Final[dict[int, tuple[type[BackendError], str]]] = {
    sqlite3.SQLITE_BUSY: (
        BackendUnavailable,
        "is locked by another program: end its transaction, or raise busy_seconds",
    ),
    sqlite3.SQLITE_LOCKED: (BackendUnavailable, "is locked by another program: end its transaction"),
    sqlite3.SQLITE_FULL: (BackendUnavailable, "cannot grow, the disk is full: free some space"),
    sqlite3.SQLITE_IOERR: (BackendUnavailable, "cannot be read or written: look at the disk, its quota and its log"),
    sqlite3.SQLITE_NOMEM: (BackendUnavailable, "cannot be used, memory has run out"),
    sqlite3.SQLITE_CANTOPEN: (BackendUnavailable, "cannot be opened: look at the rights of the file and its folder"),
    sqlite3.SQLITE_READONLY: (BackendError, "is read-only: make the file, and the folder it is in, writable"),
    sqlite3.SQLITE_PERM: (BackendError, "may not be used: look at the rights of the file and its folder"),
    sqlite3.SQLITE_NOTADB: (BackendError, "is not an SQLite database: name another path, or move the file away"),
    sqlite3.SQLITE_CORRUPT: (BackendError, "is damaged: restore a copy, or rescue it with `sqlite3 FILE .recover`"),
    sqlite3.SQLITE_TOOBIG: (BackendError, "takes no value of that size"),
}

#: What reading a value raises that is not of its column's kind, as no headrace has written it.
DAMAGED: Final = (TypeError, ValueError, msgspec.MsgspecError)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another program's lock was in the way, so that waiting helps."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(error: sqlite3.Error) -> int:
    """The primary result code; what the `sqlite3` module raises on its own account has none."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)) & 0xFF


def translate(error: Exception, path: Path) -> BackendError:
    """The error to raise ``from`` this one."""
    if isinstance(error, BackendError):
        return error
    if isinstance(error, OSError):
        return BackendUnavailable(f"{path} cannot be read or written: {error.strerror or error}")
    if isinstance(error, UnicodeError):
        return BackendError(f"{path} keeps no text that is not valid Unicode: {error}")
    if isinstance(error, sqlite3.Error):
        kind, meaning = _MEANINGS.get(_code(error), (BackendError, "could not be used"))
        return kind(f"{path} {meaning} ({error})")
    if isinstance(error, DAMAGED):
        return BackendError(f"{path} has in it what headrace does not write: it is damaged, restore a copy ({error!r})")
    return BackendError(f"{path} could not be used: {error!r}")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Let no foreign exception of the file pass."""
    try:
        yield
    except (sqlite3.Error, OSError, *DAMAGED) as error:
        raise translate(error, path) from error
