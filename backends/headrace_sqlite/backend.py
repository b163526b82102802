"""The SQLite backend: the connections to one file, and what it can do.

Owns opening and closing. An opened backend is a `Session`; a driver asks for it at each
call, so that drivers may be made before the backend is opened.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from headrace.driver import CONTRACT, Backend, Capabilities
from headrace.errors import BackendError, BackendUnavailable
from headrace_sqlite import schema, statements
from headrace_sqlite.clock import Clock, Machine, ThisMachine
from headrace_sqlite.disk import Log
from headrace_sqlite.driver import SqliteDriver
from headrace_sqlite.errors import is_busy, translate, translated
from headrace_sqlite.settings import SqliteSettings
from headrace_sqlite.transactions import Transactions
from headrace_sqlite.watch import Watch

T = TypeVar("T")

CAPABILITIES: Final = Capabilities(
    contract=CONTRACT,
    durable=True,
    shared=True,
    ordered=True,
    leases="timed",
    counts="exact",
    max_batch=1000,  # a transaction of so many takes the loop for about 5 ms
    max_delay=float(10 * 365 * 24 * 3600),  # ten years; the file could count further, nobody's patience
    max_body=256 * 2**20,  # SQLite's own limit for a row is 10**9 bytes
    idempotent=True,
    unique=True,
    peek=True,
    cancel=True,
    selective=True,
    wait_ready=True,
)

#: Pause between tries to open a file that another program has locked, in seconds.
_OPEN_PAUSE: Final = 0.01

#: Two threads: syncing the log, and what uses the second connection, must not wait for each other.
_THREADS: Final = 2


class Session:
    """An opened file."""

    def __init__(
        self, path: Path, settings: SqliteSettings, clock: Clock, connections: list[sqlite3.Connection]
    ) -> None:
        self._path = path
        self._connection, self._assistant = self._connections = connections
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="headrace-sqlite")
        (page_size,) = self._connection.execute("PRAGMA page_size").fetchone()
        self._log = Log(path, page_size)
        self.watch = Watch(self._connection, clock, self._log.path, settings.poll_seconds)
        self.transactions = Transactions(
            self._connection,
            self._assistant,
            self._log,
            clock,
            self._threads,
            path,
            busy_seconds=settings.busy_seconds,
            durable=settings.synchronous == "full",
            committed=self.watch.changed,
        )
        self._numbers: dict[str, int] = {}

    def number(self, prefix: str) -> int | None:
        """The queue's number, if this session has met it."""
        return self._numbers.get(prefix)

    async def find_number(self, prefix: str) -> int:
        number = await self.transactions.submit(
            lambda connection, now: statements.number_of(connection, prefix), durable=False
        )
        self._numbers[prefix] = number
        return number

    async def read(self, look: Callable[[sqlite3.Connection, int], T]) -> T:
        """Look at the file from a thread, at one moment's state, while the loop goes on."""
        self.transactions.check_usable()
        async with self.transactions.assistant_free:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._look, look)

    def _look(self, look: Callable[[sqlite3.Connection, int], T]) -> T:
        with translated(self._path):
            self._assistant.execute("BEGIN")
            try:
                return look(self._assistant, self._clock.now())
            finally:
                self._assistant.execute("ROLLBACK")

    async def close(self) -> None:
        await self.transactions.close()
        self.watch.close()
        async with self.transactions.assistant_free:
            # Closing the last connection empties the log, which waits for the disk.
            await asyncio.get_running_loop().run_in_executor(self._threads, self._shut)
        self._threads.shutdown()

    def _shut(self) -> None:
        self._log.close()
        for connection in self._connections:
            connection.close()


class SqliteBackend(Backend):
    """Queues in the file ``path``. ``machine`` has the clocks; tests pass their own."""

    def __init__(self, path: Path, settings: SqliteSettings | None = None, *, machine: Machine | None = None) -> None:
        self._path = path
        self._settings = settings or SqliteSettings()
        self._machine = machine or ThisMachine()
        self._session: Session | None = None

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

    def session(self) -> Session:
        """The opened file. Raises `BackendUnavailable` if it is not open."""
        if self._session is None:
            raise BackendUnavailable(f"{self._path} is not open")
        return self._session

    async def open(self) -> None:
        if sqlite3.sqlite_version_info < schema.OLDEST_LIBRARY:
            oldest = ".".join(map(str, schema.OLDEST_LIBRARY))
            raise BackendError(f"the SQLite library is {sqlite3.sqlite_version}; headrace needs {oldest} or later")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.busy_seconds
        while True:
            try:
                self._session = self._open()
                return
            except (sqlite3.Error, OSError) as error:
                busy = isinstance(error, sqlite3.Error) and is_busy(error)
                if not busy or loop.time() >= deadline:
                    raise translate(error, self._path) from error
            await asyncio.sleep(_OPEN_PAUSE)

    def _open(self) -> Session:
        """One try, which leaves nothing behind if it fails."""
        schema.create_file(self._path)
        clock = Clock(self._machine)
        connections: list[sqlite3.Connection] = []
        try:
            connection = schema.connect(self._path)
            connections.append(connection)
            schema.verify(connection, self._path)  # before anything of somebody else's file is changed
            schema.use_log(connection, self._path)
            connection.execute("BEGIN IMMEDIATE")
            schema.prepare(connection, self._path, clock)
            connection.execute("COMMIT")
            connections.append(schema.connect(self._path))
            return Session(self._path, self._settings, clock, connections)
        except BaseException:
            for connection in connections:
                connection.close()
            raise

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

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
