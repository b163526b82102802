"""The built-in listeners, and how the config's ``listeners`` become functions.

``log`` tells of retries, failures, timeouts and losses; ``queue-length`` logs each queue's
length, louder as it grows; ``reload-timeouts`` moves ``timeout`` back to ``waiting`` and is
for idempotent jobs only. The names and thresholds of the last two are hyperf's.
"""

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from headrace.errors import ConfigError, WorkerDied
from headrace.events import (
    AfterHandle,
    BackendBack,
    BackendLost,
    Event,
    FailedHandle,
    JobEvent,
    LeaseLost,
    Listener,
    QueueLength,
    RetryHandle,
    TimeoutHandle,
    WorkerStarted,
    WorkerStopped,
    listen,
)
from headrace.imports import import_module
from headrace.log_fields import about_queue

if TYPE_CHECKING:
    from headrace.app import Headrace

logger = logging.getLogger("headrace")

#: Waiting messages below which a queue's length is logged at that level; hyperf's figures.
_LENGTH_LEVELS: Final = ((10, logging.DEBUG), (50, logging.INFO), (500, logging.WARNING))


def load_listeners(app: "Headrace") -> list[Listener[Any]]:
    """The listeners that an app's config names."""
    found: list[Listener[Any]] = []
    for name in app.config.listeners:
        if name in BUILT_IN:
            found.extend(BUILT_IN[name](app))
        else:
            found.extend(_of_module(name))
    return found


def _of_module(name: str) -> list[Listener[Any]]:
    if "." not in name and "-" in name:
        raise ConfigError(f"listeners: there is no built-in listener {name!r}; there are {', '.join(BUILT_IN)}")
    module = import_module(name, "listeners")
    found = [each for each in vars(module).values() if isinstance(each, Listener)]
    if not found:
        raise ConfigError(f"listeners: the module {name!r} has no function marked with @listen(...)")
    return found


def _named(event: JobEvent) -> str:
    return f"{event.message.name} {event.message.id} on {event.queue}"


def _log(app: "Headrace") -> Iterator[Listener[Any]]:
    """One line for each thing that went other than well; successes only at debug level."""

    @listen(RetryHandle, FailedHandle, TimeoutHandle, LeaseLost)
    def trouble(event: JobEvent) -> None:
        match event:
            case RetryHandle(error=None):
                logger.info("%s asked to run again, in %.3g s", _named(event), event.message.delay)
            case RetryHandle(error=error):
                logger.warning("%s raised %r; it runs again in %.3g s", _named(event), error, event.message.delay)
            case FailedHandle(late=True, error=error):
                logger.error("%s raised after its timeout", _named(event), exc_info=error)
            case FailedHandle(error=WorkerDied() as error):
                logger.error("%s failed and rests in 'failed': %s", _named(event), error)
            case FailedHandle(error=error):
                logger.error("%s failed and rests in 'failed'", _named(event), exc_info=error)
            case TimeoutHandle(seconds=seconds):
                logger.warning("%s still runs after %.3g s and rests in 'timeout'", _named(event), seconds)
            case _:
                why = "its lease ran out, or what held it is gone"
                logger.warning(
                    "%s was no longer ours: %s; nothing was written, and it may run again", _named(event), why
                )

    @listen(BackendLost)
    def lost(event: BackendLost) -> None:
        text = "the backend of %s is out of reach; trying until it answers: %s"
        logger.error(text, event.queue, event.error, extra=about_queue(event.queue))

    @listen(BackendBack)
    def back(event: BackendBack) -> None:
        text = "the backend of %s is back; it was out of reach for %.3g s"
        logger.info(text, event.queue, event.seconds, extra=about_queue(event.queue))

    @listen(WorkerStarted, WorkerStopped)
    def worker(event: Event) -> None:
        if isinstance(event, WorkerStopped):
            logger.info("worker %s stopped after %d messages", event.worker, event.handled)
        else:
            logger.info("worker %s started", event.worker)

    yield from (trouble, lost, back, worker)
    # Asked once, so that at other levels nothing is made for each of a million successes.
    if logger.isEnabledFor(logging.DEBUG):

        @listen(AfterHandle)
        def success(event: AfterHandle) -> None:
            ending = "done" if event.dropped is None else f"dropped: {event.dropped}"
            logger.debug("%s %s after %.3g s", _named(event), ending, event.seconds)

        yield success


def _queue_length(app: "Headrace") -> Iterator[Listener[Any]]:
    """Each queue's length, at a level that rises with it."""

    @listen(QueueLength)
    def length(event: QueueLength) -> None:
        waiting = event.info.waiting
        if waiting is None:
            return
        level = next((level for below, level in _LENGTH_LEVELS if waiting < below), logging.ERROR)
        logger.log(level, "%s has %d messages waiting", event.queue, waiting, extra=about_queue(event.queue))

    yield length


def _reload_timeouts(app: "Headrace") -> Iterator[Listener[Any]]:
    """Run again what timed out. Off by default: a handler may then run twice at once."""

    @listen(QueueLength)
    async def reload(event: QueueLength) -> None:
        if event.queue is not None and event.info.timeout != 0:
            moved = await app.queue(event.queue).reload("timeout")
            if moved:
                logger.info("%s: moved %d messages from 'timeout' back to 'waiting'", event.queue, moved)

    yield reload


BUILT_IN: Final[dict[str, Callable[["Headrace"], Iterator[Listener[Any]]]]] = {
    "log": _log,
    "queue-length": _queue_length,
    "reload-timeouts": _reload_timeouts,
}
