"""The one place that writes: requests are gathered into transactions, and answered.

Requests that come in the same turn of the event loop share a transaction, and those that
have to reach the disk share a sync with all that were committed while the last one was
under way. There are no timers, and a request that comes alone is not held up: the scheme
of go-cloud's ``batcher``.

A transaction runs on the event loop's own thread, in one piece, without waiting: a thread
beside a busy loop would get the interpreter back some two hundred times a second. What
waits for the disk runs in threads; the loop gives a sync a moment of its own if the last one
needed no more, since to be woken by a thread takes as long. Where another process has the
write lock, it is asked for again after a pause.

Owns ordering, isolation of requests from one another's errors, and the life of a
transaction. Does not know what a request does, but for what it says of itself: whether its
effect must be on the disk, and which queue others may want to look at afterwards.
"""

import asyncio
import concurrent.futures
import contextlib
import math
import random
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from headrace.errors import BackendError, BackendUnavailable
from headrace_sqlite.clock import Clock
from headrace_sqlite.disk import Log
from headrace_sqlite.errors import is_busy, translate
from headrace_sqlite.threads import Threads

T = TypeVar("T")

#: Seconds between tries for the write lock, at random up to this: others hold it for a few
#: milliseconds at a time, and the loop's timers are no finer than one.
_BUSY_PAUSE: Final = 0.003

#: Seconds for which the loop waits for a sync, if the last one took less: to go on meanwhile, and be woken by a thread,
#: takes a good part of that as well.
_MOMENT: Final = 0.0003

#: What a request does: connection and time in, result out.
Work = Callable[[sqlite3.Connection, int], T]


class _Request(Generic[T]):
    __slots__ = ("durable", "future", "ready", "result", "since", "work")

    def __init__(
        self, work: Work[T], durable: bool, ready: int | None, future: asyncio.Future[T], since: float
    ) -> None:
        self.work = work
        self.durable = durable
        self.ready = ready
        self.future = future
        self.since = since
        self.result: T

    def answer(self) -> None:
        if not self.future.done():
            self.future.set_result(self.result)

    def refuse(self, error: BackendError, cause: BaseException | None) -> None:
        if not self.future.done():
            if cause is not error:
                error.__cause__ = cause
            self.future.set_exception(error)


