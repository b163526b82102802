"""headrace from code that runs on no event loop: Django, Flask, scripts, sync handlers.

Owns one thread with an event loop per app, made when first needed and shared by every
thread that calls; so a push costs no connection of its own. After a fork the child makes
its own; at exit what is open is closed.
"""

import asyncio
import atexit
import builtins
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.driver import Channel, Info, RestingChannel
from headrace.errors import WrongContext
from headrace.job import Delay, Job

if TYPE_CHECKING:
    from headrace.app import Headrace
    from headrace.queue import Listed

T = TypeVar("T")


class SyncPortal:
    """Runs an app's coroutines on a loop in a thread, and waits for them.

    Calls from many threads overlap on the one loop. The state belongs to the process that
    made it: a child of a fork starts anew, whatever its parent's threads were doing.
    """

    def __init__(self, make_app: "Callable[[], Headrace]") -> None:
        self._make_app = make_app
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._app: Headrace | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop of the portal's thread; ``None`` before the first call."""
        return self._loop

    def call(self, action: "Callable[[Headrace], Awaitable[T]]", verb: str) -> T:
        """Run ``action`` on the portal's loop and return its result; raises what it raises."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise WrongContext(f"{verb}_sync() would block this thread's event loop; await {verb}() instead")
        loop = self._running_loop()

        async def act() -> T:
            assert self._app is not None
            return await action(self._app)

        return asyncio.run_coroutine_threadsafe(act(), loop).result()

    def close(self) -> None:
        """Close what is open and end the thread. The next call starts anew."""
        if self._process != os.getpid():
            return
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        atexit.unregister(self.close)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._process != os.getpid():
            # The lock may have been held, and the thread is gone, in this child of a fork.
            self._process, self._lock = os.getpid(), threading.Lock()
            self._loop = self._thread = self._app = None
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._app = self._make_app()
                self._thread = threading.Thread(
                    target=self._serve, args=(self._loop, self._app), name="headrace-sync", daemon=True
                )
                self._thread.start()
                atexit.register(self.close)
            return self._loop

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop, app: "Headrace") -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            leftover = asyncio.all_tasks(loop)
            for task in leftover:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(asyncio.gather(*leftover, return_exceptions=True))
            loop.run_until_complete(app.close())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


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

    def push(self, job: Job, **options: Any) -> str:
        """As `Queue.push`, with its options."""
        return self._portal.call(lambda app: app.queue(self.name).push(job, **options), "push")

    def push_sync(self, job: Job, **options: Any) -> str:
        """The same as `push`, under the name that it has elsewhere."""
        return self.push(job, **options)

    def push_many(self, jobs: Iterable[Job], *, delay: Delay | None = None) -> builtins.list[str]:
        """As `Queue.push_many`."""
        return self._portal.call(lambda app: app.queue(self.name).push_many(jobs, delay=delay), "push_many")

    def info(self) -> Info:
        """As `Queue.info`."""
        return self._portal.call(lambda app: app.queue(self.name).info(), "info")

    def list(self, channel: Channel, *, limit: int = 100, job: str | None = None) -> "builtins.list[Listed]":
        """As `Queue.list`."""
        return self._portal.call(lambda app: app.queue(self.name).list(channel, limit=limit, job=job), "list")

    def find(self, id: str) -> "Listed | None":  # noqa: A002 - the field's own word
        """As `Queue.find`."""
        return self._portal.call(lambda app: app.queue(self.name).find(id), "find")

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
            lambda app: app.queue(self.name).reload(channel, limit=limit, job=job, ids=ids), "reload"
        )

    def flush(self, channel: Channel, *, job: str | None = None, ids: Sequence[str] | None = None) -> int:
        """As `Queue.flush`."""
        return self._portal.call(lambda app: app.queue(self.name).flush(channel, job=job, ids=ids), "flush")

    def cancel(self, id: str) -> bool:  # noqa: A002
        """As `Queue.cancel`."""
        return self._portal.call(lambda app: app.queue(self.name).cancel(id), "cancel")
