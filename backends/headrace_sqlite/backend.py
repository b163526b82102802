"""The SQLite backend: one file, what it can do, and which opening of it is in use.

An opened file is a `Session`, which all drivers of a backend share. A driver asks for it
at each call, so that drivers may be made before the backend is opened, and go on when the
file has been replaced by another and a new session has taken the old one's place.
"""

import asyncio
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from headrace.driver import ALL_CHANNELS, CONTRACT, Backend, Capabilities
from headrace.errors import BackendError, BackendUnavailable
from headrace_sqlite import schema
from headrace_sqlite.clock import Machine, ThisMachine
from headrace_sqlite.driver import MAX_BATCH, SqliteDriver
from headrace_sqlite.errors import translated
from headrace_sqlite.session import Session, identity, missing, open_session
from headrace_sqlite.settings import SqliteSettings

CAPABILITIES: Final = Capabilities(
    contract=CONTRACT,
    durable=True,
    shared=True,
    ordered=True,
    leases="timed",
    counts="exact",
    max_batch=MAX_BATCH,
    max_delay=float(10 * 365 * 24 * 3600),  # ten years; the file could count further, nobody's patience
    max_body=256 * 2**20,  # SQLite's own limit for a row is 10**9 bytes
    idempotent=True,
    unique=True,
    peek=ALL_CHANNELS,
    cancel=True,
    selective=ALL_CHANNELS - {"reserved"},
    wait_ready=True,
    store=True,
)


class SqliteBackend(Backend):
    """Queues in the file ``path``. ``machine`` has the clocks; tests pass their own."""

    def __init__(self, path: Path, settings: SqliteSettings | None = None, *, machine: Machine | None = None) -> None:
        self._path = path
        self._settings = settings or SqliteSettings()
        self._machine = machine or ThisMachine()
        self._session: Session | None = None
        self._replacing = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()  #: of sessions whose file has lost its name

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def place(self) -> str:
        return str(self._path)

    @property
    def versions(self) -> Mapping[str, str]:
        return {"sqlite": sqlite3.sqlite_version}

    def clone(self) -> "SqliteBackend":
        return SqliteBackend(self._path, self._settings, machine=self._machine)

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> SqliteDriver:
        return SqliteDriver(self.session, self._path, prefix, lease_seconds)

    async def session(self) -> Session:
        """The opened file; opened anew if it has been replaced. Raises `BackendUnavailable` if there is none."""
        session = self._opened()
        session.check_process()
        return session if session.is_current() else await self._replace()

    def _opened(self) -> Session:
        if self._session is None:
            raise BackendUnavailable(f"{self._path} is not open")
        return self._session

    async def _replace(self) -> Session:
        """Go over to the file that has the name now; its messages have other receipts, so all old ones are stale.

        While there is none the old session is kept: it serves again when its file is put back.
        """
        async with self._replacing:
            old = self._opened()
            if old.is_current():
                return old  # somebody else was waiting for the same, and has done it
            if identity(self._path) is None:
                raise missing(self._path)
            old.set_log_aside()
            new = await open_session(self._path, self._settings, self._machine)
            closing = asyncio.create_task((old if self._session is old else new).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            if self._session is old:
                self._session = new
            return self._opened()

    async def open(self) -> None:
        if sqlite3.sqlite_version_info < schema.OLDEST_LIBRARY:
            oldest = ".".join(map(str, schema.OLDEST_LIBRARY))
            raise BackendError(f"the SQLite library is {sqlite3.sqlite_version}; headrace needs {oldest} or later")
        with translated(self._path):
            schema.create_file(self._path)
        self._session = await open_session(self._path, self._settings, self._machine)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        async with self._replacing:  # one that is under way ends with its new session closed
            pass
        if self._closing:
            await asyncio.wait(self._closing)

    async def check(self) -> list[str]:
        return [*_library_warnings(), *_place_warnings(self._path)]


#: Releases before this one have the bug that `disk` describes, but for two that were mended.
_SOUND: Final = (3, 51, 3)
_MENDED: Final = {(3, 44): 6, (3, 50): 7}

#: File systems where several machines may think that they have the file, and locks are
#: promises. The names are those of ``/proc/mounts``.
_REMOTE: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "fuse.sshfs"}
)


def _library_warnings() -> list[str]:
    version = sqlite3.sqlite_version_info
    if version >= _SOUND or version[2] >= _MENDED.get(version[:2], version[2] + 1):
        return []
    bug = f"the SQLite library {sqlite3.sqlite_version} has the WAL-reset bug (mended in 3.51.3, 3.50.7 and 3.44.6)"
    return [f"{bug}; headrace keeps clear of it, but let no other program write to the file"]


def _place_warnings(path: Path) -> list[str]:
    try:
        mounts = Path("/proc/mounts").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []  # no such list on this system
    folder = path.resolve().parent
    best = ("", "")
    for line in mounts:
        _, place, kind, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        if folder.is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, kind)
    if best[1] in _REMOTE:
        return [f"{path} is on a network file system ({best[1]}): SQLite's locks cannot be relied on there"]
    return []
