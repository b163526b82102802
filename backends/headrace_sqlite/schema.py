"""The file: its tables, its birth, and whether one that is there is ours.

Owns every statement that defines something. What a row means to a queue is told here;
the statements that move rows are in `statements`.
"""

import os
import secrets
import sqlite3
from pathlib import Path
from typing import Final

from headrace.errors import BackendError
from headrace_sqlite import disk
from headrace_sqlite.clock import Clock

#: "hdrc": marks the file as ours, so that no other application's database is touched.
APPLICATION_ID: Final = 0x68647263

#: Grows when a table changes. A file of a later version is refused, not guessed at.
VERSION: Final = 1

#: ``UPDATE ... FROM`` came with this version; all else used here is older.
OLDEST_LIBRARY: Final = (3, 33, 0)

#: Takes eight bytes in a row, as every token and every time does. So a row has room for both
#: from the start: if it grew when it is reserved, full pages would have to be split, which
#: costs as much again as all the rest of a pop.
WIDE: Final = 1 << 61

# A row of ``message`` is in one of four states, and so in one of the partial indexes:
#
#   0 pending    waiting if ``due`` has come, else delayed: falling due moves nothing
#   1 reserved   until ``lease``, by whoever knows ``token``; waiting again after that
#   2 failed     ``due`` is when it came to rest
#   3 timeout    likewise
#
# A lease leaves ``due`` alone, so that a message which comes back has its old place. Times
# are the microseconds of `Clock`. ``owns``: the message still holds its ``unique_key``.
# ``headers`` and ``note`` are JSON, or NULL for the usual nothing.
_TABLES: Final = (
    """
    CREATE TABLE clock (
      one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT NOT NULL, shift INT NOT NULL, seen INT NOT NULL
    )
    """,
    "CREATE TABLE queue (number INTEGER PRIMARY KEY, prefix TEXT NOT NULL UNIQUE)",
    f"""
    CREATE TABLE message (
      seq INTEGER PRIMARY KEY, queue INT NOT NULL, state INT NOT NULL DEFAULT 0, due INT NOT NULL,
      lease INT NOT NULL DEFAULT {WIDE}, token INT NOT NULL DEFAULT {WIDE}, deliveries INT NOT NULL DEFAULT 0,
      owns INT NOT NULL DEFAULT 0, attempt INT NOT NULL DEFAULT 0, deaths INT NOT NULL DEFAULT 0,
      id TEXT NOT NULL, name TEXT NOT NULL, unique_key TEXT, headers TEXT, note TEXT, body BLOB NOT NULL
    )
    """,
    "CREATE INDEX pending ON message (queue, due) WHERE state = 0",
    "CREATE INDEX reserved ON message (queue, lease) WHERE state = 1",
    "CREATE INDEX resting ON message (queue, state, due) WHERE state >= 2",
    "CREATE UNIQUE INDEX identity ON message (queue, id)",
    "CREATE UNIQUE INDEX owner ON message (queue, unique_key) WHERE owns = 1",
)


def create_file(path: Path) -> None:
    """Make sure that the file exists, readable by its owner only. SQLite gives its companions the same rights.

    The file gets its name when it is already closed: closing any descriptor of a database
    would drop the locks that SQLite holds on it elsewhere in this process.
    """
    if path.exists():
        return
    if not path.parent.is_dir():
        raise BackendError(f"{path} cannot be created: there is no folder {path.parent}; create it, or change the path")
    disk.set_aside(path)
    unnamed = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(unnamed, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        os.link(unnamed, path)
    except FileExistsError:
        pass  # another process was first, by the same road
    finally:
        unnamed.unlink()


def connect(path: Path) -> sqlite3.Connection:
    """A connection set up as every one of ours is. It never waits for a lock by itself."""
    if path.is_dir():
        raise BackendError(f"{path} is a folder; name a file in it")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",  # never creates the file, which may have gone since it was seen
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        for pragma, value in _PRAGMAS.items():
            connection.execute(f"PRAGMA {pragma} = {value}")
    except BaseException:
        connection.close()
        raise
    return connection


#: What holds for the connection alone, each with its reason.
_PRAGMAS: Final = {
    "synchronous": "NORMAL",  # commits leave the disk to `disk.Log.sync`, which does not hold the write lock
    "wal_autocheckpoint": 0,  # `disk.Log.empty` does it; that module says why
    "journal_size_limit": 64 * 2**20,  # a log that one burst made large is cut when it starts again
    "cache_size": -32 * 1024,  # KiB: the upper levels of the indexes of a million messages
    "mmap_size": 0,  # an I/O error is then an error, and not a signal
    "trusted_schema": "OFF",
}


def use_log(connection: sqlite3.Connection, path: Path) -> None:
    """Switch the file to write-ahead logging, once for its life."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise BackendError(f"{path} is on a file system that cannot share memory between processes: use a local disk")


def verify(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file has our tables. Raises `BackendError` if it has somebody else's, or later ones."""
    # In one statement, and so at one moment: another process may be creating the tables.
    application, version, objects = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master) "
        "FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if not objects and application in (0, APPLICATION_ID):
        return False
    if application != APPLICATION_ID:
        raise BackendError(f"{path} is a database of another application: name another path")
    if version > VERSION:
        raise BackendError(
            f"{path} was written by a later headrace (its version {version}, ours {VERSION}): upgrade headrace"
        )
    return True


def prepare(connection: sqlite3.Connection, path: Path, clock: Clock) -> None:
    """Create the tables if need be and start the clock; inside a write transaction."""
    if not verify(connection, path):
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        for statement in _TABLES:
            connection.execute(statement)
    if clock.start(connection):
        # The machine was booted since: no worker that held a lease is alive.
        connection.execute("UPDATE message SET state = 0 WHERE state = 1")
