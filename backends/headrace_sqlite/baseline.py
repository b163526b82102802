"""The bare client of the ``sqlite`` backend, for the benchmark suite: a table, and Python's own sqlite3.

It blocks the event loop, as nothing else runs on that here; a thread would only make it slower.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from headrace.plugin import BackendOptions
from headrace_sqlite.settings import SqliteSettings

#: Seconds for which a message that was taken stays reserved.
_LEASE: Final = 30.0

#: Seconds between two looks at an empty table.
_LOOK_EVERY: Final = 0.005

#: What is due, oldest first, becomes reserved: one statement, one transaction.
_TAKE: Final = """
    UPDATE "{table}" SET held_until = ?
    WHERE id IN (SELECT id FROM "{table}" WHERE held_until < ? ORDER BY id LIMIT ?)
    RETURNING id, body
"""


class SqliteBaseline:
    """A table with a lease for each row."""

    about = "sqlite3, WAL: INSERT; UPDATE ... RETURNING to take; DELETE to ack"
    guarantee = "at least once"
    versions: Mapping[str, str] = {"sqlite": sqlite3.sqlite_version}

    def __init__(self, options: BackendOptions, queue: str) -> None:
        self._settings = options.read(SqliteSettings)
        # Beside the backend's file: a table of ours has no place in that.
        self._path = (options.root / self._settings.path).with_name(f"{queue}.db")
        self._table = queue
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        connection = self._connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._settings.synchronous}")
        connection.execute(
            f'CREATE TABLE "{self._table}" (id INTEGER PRIMARY KEY, held_until REAL NOT NULL DEFAULT 0, body BLOB)'
        )

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        for ending in ("", "-wal", "-shm"):
            self._path.with_name(f"{self._path.name}{ending}").unlink(missing_ok=True)

    async def push(self, body: bytes) -> None:
        self._opened.execute(f'INSERT INTO "{self._table}" (body) VALUES (?)', (body,))

    async def push_many(self, bodies: Sequence[bytes]) -> None:
        connection = self._opened
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(f'INSERT INTO "{self._table}" (body) VALUES (?)', ((body,) for body in bodies))
        connection.execute("COMMIT")

    async def consume(self, count: int, batch: int, seen: Callable[[bytes], None]) -> None:
        connection, take = self._opened, _TAKE.format(table=self._table)
        while count > 0:
            now = time.time()
            rows = connection.execute(take, (now + _LEASE, now, min(batch, count))).fetchall()
            if not rows:
                await asyncio.sleep(_LOOK_EVERY)
                continue
            for _, body in rows:
                seen(body)
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(f'DELETE FROM "{self._table}" WHERE id = ?', ((number,) for number, _ in rows))
            connection.execute("COMMIT")
            count -= len(rows)

    @property
    def _opened(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection
