"""Running each job where it is pushed, in place of a worker.

Owns the run of one job without one: its retries at once, its error to whoever pushed. What a job's
terms are, and how it is decoded and surrounded, is decided by the engine's own plans.
"""

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from headrace.app import Headrace
from headrace.config import QueueSettings
from headrace.context import set_current
from headrace.detached import DetachedRun
from headrace.driver import Message
from headrace.errors import Drop, JobError
from headrace.job import Job
from headrace.plans import Middleware, Plans, load_middleware
from headrace.testing.apps import Configuration
from headrace.testing.blocking import run_blocking
from headrace.testing.fake import Fake
from headrace.testing.outcomes import raise_first
from headrace.testing.recorder import Recorder
from headrace.threads import Threads

T = TypeVar("T")

#: What ends a handler and nothing else. A cancellation is the pusher's, and an interrupt the tester's.
_OF_HANDLERS: Final = (Exception, SystemExit)


def inline(config: Configuration = None, *, state: Any = None, middleware: bool = True) -> Fake:
    """Run each job at once where it is pushed, for as long as the context lasts.

    A push returns its id when the handler has ended. ``push`` runs ``async def`` handlers in a task
    beside, which it awaits, and others in a thread, as a worker does; ``push_sync`` runs plain handlers
    in the very thread that pushed, and ``async def`` ones on an event loop of their own. Delays are
    not waited for, and retries follow at once. When they are used up, ``failed()`` is called and the
    error is raised to the pusher; of several jobs in one push, all run first. `Drop` is no error.

    Middleware surrounds handlers, unless ``middleware`` is false (with ``async def`` middleware,
    ``push_sync`` runs plain handlers in a thread too). ``state`` is what handlers find in
    `current().state`. No worker, and so no lifespan, no timeouts and no events but `JobPushed`.

    What was pushed is recorded, as by `fake`.
    """
    return Fake(_InPlace(config, state, middleware=middleware))


class _InPlace(Recorder):
    """A recorder that runs what is pushed."""

    def __init__(self, config: Configuration, state: Any, *, middleware: bool) -> None:
        super().__init__(config)
        self._state = state
        self._middleware = middleware
        self._thread = threading.local()

    async def pushed(self, app: Headrace, settings: QueueSettings, stored: Sequence[tuple[Message, Job]]) -> None:
        await super().pushed(app, settings, stored)
        driver = self.driver(app, settings)
        middleware = load_middleware(app.config.middleware) if self._middleware else []
        taken = [message for message, _ in stored if await driver.cancel(message.id)]
        calls = [_Call(app, settings, message, middleware, self._state) for message in taken]
        waiting: list[_Call] | None = getattr(self._thread, "waiting", None)
        if waiting is not None:
            waiting += calls  # for the end of the blocking call that this loop was made for
            return
        for each in calls:
            await each.run()
        raise_first([each.failure for each in calls if each.failure is not None])

    def call(
        self, make_app: Callable[[asyncio.AbstractEventLoop], Headrace], action: Callable[[Headrace], Awaitable[T]]
    ) -> T:
        calls: list[_Call] = []
        self._thread.waiting = calls
        try:
            result = super().call(make_app, action)
        finally:
            self._thread.waiting = None
        for each in calls:
            each.run_here()
        raise_first([each.failure for each in calls if each.failure is not None])
        return result


class _Call:
    """One job on its way through its runs: `run` on an event loop, or `run_here` without one."""

    def __init__(
        self, app: Headrace, settings: QueueSettings, message: Message, middleware: Sequence[Middleware], state: Any
    ) -> None:
        self._queue = settings.name
        self._message = message
        self._middleware = middleware
        self._state = state
        # Of its own: a handler that pushes waits in it, and one that was shared could run out of threads.
        self._threads = Threads(1, "headrace-inline")
        self._plan = Plans(app, settings, middleware, self._threads).get(message.name)
        self._job = self._plan.decode(message.body)
        self._terms = self._plan.terms_of(message)
        self._run = self._begin()
        self._over = False
        #: The job's name and what ended it, once its retries are used up.
        self.failure: tuple[str, BaseException] | None = None

    async def run(self) -> None:
        """Run the job until it is over."""
        try:
            while not self._over:
                self._end(await asyncio.create_task(self._handle()))
            if (error := self._to_be_told()) is not None:
                self._told(error, await asyncio.create_task(self._tell(error)))
        except BaseException:
            # The pusher was cancelled, and a handler in a thread goes on.
            self._threads.close()
            raise
        self._threads.close(wait=True)

    def run_here(self) -> None:
        """As `run`, in this thread; on an event loop only what needs one."""
        options = self._plan.job_class.job_options
        on_loop = options.is_async or any(inspect.iscoroutinefunction(each) for each in self._middleware)
        try:
            while not self._over:
                self._end(run_blocking(self._handle) if on_loop else _apart(self._handle_here))
            if (error := self._to_be_told()) is not None:
                self._told(error, _apart(functools.partial(self._tell_here, error)))
        finally:
            self._threads.close(wait=True)

    def _begin(self) -> DetachedRun:
        return DetachedRun(self._message, self._queue, self._job, self._terms.handle_timeout, self._state)

    def _end(self, error: BaseException | None) -> None:
        """Decide what follows a run."""
        if error is None or isinstance(error, Drop):
            self._over = True
        elif self._message.attempt < self._terms.max_retries:
            self._message = msgspec.structs.replace(self._message, attempt=self._message.attempt + 1)
            self._run = self._begin()
        else:
            self._over = True
            self.failure = self._message.name, error

    async def _handle(self) -> BaseException | None:
        """One run; its error. In a task of its own, so that the pusher keeps its context."""
        set_current(self._run)
        try:
            if self._plan.invoke is None:
                await self._job.handle()  # type: ignore[misc]
            else:
                await self._plan.invoke(self._run, self._job)
        except _OF_HANDLERS as error:
            return error
        return None

    def _handle_here(self) -> BaseException | None:
        set_current(self._run)
        call: Callable[[], object] = self._job.handle
        for each in reversed(self._middleware):
            call = functools.partial(each, self._run, call)
        try:
            call()
        except _OF_HANDLERS as error:
            return error
        return None

    def _to_be_told(self) -> Exception | None:
        """What the job's ``failed`` is to be told, if it has one and it is to be called."""
        if self.failure is None or type(self._job).failed is Job.failed:
            return None
        _, error = self.failure
        return error if isinstance(error, Exception) else JobError(f"the handler raised {error!r}")

    async def _tell(self, error: Exception) -> BaseException | None:
        """Call ``failed``; its error."""
        if not inspect.iscoroutinefunction(self._job.failed):
            tell = functools.partial(_apart, functools.partial(self._tell_here, error))
            return await self._threads.run(tell)
        set_current(self._run)
        try:
            await self._job.failed(error)
        except _OF_HANDLERS as broken:
            return broken
        return None

    def _tell_here(self, error: Exception) -> BaseException | None:
        if inspect.iscoroutinefunction(self._job.failed):
            return run_blocking(functools.partial(self._tell, error))
        set_current(self._run)
        try:
            self._job.failed(error)
        except _OF_HANDLERS as broken:
            return broken
        return None

    @staticmethod
    def _told(error: Exception, broken: BaseException | None) -> None:
        if broken is not None:
            error.add_note(f"and then its failed() raised {broken!r}")


def _apart(call: Callable[[], T]) -> T:
    """Call in a copy of this context, so that what the call sets there stays there."""
    return contextvars.copy_context().run(call)
