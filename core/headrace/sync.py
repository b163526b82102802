"""headrace from code that runs on no event loop: Django, Flask, scripts, sync handlers.

Owns one thread with an event loop per app, made when first needed and shared by every
thread that calls; so a push costs no connection of its own. It is closed before a fork, and
made anew after it in parent and child; at exit what is open is closed.
"""

import asyncio
import atexit
import builtins
import concurrent.futures.thread  # before we register for the exit, since what registers first is called last
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

from headrace.driver import Channel, Info, RestingChannel
from headrace.ending import GRACE_SECONDS, end_tasks
from headrace.errors import BackendUnavailable, WrongContext
from headrace.job import Job
from headrace.options import Delay, PushWords
from headrace.standin import stand_in

if TYPE_CHECKING:
    from headrace.app import Headrace
    from headrace.queue import Listed

T = TypeVar("T")

logger = logging.getLogger("headrace")

#: Seconds that a fork, or the exit, waits for calls of other threads; a push has an answer, or none, within five.
_LONGEST_CALL: Final = 10.0
#: Seconds for a session to end: twice `GRACE_SECONDS`, and as many as all backends side by side may take to close.
_END_SECONDS: Final = 30.0


class _Session:
    """An app on an event loop in a thread, from the first blocking call until it is closed."""

    def __init__(self, owner: "SyncPortal", make_app: "Callable[[asyncio.AbstractEventLoop], Headrace]") -> None:
        self.owner = owner  # lives as long as the thread: it is what the exit closes
        self.loop = asyncio.new_event_loop()
        self._calls: set[asyncio.Task[Any]] = set()
        self._pending: set[concurrent.futures.Future[Any]] = set()
        self.thread = threading.Thread(target=self._serve, name="headrace-sync", daemon=True)
        try:
            self.app = make_app(self.loop)
        except BaseException:
            self.loop.close()
            raise

    def start(self) -> None:
        """Begin to serve calls."""
        try:
            self.thread.start()
        except BaseException:
            self.loop.close()
            raise

    def discard(self) -> None:
        """Let go of one that was never started."""
        self.loop.close()

    def submit(self, action: "Callable[[Headrace], Awaitable[T]]") -> "concurrent.futures.Future[T]":
        """Begin ``action`` on the loop."""
        future = asyncio.run_coroutine_threadsafe(self._run(action), self.loop)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def finish(self) -> None:
        """Wait for the calls that were begun, for as long as any of them may rightly take."""
        concurrent.futures.wait(tuple(self._pending), timeout=_LONGEST_CALL)

    def close(self) -> None:
        """Cancel the calls that run, close the app, end the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(_END_SECONDS)
        if self.thread.is_alive():
            logger.error("what the blocking calls had open did not close within %g s, and is left open", _END_SECONDS)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self._end())
        except Exception:
            logger.exception("what the blocking calls had open could not be closed")
        finally:
            asyncio.set_event_loop(None)
            for each in tuple(self._pending):
                each.cancel()  # its call ignored that, and nobody else would tell who waits for it
            self.loop.close()

    async def _run(self, action: "Callable[[Headrace], Awaitable[T]]") -> T:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await action(self.app)
        finally:
            self._calls.discard(task)

    async def _end(self) -> None:
        # What was submitted before the end has begun: the loop takes turns in the order of asking.
        await end_tasks(self._calls, GRACE_SECONDS)
        try:
            await self.app.close()
        finally:
            others = (each for each in asyncio.all_tasks() if each is not asyncio.current_task())
            await end_tasks(others, GRACE_SECONDS)


class SyncPortal:
    """Runs an app's coroutines on a loop in a thread, and waits for them.

    Calls from many threads overlap on the one loop. ``make_app`` makes the app for that loop.
    """

    def __init__(self, make_app: "Callable[[asyncio.AbstractEventLoop], Headrace]") -> None:
        self._make_app = make_app
        #: Held while a call is handed to the loop, so that none comes in behind the end of it.
        self._lock = threading.Lock()
        self._session: _Session | None = None
        #: What the parents of this process had open: not ours to use, nor to close by forgetting it.
        self._inherited: list[_Session] = []
        self._registered = False
        self._forking = False

    def call(self, action: "Callable[[Headrace], Awaitable[T]]", instead: str) -> T:
        """Run ``action`` on the portal's loop and return its result; raises what it raises.

        ``instead``: what is to be awaited where an event loop runs.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise WrongContext(f"a blocking call would stop this thread's event loop; await {instead} instead")
        if (standing := stand_in()) is not None:
            return standing.call(self._make_app, action)
        future = self._submit(action)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise BackendUnavailable(
                "the app was closed while a call waited for its backend; whether that was done is unknown"
            ) from None

    def _submit(self, action: "Callable[[Headrace], Awaitable[T]]") -> "concurrent.futures.Future[T]":
        with self._lock:
            if self._session is not None:
                return self._session.submit(action)
        # Not under the lock: making an app imports the modules of its listeners, and these may push, too.
        session = _Session(self, self._make_app)
        with self._lock:
            if self._session is None:
                self._register()
                session.start()
                self._session = session
            else:
                session.discard()
            return self._session.submit(action)

    def close(self) -> None:
        """Close what is open and end the thread; calls that still wait are cancelled. The next call starts anew."""
        self._close()

    def _close_at_exit(self) -> None:
        """Close what is open once the calls of other threads have ended: Python lets those threads end, too."""
        self._close(finished=True)

    def _close(self, *, finished: bool = False) -> None:
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            if finished:
                session.finish()
            session.close()

    def _register(self) -> None:
        """See to it that what is open is closed at exit, and left alone by the child of a fork."""
        if self._registered:
            return
        self._registered = True
        os.register_at_fork(
            before=_call_if_alive(self._before_fork),
            after_in_parent=_call_if_alive(self._after_fork),
            after_in_child=_call_if_alive(self._forked),
        )
        closing = _call_if_alive(self._close_at_exit)
        try:
            # As `concurrent.futures` does: with `atexit` we would come after it has closed all
            # executors, and drivers may need theirs to close. There is no public way.
            threading._register_atexit(closing)  # type: ignore[attr-defined]
        except (AttributeError, RuntimeError):  # the latter: the exit has begun
            atexit.register(closing)

    def _before_fork(self) -> None:
        """Let calls end and close what is open, and let none in until after the fork.

        A child must not inherit open connections, even unused: SQLite's locks, for one, belong
        to a process, and what the library knows of them is copied with it. Both processes
        open their own when they next push.
        """
        if self._session is not None and self._session.thread is threading.current_thread():
            return  # a listener forks, on the very loop that would have to be closed
        self._lock.acquire()
        self._forking = True
        session, self._session = self._session, None
        if session is not None:
            session.finish()
            session.close()

    def _after_fork(self) -> None:
        if self._forking:
            self._forking = False
            self._lock.release()

    def _forked(self) -> None:
        """In the child of a fork, where this is its only thread: the lock may have been held by another."""
        self._lock = threading.Lock()
        self._forking = False
        if self._session is not None:
            self._inherited.append(self._session)
            self._session = None


