"""The demo's work: counting what is in files, and keeping the results.

Knows nothing of jobs. The same functions serve the handlers and the plain loop that their
totals are checked against.
"""

import hashlib
import os
import re
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

#: No more files than this, and none larger; so a run stays under its 20 seconds in any folder.
MOST_FILES: Final = 4_000
LARGEST_BYTES: Final = 1_000_000
MOST_BYTES: Final = 80_000_000

#: Folders that hold other people's files, or made ones.
_SKIPPED: Final = frozenset({"__pycache__", "dist-packages", "node_modules", "site-packages"})

_TOKEN: Final = re.compile(rb"\w+")


@dataclass(frozen=True, slots=True)
class Count:
    """What was counted in one file."""

    size: int
    lines: int
    tokens: int
    digest: str  #: SHA-256, in hex


@dataclass(frozen=True, slots=True)
class Totals:
    """What was counted in many files."""

    files: int = 0
    size: int = 0
    lines: int = 0
    tokens: int = 0
    digest: str = ""  #: of all digests in the order of their paths, so that no two errors cancel out

    @classmethod
    def of(cls, counts: Iterable[tuple[str, Count]]) -> Self:
        """The totals of files, given by path."""
        files = size = lines = tokens = 0
        digest = hashlib.sha256()
        for _, count in sorted(counts, key=lambda pair: pair[0]):
            files += 1
            size += count.size
            lines += count.lines
            tokens += count.tokens
            digest.update(count.digest.encode())
        return cls(files, size, lines, tokens, digest.hexdigest())


def count_file(path: str) -> Count:
    """Read one file and count."""
    content = Path(path).read_bytes()
    return Count(
        size=len(content),
        lines=content.count(b"\n"),
        tokens=len(_TOKEN.findall(content)),
        digest=hashlib.sha256(content).hexdigest(),
    )


@dataclass(frozen=True, slots=True)
class Found:
    """The files of a folder that the demo takes."""

    paths: list[str]
    size: int  #: bytes
    left_out: int  #: files that were too large, unreadable or too many


def find_files(root: Path) -> Found:
    """The readable regular files below ``root``, in order, within the demo's limits."""
    paths: list[str] = []
    total = left_out = 0
    for path in _walk(root):
        size = _readable_size(path)
        if size is None or size > LARGEST_BYTES or len(paths) == MOST_FILES or total + size > MOST_BYTES:
            left_out += 1
        else:
            paths.append(str(path))
            total += size
    return Found(paths, total, left_out)


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if each not in _SKIPPED and not each.startswith("."))
        for name in sorted(names):
            yield Path(folder, name)


def _readable_size(path: Path) -> int | None:
    """The bytes of a regular file that can be read, and whose name can stand in JSON; else ``None``."""
    try:
        str(path).encode()
        status = path.lstat()
    except (OSError, UnicodeEncodeError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK) else None


class Results:
    """Where the jobs of all processes write what they counted: a small SQLite file of the demo's own.

    Headrace keeps no results. A job may run twice, when its worker died under it, so the
    file's path is the key: counted again, it is written again, and counts once.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._lock = threading.Lock()
        # A scratch file that is removed in the end need not survive a power cut.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS results"
            " (path TEXT PRIMARY KEY, size INT, lines INT, tokens INT, digest TEXT, runs INT) WITHOUT ROWID"
        )

    def record(self, path: str, count: Count) -> None:
        """Write one file's count, over an earlier one if there is one."""
        with self._lock:
            self._connection.execute(
                "INSERT INTO results VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT (path) DO UPDATE SET"
                " size = excluded.size, lines = excluded.lines, tokens = excluded.tokens,"
                " digest = excluded.digest, runs = runs + 1",
                (path, count.size, count.lines, count.tokens, count.digest),
            )

    def has(self, path: str) -> bool:
        with self._lock:
            return self._connection.execute("SELECT 1 FROM results WHERE path = ?", (path,)).fetchone() is not None

    def done(self) -> int:
        """How many files have been counted."""
        with self._lock:
            (done,) = self._connection.execute("SELECT count(*) FROM results").fetchone()
        return int(done)

    def repeated(self) -> int:
        """How many files were counted more than once."""
        with self._lock:
            (repeated,) = self._connection.execute("SELECT count(*) FROM results WHERE runs > 1").fetchone()
        return int(repeated)

    def all(self) -> dict[str, Count]:
        """Every file's count."""
        with self._lock:
            rows = self._connection.execute("SELECT path, size, lines, tokens, digest FROM results").fetchall()
        return {path: Count(*rest) for path, *rest in rows}

    def close(self) -> None:
        self._connection.close()
