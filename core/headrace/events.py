"""What happens to jobs, queues and workers, told to whoever listens.

Owns the event types and their delivery to listeners. It decides nothing: a listener's
exception is logged and changes no job's outcome (DESIGN promise 12). What the built-in
listeners do with the events stands in ``listeners.py``.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from headrace.driver import Info, Message
from headrace.job import Job

logger = logging.getLogger("headrace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The root of all events; listening to it hears everything."""

    queue: str | None  #: the queue's name; ``None`` where the event concerns the whole worker
    worker: str | None  #: ``host:pid``; ``None`` outside a worker


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent(Event):
    """Something happened to one message."""

    message: Message
    job: Job | None  #: ``None`` where the message could not be decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPushed(JobEvent):
    """A message was stored; ``message.delay`` tells whether it is due now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeHandle(JobEvent):
    """A handler is about to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterHandle(JobEvent):
    """A handler ended without an error."""

    seconds: float  #: how long it ran
    late: bool = False  #: its message had been moved to ``timeout`` before
    dropped: str | None = None  #: the reason, where the handler raised `Drop`


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedHandle(JobEvent):
    """A message was moved to ``failed``; or, if ``late``, a handler raised after its timeout."""

    error: BaseException
    seconds: float
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryHandle(JobEvent):
    """A message was put back to run again, ``message.delay`` seconds from now."""

    error: BaseException | None  #: ``None`` where the handler raised `Retry` of its own accord
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutHandle(JobEvent):
    """A handler ran past its ``handle_timeout``; its message rests in ``timeout``."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLost(JobEvent):
    """A delivery was no longer this worker's: its lease or its connection ended. Nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLength(Event):
    """Taken each ``queue_length_seconds``."""

    info: Info


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(Event):
    """A worker is about to take its first message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStopped(Event):
    """A worker has settled or given back all that it held, and takes no more."""

    handled: int  #: messages that it handled


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendLost(Event):
    """A queue's backend is out of reach; the worker keeps trying."""

    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendBack(Event):
    """A queue's backend answers again."""

    seconds: float  #: how long it was out of reach


EventType = TypeVar("EventType", bound=Event)


@dataclass(frozen=True, slots=True)
class Listener(Generic[EventType]):
    """A function with the event types that it hears. Calling it calls the function."""

    types: tuple[type[EventType], ...]
    function: Callable[[EventType], object]

    def __call__(self, event: EventType) -> object:
        return self.function(event)


def listen(*types: type[EventType]) -> Callable[[Callable[[EventType], object]], Listener[EventType]]:
    """Mark a function as a listener to events of these types and of their subtypes.

    It counts once its module stands among the config's ``listeners``. A plain function runs
    at once, on the event loop, and must be quick; an ``async def`` runs in a task of its own.
    """
    if not types or not all(isinstance(each, type) and issubclass(each, Event) for each in types):
        raise TypeError("listen() takes event types, as in @listen(FailedHandle)")

    def mark(function: Callable[[EventType], object]) -> Listener[EventType]:
        return Listener(types, function)

    return mark


class EventBus:
    """Delivers events to listeners, on the loop that emits them.

    Whoever emits asks `hears` first, so that an event nobody listens to is never made.
    """

    def __init__(self, listeners: Iterable[Listener[Any]] = ()) -> None:
        self._listeners = list(listeners)
        self._by_type: dict[type[Event], tuple[Listener[Any], ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def listeners(self) -> tuple[Listener[Any], ...]:
        """All of them, in the order in which they are called."""
        return tuple(self._listeners)

    def add(self, listener: Listener[Any]) -> None:
        self._listeners.append(listener)
        self._by_type.clear()

    def hears(self, event_type: type[Event]) -> tuple[Listener[Any], ...]:
        """The listeners to events of exactly this type; empty if nobody listens."""
        try:
            return self._by_type[event_type]
        except KeyError:
            found = tuple(each for each in self._listeners if issubclass(event_type, each.types))
            self._by_type[event_type] = found
            return found

    def emit(self, event: Event) -> None:
        """Call every listener to this event. Never raises what a listener raised."""
        for listener in self.hears(type(event)):
            try:
                result = listener.function(event)
                if inspect.isawaitable(result):
                    task = asyncio.ensure_future(self._finish(listener, result))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            except BaseException:
                self._log(listener)

    async def drain(self, seconds: float = 5.0) -> None:
        """Wait for the ``async def`` listeners that still run; cancel those that take longer."""
        if self._tasks:
            _, late = await asyncio.wait(tuple(self._tasks), timeout=seconds)
            for task in late:
                logger.error("a listener still ran after %g s, and was cancelled", seconds)
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=seconds)

    async def _finish(self, listener: Listener[Any], result: Any) -> None:
        try:
            await result
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._log(listener)

    @staticmethod
    def _log(listener: Listener[Any]) -> None:
        name = getattr(listener.function, "__qualname__", repr(listener.function))
        logger.exception("the listener %s raised; no job is affected", name)