def _call_if_alive(method: Callable[[], None]) -> Callable[[], None]:
    """A call of the method that does not keep its object alive: such registrations are for good."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive()

    return call


class SyncApp:
    """`Headrace.sync`: every verb of an app's queues, blocking; callable from any thread."""

    def __init__(self, portal: SyncPortal) -> None:
        self._portal = portal

    def queue(self, name: str = "default") -> "SyncQueue":
        """The queue of that name; `UnknownQueue` is raised by its first verb."""
        return SyncQueue(self._portal, name)

    def close(self) -> None:
        """Close the connections now instead of at exit."""
        self._portal.close()


class SyncQueue:
    """A queue whose verbs block; each does what `Queue`'s verb of that name does."""

    def __init__(self, portal: SyncPortal, name: str) -> None:
        self._portal = portal
        self.name = name

    def push(self, job: Job, **words: Unpack[PushWords]) -> str:
        """As `Queue.push`, with its options."""
        return self._portal.call(lambda app: app.queue(self.name).push(job, **words), "queue.push()")

    def push_sync(self, job: Job, **words: Unpack[PushWords]) -> str:
        """The same as `push`, under the name that it has elsewhere."""
        return self.push(job, **words)

    def push_many(self, jobs: Iterable[Job], *, delay: Delay | None = None) -> builtins.list[str]:
        """As `Queue.push_many`."""
        return self._portal.call(lambda app: app.queue(self.name).push_many(jobs, delay=delay), "queue.push_many()")

    def info(self) -> Info:
        """As `Queue.info`."""
        return self._portal.call(lambda app: app.queue(self.name).info(), "queue.info()")

    def list(self, channel: Channel, *, limit: int = 100, job: str | None = None) -> "builtins.list[Listed]":
        """As `Queue.list`."""
        return self._portal.call(lambda app: app.queue(self.name).list(channel, limit=limit, job=job), "queue.list()")

    def find(self, id: str) -> "Listed | None":  # noqa: A002 - the field's own word
        """As `Queue.find`."""
        return self._portal.call(lambda app: app.queue(self.name).find(id), "queue.find()")

    def reload(
        self,
        channel: RestingChannel,
        *,
        limit: int | None = None,
        job: str | None = None,
        ids: Sequence[str] | None = None,
    ) -> int:
        """As `Queue.reload`."""
        return self._portal.call(
            lambda app: app.queue(self.name).reload(channel, limit=limit, job=job, ids=ids), "queue.reload()"
        )

    def flush(self, channel: Channel, *, job: str | None = None, ids: Sequence[str] | None = None) -> int:
        """As `Queue.flush`."""
        return self._portal.call(lambda app: app.queue(self.name).flush(channel, job=job, ids=ids), "queue.flush()")

    def cancel(self, id: str) -> bool:  # noqa: A002
        """As `Queue.cancel`."""
        return self._portal.call(lambda app: app.queue(self.name).cancel(id), "queue.cancel()")