class Transactions:
    """Runs requests on one connection, which is never used off the event loop's thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        assistant: sqlite3.Connection,
        log: Log,
        clock: Clock,
        threads: Threads,
        path: Path,
        *,
        busy_seconds: float,
        durable: bool,
        check_file: Callable[[], None],
        made_ready: Callable[[Iterable[int]], None],
    ) -> None:
        self._connection = connection
        self._assistant = assistant  #: a second connection, for threads
        self.assistant_free = asyncio.Lock()  #: one thread at a time
        self._log = log
        self._clock = clock
        self._threads = threads
        self._path = path
        self._busy_seconds = busy_seconds
        self._durable = durable
        self._check_file = check_file  #: raises `BackendUnavailable` if the file has lost its name
        self._made_ready = made_ready  #: told of queues that have something more to hand out since a commit
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Request[Any]] = deque()
        self._alone: deque[_Request[Any]] = deque()  #: to be run one by one, after an error among several
        self._unsynced: list[_Request[Any]] = []
        self._scheduled = False
        self._syncing: concurrent.futures.Future[None] | None = None
        self._synced: list[_Request[Any]] = []  #: those who wait for it
        self._is_awaited = False  #: whether the loop is told of its end
        self._sync_seconds = math.inf  #: what the last one took
        self._upkeep: asyncio.Task[None] | None = None  #: of the log, with the write lock held
        self._closed = False

    def submit(self, work: Work[T], *, durable: bool = False, ready: int | None = None) -> asyncio.Future[T]:
        """Have ``work`` done in a transaction, and on the disk if ``durable``.

        ``work`` may be run again after a rollback. ``ready``: the queue that it may give
        something to hand out, sooner than there was before. A future that is cancelled before
        its turn has its work left undone; later, it is done unheard.
        """
        self.check_open()
        request = _Request(work, durable and self._durable, ready, self._loop.create_future(), self._loop.time())
        self._waiting.append(request)
        self._schedule()
        return request.future

    def check_open(self) -> None:
        if self._closed:
            raise BackendUnavailable(f"{self._path} is closed")

    def _schedule(self, delay: float = 0.0) -> None:
        if self._scheduled or self._upkeep is not None:
            return
        self._scheduled = True
        if delay:
            self._loop.call_later(delay, self._turn)
        else:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """One transaction for all who wait."""
        self._scheduled = False
        source = self._alone or self._waiting
        while source and source[0].future.done():
            source.popleft()
        if not source:
            if self._waiting:
                self._schedule()
            return
        if not self._begin(source):
            return
        if self._log.is_torn:
            self._look_after(self._mend())
            return
        batch = [source.popleft()] if source is self._alone else list(source)
        if source is self._waiting:
            source.clear()
            batch = [request for request in batch if not request.future.done()]
        self._run(batch)
        if self._alone or self._waiting:
            self._schedule()

    def _begin(self, source: deque[_Request[Any]]) -> bool:
        """Take the write lock, or see to it that somebody tries again."""
        try:
            self._roll_back()  # what could not be rolled back in its time
            self._check_file()
            self._connection.execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, BackendUnavailable) as error:
            if isinstance(error, sqlite3.Error) and is_busy(error):
                limit = self._loop.time() - self._busy_seconds
                while source and source[0].since < limit:
                    source.popleft().refuse(translate(error, self._path), error)
                self._schedule(random.uniform(0.0005, _BUSY_PAUSE))
            else:
                self._refuse(source, error)
                self._schedule()
            return False
        return True

    def _refuse(
        self,
        requests: deque[_Request[Any]],
        cause: Exception,
        meaning: Callable[[Exception, Path], BackendError] = translate,
    ) -> None:
        while requests:
            requests.popleft().refuse(meaning(cause, self._path), cause)

    def _run(self, batch: list[_Request[Any]]) -> None:
        now = self._clock.now()
        try:
            for request in batch:
                request.result = request.work(self._connection, now)
            self._clock.tell(self._connection, now)
            self._connection.execute("COMMIT")
        except Exception as error:  # whatever went wrong, it is one request's, and must not be the others'
            self._roll_back()
            if len(batch) == 1:
                batch[0].refuse(translate(error, self._path), error)
            else:
                self._alone.extend(batch)
            return
        ready = set()
        for request in batch:
            if request.ready is not None:
                ready.add(request.ready)
            if request.durable:
                self._unsynced.append(request)
            else:
                request.answer()
        self._sync()
        try:
            if ready:
                self._made_ready(ready)
            self._empty_if_full()
        finally:
            self._answer_when_synced()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # some errors have ended it already
            # On a disk that fails it may fail as well; what was to be undone is nowhere else.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    # The disk.

    def _sync(self) -> None:
        """Begin to sync what was committed, unless a sync is under way: then it is the next one's."""
        if self._syncing is None and self._unsynced:
            self._synced, self._unsynced = self._unsynced, []
            self._syncing = self._threads.begin(self._timed_sync)

    def _timed_sync(self) -> None:
        began = time.perf_counter()
        self._log.sync()
        self._sync_seconds = time.perf_counter() - began

    def _answer_when_synced(self) -> None:
        """Answer those who wait for the sync that was begun: here and now, if it takes but a moment."""
        if self._syncing is None or self._is_awaited:
            return
        if self._sync_seconds < _MOMENT:
            with contextlib.suppress(Exception):  # told of below
                self._syncing.exception(_MOMENT)
        if self._syncing.done():
            self._end_sync(self._syncing)
        else:
            self._is_awaited = True
            asyncio.wrap_future(self._syncing, loop=self._loop).add_done_callback(self._end_sync)

    def _end_sync(self, syncing: "asyncio.Future[None] | concurrent.futures.Future[None]") -> None:
        self._syncing, self._is_awaited = None, False
        batch, self._synced = self._synced, []
        try:
            syncing.result()
            self._log.check_name()
        except (Exception, asyncio.CancelledError) as error:
            for request in batch:
                request.refuse(unsynced(error, self._path), error)
        else:
            for request in batch:
                request.answer()
        self._sync()
        self._answer_when_synced()

    def _empty_if_full(self) -> None:
        if self.assistant_free.locked():
            return  # somebody is looking at the file; writers need not wait for him
        if self._upkeep is None and not self._closed and self._log.is_full(self._loop.time()):
            self._look_after(self._empty())

    def _look_after(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin some work on the log; requests wait until it is done."""
        self._upkeep = self._loop.create_task(work)
        self._upkeep.add_done_callback(self._looked_after)

    def _looked_after(self, task: asyncio.Task[None]) -> None:
        self._upkeep = None
        if not task.cancelled():
            task.exception()  # the log stays as it is, and whoever writes next meets the same error
        if self._alone or self._waiting:
            self._schedule()

    async def _empty(self) -> None:
        """Checkpoint in a thread, with the write lock held here, unless somebody else was first."""
        async with self.assistant_free:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error:
                return  # another process writes; it, or our next commit, will see to it
            try:
                if self._log.is_full(self._loop.time()):
                    await self._threads.run(lambda: self._log.empty(self._assistant))
                    self._log.emptied(self._loop.time())
            finally:
                self._roll_back()

    async def _mend(self) -> None:
        """Have the log written again in a thread. The write lock is held here already."""
        try:
            await self._threads.run(self._log.mend)
        except OSError as error:
            for source in (self._alone, self._waiting):
                self._refuse(source, error, unsynced)
        finally:
            self._roll_back()

    async def close(self) -> None:
        """Answer what was submitted, and take no more."""
        self._closed = True
        while self._alone or self._waiting or self._unsynced or self._syncing or self._upkeep:
            if self._upkeep is not None:
                await asyncio.wait([self._upkeep])
            elif self._syncing is not None:
                await asyncio.wait([asyncio.wrap_future(self._syncing)])
            else:
                self._schedule()
                await asyncio.sleep(_BUSY_PAUSE)
        # Closing the last connection is a checkpoint, which a torn log must not meet: see `headrace_sqlite.disk`.
        if self._log.is_torn and self._begin(deque()):
            await self._mend()


def unsynced(error: BaseException, path: Path) -> BackendError:
    """A failed sync: the commits are made, and may or may not outlive a power cut."""
    return BackendUnavailable(f"{path} could not be synced to the disk: {error}")
