"""How each job is run: its terms, its decoder, its handler inside the middleware.

Owns the precedence push, job, queue, built-in, and where a handler runs: ``async def`` on
the loop, ``def`` in a thread. When it runs, and what follows, is the consumer's business.
"""

import contextvars
import functools
import inspect
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.config import QueueSettings
from headrace.context import Current
from headrace.driver import Capabilities, Message
from headrace.errors import ConfigError, InvalidPayload, JobError, UnknownJob
from headrace.imports import import_object
from headrace.job import Job, JobOptions, declared_jobs
from headrace.needs import refuse_too_long, require_declared
from headrace.options import OnTimeout
from headrace.queue import OPTIONS_HEADER
from headrace.settings import RetrySeconds, RunOptions
from headrace.threads import Threads

if TYPE_CHECKING:
    from headrace.app import Headrace

Invoke = Callable[[Current, Job], Awaitable[object]]
Middleware = Callable[[Current, Callable[[], Any]], Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for one run, once push, job and queue have been heard."""

    max_retries: int
    retry_seconds: RetrySeconds
    handle_timeout: float  #: seconds; 0: none
    on_timeout: OnTimeout

    def but(self, stated: RunOptions | JobOptions) -> "Terms":
        """These terms, but for what is stated."""
        names = (each.name for each in fields(self))
        return replace(self, **{name: value for name in names if (value := getattr(stated, name)) is not None})


@dataclass(frozen=True, slots=True)
class JobPlan:
    """How the jobs of one class are run on one queue."""

    job_class: type[Job]
    decode: Callable[[bytes], Job]
    terms: Terms
    invoke: Invoke | None  #: ``None``: call ``handle()`` and await it, nothing else
    max_run: float = math.inf  #: seconds that the backend can hold a delivery

    def terms_of(self, message: Message) -> Terms:
        """The terms of one message; its push may have stated some. Raises `InvalidPayload` for what it may not."""
        stated = message.headers.get(OPTIONS_HEADER)
        if stated is None:
            return self.terms
        try:
            options = msgspec.json.decode(stated, type=RunOptions)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InvalidPayload(f"the options that the push stated: {error}") from None
        if options.on_timeout == "cancel" and not self.job_class.job_options.is_async:
            raise InvalidPayload("the push stated on_timeout='cancel', and the handler is not an 'async def' here")
        if options.handle_timeout is not None and options.handle_timeout > self.max_run:
            raise InvalidPayload(
                f"the push stated handle_timeout={options.handle_timeout:g}, and the backend can hold a delivery "
                f"for {self.max_run:g} s at most"
            )
        return self.terms.but(options)


class Plans:
    """The plans of one queue's jobs, made when first asked for."""

    def __init__(
        self, app: "Headrace", settings: QueueSettings, middleware: Sequence[Middleware], threads: Threads
    ) -> None:
        self._app = app
        self._settings = settings
        self._middleware = middleware
        self._threads = threads
        self._capabilities: Capabilities | None = None
        self._plans: dict[str, JobPlan] = {}

    def get(self, name: str) -> JobPlan:
        """The plan for a wire name. Raises `UnknownJob`, or `JobError` for a declaration that cannot be run.

        Raises `InvalidPayload` for no name at all, which is a message that its driver could not read.
        """
        plan = self._plans.get(name)
        if plan is None:
            job_class = declared_jobs().get(name)
            if not name:
                raise InvalidPayload("it names no job: it was damaged where it is kept, or somebody else put it there")
            if job_class is None:
                raise UnknownJob(f"no job {name!r} is declared here; is its module among the config's imports?")
            plan = self._plans[name] = self._make(job_class)
        return plan

    def hold_to(self, capabilities: Capabilities) -> None:
        """Refuse, from now on, what a backend of these capabilities cannot do.

        Once it is open it may know them better; what was checked before has to be checked again.
        """
        self._capabilities = capabilities
        self._plans.clear()

    def check(self) -> None:
        """Make the plans of all jobs declared for this queue, so that what is wrong is found at start.

        Raises `ConfigError` or `JobError` for what cannot be run, and `CapabilityError` for what
        could not be pushed. That is refused here too, as it is known here (DESIGN promise 10): who
        starts a worker would else hear of it from the first push. Messages of such a job that were
        pushed elsewhere, to a queue that is not the job's own, are run like any other.
        """
        queue = self._settings
        if self._capabilities is not None:
            refuse_too_long(f"queue {queue.name}", queue.handle_timeout, queue.backend, self._capabilities)
        for name, job_class in declared_jobs().items():
            if job_class.job_options.queue == queue.name:
                self.get(name)
                if self._capabilities is not None:
                    require_declared(job_class.job_options, queue.backend, self._capabilities)

    def _make(self, job_class: type[Job]) -> JobPlan:
        options, queue = job_class.job_options, self._settings
        of_queue = Terms(queue.max_retries, queue.retry_seconds, queue.handle_timeout, queue.on_timeout)
        terms = of_queue.but(options)
        if terms.on_timeout == "cancel" and not options.is_async:
            raise ConfigError(
                f"{options.source} has a sync handler, and a thread cannot be cancelled; "
                "make handle() an 'async def', or set on_timeout='continue'"
            )
        max_run = math.inf
        if self._capabilities is not None:
            max_run = self._capabilities.max_run
            # What it has of the queue is the queue's to answer for.
            refuse_too_long(f"job {options.name}", options.handle_timeout, queue.backend, self._capabilities)
        return JobPlan(job_class, self._app.codec(job_class).decode, terms, self._invoke(job_class), max_run)

    def _invoke(self, job_class: type[Job]) -> Invoke | None:
        if job_class.job_options.is_async:
            if not self._middleware:
                return None
            for each in self._middleware:
                if not inspect.iscoroutinefunction(each):
                    raise ConfigError(
                        f"middleware: {_name(each)} is a plain function and cannot surround the async handler of "
                        f"{job_class.job_options.source}; make it an 'async def' that awaits call_next()"
                    )
            return functools.partial(_around, self._middleware, _call_async)
        # Plain middleware runs in the handler's own thread, inside all that is async.
        inner = [each for each in self._middleware if not inspect.iscoroutinefunction(each)]
        outer = [each for each in self._middleware if inspect.iscoroutinefunction(each)]
        in_thread = functools.partial(_call_in_thread, self._threads, inner)
        return functools.partial(_around, outer, in_thread) if outer else in_thread


def load_middleware(references: Sequence[str]) -> list[Middleware]:
    """The functions that the config's ``middleware`` names, outermost first."""
    return [import_object(reference, "middleware") for reference in references]


async def _call_async(run: Current, job: Job) -> object:
    return await job.handle()  # type: ignore[misc]


async def _call_in_thread(threads: Threads, middleware: Sequence[Middleware], run: Current, job: Job) -> object:
    call: Callable[[], object] = job.handle
    for each in reversed(middleware):
        call = functools.partial(each, run, call)
    context, source = contextvars.copy_context(), job.job_options.source
    return await threads.run(lambda: context.run(_call_plain, call, source))


def _call_plain(call: Callable[[], object], source: str) -> None:
    given = call()
    if inspect.isawaitable(given):
        raise JobError(f"{source}: handle() returned an awaitable from a plain 'def'; declare it 'async def'")
    if inspect.isgenerator(given) or inspect.isasyncgen(given):
        raise JobError(f"{source}: handle() returned a generator, of which nothing has run")


async def _around(middleware: Sequence[Middleware], innermost: Invoke, run: Current, job: Job) -> object:
    call: Callable[[], Any] = functools.partial(innermost, run, job)
    for each in reversed(middleware):
        call = functools.partial(each, run, call)
    return await call()


def _name(function: Middleware) -> str:
    return getattr(function, "__qualname__", repr(function))
