"""How a worker stops: gracefully, or at once when asked a second time.

Owns the order in which what a worker has in its hands comes to an end. Nothing is taken
after that begins; when to begin, and why, is the worker's own to say.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine, Iterable, Sequence
from typing import Any, Final

from headrace.consumer import QueueConsumer
from headrace.ending import GRACE_SECONDS, end_tasks
from headrace.execution import Execution
from headrace.log_fields import about

logger = logging.getLogger("headrace")

#: Seconds instead of `GRACE_SECONDS` after a second signal.
HURRIED_SECONDS: Final = 1.0
#: Seconds between looks at whether a handler that is waited for has gone past its timeout.
_LOOK_SECONDS: Final = 1.0


class Stop:
    """Whether a worker is to stop, and whether in a hurry. Belongs to one event loop."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._hurried = asyncio.Event()

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    def begin(self) -> None:
        """Stop gracefully. Once is enough."""
        self._begun.set()

    def ask(self) -> None:
        """Stop gracefully; asked a second time, at once."""
        if self.begun:
            self._hurried.set()
        self.begin()

    async def wait(self) -> None:
        """Until it begins."""
        await self._begun.wait()

    @property
    def grace(self) -> float:
        """Seconds for those who are told to end."""
        return HURRIED_SECONDS if self._hurried.is_set() else GRACE_SECONDS

    async def to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` to its end, whoever cancels; to be cancelled means to hurry."""
        doing = asyncio.get_running_loop().create_task(work)
        cancelled: asyncio.CancelledError | None = None
        while not doing.done():
            try:
                await asyncio.shield(doing)
            except asyncio.CancelledError as error:
                if not doing.done():
                    self._hurried.set()
                cancelled = error
        if cancelled is not None:
            raise cancelled
        doing.result()

    async def unless_hurried(self, work: Coroutine[Any, Any, None], seconds: float, grace: float = 0.0) -> None:
        """Do ``work`` for at most ``seconds``; once hurried, for at most ``grace``."""
        loop = asyncio.get_running_loop()
        doing, hurried = loop.create_task(work), loop.create_task(self._hurried.wait())
        await asyncio.wait((doing, hurried), timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done() and grace and hurried.done():
            await asyncio.wait((doing,), timeout=grace)
        await end_tasks((doing, hurried))


async def shut_down(
    stop: Stop,
    seconds: float,
    consumers: Sequence[QueueConsumer],
    *,
    taking: Iterable[asyncio.Task[None]],
    alone: Iterable[Execution],
    callbacks: set[asyncio.Task[None]],
) -> None:
    """Promise 7, in the one order that loses nothing and spends nothing.

    No more is taken (``taking`` ends), then what never started goes back, so that others
    begin it at once: what is buffered, and the suspects that wait to run ``alone``. Only then
    are running handlers waited for, at most ``seconds``. What does not end is cancelled and given
    back. Acks and all other moves are flushed last, and the ``callbacks`` that follow them,
    while leases are still kept.
    """
    give_up_at = time.monotonic() + seconds
    taking = tuple(taking)
    for each in taking:
        each.cancel()
    # A pop that is cancelled may have to give back what it took, for which it has the time that handlers have.
    left = max(GRACE_SECONDS, give_up_at - time.monotonic())
    await stop.unless_hurried(_until_done(taking), left, grace=HURRIED_SECONDS)
    await end_tasks(taking, stop.grace)
    for consumer in consumers:
        consumer.give_back_buffer()
    for execution in alone:
        if not execution.started and not execution.settling:
            execution.consumer.give_back(execution)
    await stop.unless_hurried(_wait_for_handlers(consumers), give_up_at - time.monotonic())
    await _cancel_handlers(stop, consumers)
    left = max(GRACE_SECONDS, give_up_at - time.monotonic())
    await stop.unless_hurried(_flush(consumers, callbacks), left, grace=HURRIED_SECONDS)
    for consumer in consumers:
        for execution in consumer.settler.abandon():
            text = "%s %s: not settled at the end, and comes back by its lease"
            logger.error(text, execution.message.name, execution.message.id, extra=about(execution))
    await end_tasks(callbacks, stop.grace)


async def drain(consumers: Sequence[QueueConsumer]) -> None:
    """Give back what has not started, and wait for the handlers that run, but for those past their timeout."""
    for consumer in consumers:
        consumer.give_back_buffer()
    while tasks := [
        task for consumer in consumers for each in consumer.running if (task := each.task) and not each.timed_out
    ]:
        # Not for ever: one may go past its timeout.
        await asyncio.wait(tasks, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)


async def _wait_for_handlers(consumers: Sequence[QueueConsumer]) -> None:
    while tasks := _handlers(consumers):
        await asyncio.wait(tasks)


async def _cancel_handlers(stop: Stop, consumers: Sequence[QueueConsumer]) -> None:
    """Cancel what still runs and give it back; a thread cannot be cancelled, and is left behind."""
    for consumer in consumers:
        for execution in tuple(consumer.running):
            # One past its timeout too, though its message is settled: that it ends so is nobody's failure.
            if execution.plan is not None:
                execution.cancelled_for = execution.cancelled_for or "stop"
            if execution.task is not None:
                execution.task.cancel()
    if tasks := _handlers(consumers):
        await asyncio.wait(tasks, timeout=stop.grace)
    for consumer in consumers:
        for execution in tuple(consumer.running):
            # It suppresses its cancellation. Its message goes back all the same.
            if not execution.settling:
                consumer.give_back(execution)


async def _flush(consumers: Sequence[QueueConsumer], callbacks: set[asyncio.Task[None]]) -> None:
    for consumer in consumers:
        await consumer.drain()
    if callbacks:
        await asyncio.wait(callbacks)
    for consumer in consumers:
        await consumer.drain()


def _handlers(consumers: Sequence[QueueConsumer]) -> list[asyncio.Task[None]]:
    running = (each.task for consumer in consumers for each in consumer.running)
    return [task for task in running if task is not None and not task.done()]


async def _until_done(tasks: Collection[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
