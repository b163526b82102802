"""An opened file: its connections, and what belongs to them as long as they are open.

Owns opening and closing, and knows whether the file that it opened is still the one that
has the name. Which session is in use, and when another takes its place, is the backend's
business.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from headrace.errors import BackendError, BackendUnavailable
from headrace_sqlite import schema, statements
from headrace_sqlite.clock import Clock, Machine
from headrace_sqlite.disk import Log
from headrace_sqlite.errors import DAMAGED, is_busy, translate, translated
from headrace_sqlite.forks import open_files
from headrace_sqlite.settings import SqliteSettings
from headrace_sqlite.threads import Threads
from headrace_sqlite.transactions import Transactions
from headrace_sqlite.watch import Watch

T = TypeVar("T")

#: Which file it is, whatever its name: device and inode. ``None``: none has the name.
Identity: TypeAlias = tuple[int, int] | None

#: Pause between tries to open a file that another program has locked, in seconds.
_OPEN_PAUSE: Final = 0.01


def identity(path: Path) -> Identity:
    """Which file has this name."""
    try:
        found = os.stat(path)  # noqa: PTH116 - at every call of every verb, and quicker than Path.stat
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Session:
    """An opened file, in the process and on the event loop that opened it."""

    def __init__(
        self,
        path: Path,
        file: Identity,
        settings: SqliteSettings,
        clock: Clock,
        connections: tuple[sqlite3.Connection, sqlite3.Connection],
    ) -> None:
        self._path = path
        self._file = file
        self._process = os.getpid()
        self._connection, self._assistant = self._connections = connections
        open_files.opened(file)
        self._clock = clock
        self._threads = Threads()
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
            check_file=self.check_file,
            made_ready=self.made_ready,
        )
        self._numbers: dict[str, int] = {}

    def check_process(self) -> None:
        if os.getpid() != self._process:
            raise BackendError(
                f"{self._path} was opened by process {self._process}, and this is its child {os.getpid()}: "
                "SQLite connections do not survive a fork; open a clone of the backend here"
            )

    def is_current(self) -> bool:
        """Whether the opened file still has its name. The library itself would go on without noticing."""
        return identity(self._path) == self._file

    def check_file(self) -> None:
        """Raise `BackendUnavailable` unless what is written now can be found under the path later."""
        found = identity(self._path)
        if found is None:
            raise missing(self._path)
        if found != self._file:
            raise BackendUnavailable(f"{self._path} was replaced by another file while it was in use")

    def set_log_aside(self) -> None:
        """The file was replaced: keep the log that it left behind from being taken for its successor's."""
        self._log.set_aside()

    def made_ready(self, queues: Iterable[int]) -> None:
        """These queues may have something to hand out that they had not, since the last commit: let all hear of it."""
        for queue in queues:
            self.watch.look(queue)
        self._log.touch()

    def number(self, prefix: str) -> int | None:
        """The queue's number, if this session has met it."""
        return self._numbers.get(prefix)

    async def find_number(self, prefix: str) -> int:
        number = await self.transactions.submit(lambda connection, now: statements.number_of(connection, prefix))
        self._numbers[prefix] = number
        return number

    async def read(self, look: Callable[[sqlite3.Connection, int], T]) -> T:
        """Look at the file from a thread, at one moment's state, while the loop goes on."""
        await self.transactions.assistant_free.acquire()
        try:
            self.transactions.check_open()
            looking = self._threads.run(lambda: self._look(look))
        except BaseException:
            self.transactions.assistant_free.release()
            raise
        # Whoever asked may stop waiting; the connection is free only when the thread is done with it.
        looking.add_done_callback(lambda _: self.transactions.assistant_free.release())
        return await asyncio.shield(looking)

    def _look(self, look: Callable[[sqlite3.Connection, int], T]) -> T:
        with translated(self._path):
            self._assistant.execute("BEGIN")
            try:
                return look(self._assistant, self._clock.now())
            finally:
                self._assistant.execute("ROLLBACK")

    async def close(self) -> None:
        """Answer what was asked, and let go of the file. To be called once, and to its end."""
        await self.transactions.close()
        self.watch.close()
        async with self.transactions.assistant_free:
            # Closing the last connection empties the log, which waits for the disk.
            await self._threads.run(self._shut)
        self._threads.close()

    def _shut(self) -> None:
        self._log.close()
        for connection in self._connections:
            connection.close()
        open_files.closed(self._file)


def missing(path: Path) -> BackendUnavailable:
    """No file of that name, where one was in use. An empty one in its place would only hide the loss."""
    return BackendUnavailable(
        f"{path} is missing, it was removed or moved while it was in use: "
        "put it back, or start again to begin with an empty one"
    )


async def open_session(path: Path, settings: SqliteSettings, machine: Machine) -> Session:
    """Open the file, which must exist, waiting for a lock as long as the settings say. Raises `BackendError`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.busy_seconds
    while True:
        try:
            return _open(path, settings, Clock(machine))
        except (sqlite3.Error, OSError, *DAMAGED) as error:
            busy = isinstance(error, sqlite3.Error) and is_busy(error)
            if not busy or loop.time() >= deadline:
                raise translate(error, path) from error
        await asyncio.sleep(_OPEN_PAUSE)


def _open(path: Path, settings: SqliteSettings, clock: Clock) -> Session:
    """One try, which leaves nothing behind if it fails."""
    file = identity(path)
    open_files.check(file, path)
    connections: list[sqlite3.Connection] = []
    try:
        connection = schema.connect(path)
        connections.append(connection)
        schema.verify(connection, path)  # before anything of somebody else's file is changed
        schema.use_log(connection, path)
        connection.execute("BEGIN IMMEDIATE")
        schema.prepare(connection, path, clock)
        connection.execute("COMMIT")
        assistant = schema.connect(path)
        connections.append(assistant)
        if identity(path) != file:
            raise BackendUnavailable(f"{path} was replaced by another file while it was being opened")
        return Session(path, file, settings, clock, (connection, assistant))
    except BaseException:
        for connection in connections:
            connection.close()
        raise
