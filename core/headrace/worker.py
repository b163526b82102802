"""The consumer engine: one group of queues, served by one process or by your own loop.

Owns how a worker starts, its slots, and what runs beside the handlers. How many messages are
taken and when is decided in ``intake.py``, what becomes of each in ``consumer.py``, and how a
worker stops in ``stopping.py``.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace.alone import AloneRuns
from headrace.availability import Availability
from headrace.consumer import QueueConsumer
from headrace.ending import GRACE_SECONDS, end_tasks
from headrace.errors import BackendUnavailable, CapabilityError
from headrace.events import BackendBack, BackendLost, QueueLength, WorkerStarted, WorkerStopped
from headrace.execution import Execution
from headrace.failed_calls import FailedCalls
from headrace.intake import Intake
from headrace.job import declared_jobs
from headrace.leases import LeaseKeeper
from headrace.lifespan import lifespan_of
from headrace.plans import Plans, load_middleware
from headrace.queue import Queue
from headrace.stalls import LOOKS, Stalls
from headrace.stopping import Stop, drain, shut_down
from headrace.threads import Threads

if TYPE_CHECKING:
    from headrace.app import Headrace

logger = logging.getLogger("headrace")

#: Seconds after which what was prefetched and has not started is given back to others.
_SURPLUS_SECONDS: Final = 1.0
#: Longest seconds between signs of life to the lease keeper, and looks for surplus.
_TICK_SECONDS: Final = 1.0
#: Seconds for which a backend is called in vain by a worker that shall end with its queues: a
#: broker's restart or failover is over by then, and whoever waits for that end, cron say, is told.
_PATIENCE: Final = 60.0


class Worker:
    """Runs the jobs of one group of queues, in strict order, ``concurrency`` at once.

    Made by `Headrace.worker`. `run` is called once.
    """

    #: Whether its task is cancelled by those who may end it, and not only by what a handler has done to the program.
    may_be_cancelled = True

    def __init__(
        self, app: "Headrace", queues: Sequence[str], *, concurrency: int | None = None, max_messages: int | None = None
    ) -> None:
        _check_count("concurrency", concurrency, 1)
        _check_count("max_messages", max_messages, 0)
        self.app = app
        self.queues: list[Queue] = [app.queue(name) for name in dict.fromkeys(queues)]
        settings = [each.settings for each in self.queues]
        self.limit = concurrency or max(each.concurrent.limit for each in settings)
        self.max_messages = max(each.max_messages for each in settings) if max_messages is None else max_messages
        self.shutdown_timeout = max(each.shutdown_timeout for each in settings)
        self.name = f"{socket.gethostname()}:{os.getpid()}"  #: in events and logs
        self.handled = 0  #: handlers that have ended, and messages that could not be run
        self.overrun = False  #: it stopped because every slot was held by a handler past its timeout
        self.state: Any = None
        self.loop: asyncio.AbstractEventLoop
        self.running = 0  #: slots that are taken
        self.started = 0  #: deliveries that were given a slot
        self.beat = 0.0  #: when the loop last turned, on `time.monotonic`
        self.consumers: list[QueueConsumer] = []
        self.alone = AloneRuns(self)
        self.intake: Intake
        self.failed_calls: FailedCalls
        self._stalls: Stalls
        self._concurrency = concurrency
        self._told_last = False
        self._filling = False
        self._task: asyncio.Task[Any] | None = None  #: that of `run`
        self._stop = Stop()
        self._drain_asked = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether it has begun to stop."""
        return self._stop.begun

    @property
    def all_started(self) -> bool:
        """Whether the last of ``max_messages`` has been given its slot."""
        return 0 < self.max_messages <= self.started

    @property
    def is_ended(self) -> bool:
        """Whether it was told to end: to stop, or by its task being cancelled, of which it may not have heard yet."""
        return self._stop.begun or (self._task is not None and self._task.cancelling() > 0)

    def stop(self) -> None:
        """Stop gracefully; called a second time, at once. Call it on the worker's loop: from a signal handler, say."""
        self._stop.ask()

    def drain(self) -> None:
        """Take no more, and end when the handlers that run have, however long that takes. For the worker's loop."""
        self._drain_asked.set()

    async def until_wanted(self) -> None:
        """Awaited when all is open and checked, before the first message; a subclass may wait for its turn."""

    def show_sign(self, silent: float, problem: str) -> None:
        """Called every few seconds, by another thread: a subclass may tell of it.

        ``silent``: seconds since the event loop last turned; ``problem``: what is wrong if this worker is
        stalled, else nothing.
        """

    def started_last(self) -> None:
        """Called when the last of ``max_messages`` has been given its slot; a subclass may tell of it."""

    async def run(self, *, until_empty: bool = False) -> int:
        """Work until `stop`, or ``max_messages``; how many messages were handled.

        ``until_empty``: also ends once nothing is waiting, delayed or reserved on any of the queues.
        Cancelled, it stops gracefully too. Raises `ConfigError` or `JobError` before the
        first message if the declared jobs cannot be run as configured, or as long as configured
        on the backend that was found; `CapabilityError` for a declared job that needs what its
        queue's backend does not offer, and for ``until_empty`` on a backend that cannot tell when
        it is; and `BackendError` if the backend refuses to be opened. One that is out of reach is
        waited for, with ``until_empty`` for a minute; then it has stopped, and raises
        `BackendUnavailable`, or the `BackendError` of one that refuses.
        """
        self.loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self.beat = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.app)
            self.app.load_jobs()
            if not declared_jobs():
                logger.warning("no job is declared here, so that none can be run: name its module among the imports")
            threads = Threads(self.limit, "headrace-job")
            stack.callback(threads.close)
            failed_threads = Threads(self.limit, "headrace-failed")
            stack.callback(failed_threads.close)
            self.failed_calls = FailedCalls(failed_threads)
            self.consumers = self._make_consumers(threads)
            self.intake = Intake(self, self.consumers, until_empty=until_empty)
            self._stalls = Stalls(self, self.consumers)
            if until_empty:
                self._refuse_unknown_counts()
            if not await self._open(until_empty):
                return 0
            for consumer in self.consumers:
                consumer.plans.hold_to(consumer.queue.capabilities)
                consumer.plans.check()
            self.state = await stack.enter_async_context(lifespan_of(self.app))
            await self.until_wanted()
            self.beat = time.monotonic()
            keeper = LeaseKeeper(self.app, self.consumers, self._stalls, _tell_lease_lost, self._stop.begin)
            keeper.start()
            stack.push_async_callback(keeper.stop)
            self._emit(WorkerStarted(queue=None, worker=self.name))
            try:
                await self._serve(until_empty)
            finally:
                self._emit(WorkerStopped(queue=None, worker=self.name, handled=self.handled))
                await self.app.events.drain(GRACE_SECONDS)
        return self.handled

    async def _serve(self, until_empty: bool) -> None:
        """Work until there is a reason to stop, and stop. Raises what broke the engine itself, if that was it."""
        works = [self.loop.create_task(each) for each in (self.intake.run(), self._tick(until_empty))]
        fetching, ticking = works
        lengths = self.loop.create_task(self._tell_lengths())
        watching = self.loop.create_task(self._stalls.watch_taking(fetching))
        stopping = self.loop.create_task(self._stop.wait())
        draining = self.loop.create_task(self._drain_when_asked(fetching))
        helpers = (*works, lengths, watching, stopping, draining)
        try:
            await asyncio.wait((fetching, ticking, stopping), return_when=asyncio.FIRST_COMPLETED)
            if self._drain_asked.is_set():
                await asyncio.wait((draining, ticking, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stop.begin()
            await self._stop.to_the_end(self._shut_down(fetching, helpers))
        for work in works:
            if work.done() and not work.cancelled():
                work.result()

    async def _drain_when_asked(self, fetching: "asyncio.Task[None]") -> None:
        """Wait to be asked, then take no more and let what runs come to its end."""
        await self._drain_asked.wait()
        await end_tasks((fetching,))
        await drain(self.consumers)

    # Starting

    def _refuse_unknown_counts(self) -> None:
        for queue in self.queues:
            if queue.capabilities.counts == "unknown":
                hint = "it cannot tell when a queue is empty, so run without until_empty"
                raise CapabilityError(queue.settings.backend, "counts", hint)

    def _make_consumers(self, threads: Threads) -> list[QueueConsumer]:
        middleware = load_middleware(self.app.config.middleware)
        availabilities: dict[str, Availability] = {}
        consumers = []
        for queue in self.queues:
            self.app.backend(queue.settings.backend)  # all of them first: their plugins bring listeners
        for queue in self.queues:
            settings = queue.settings
            plans = Plans(self.app, settings, middleware, threads)
            plans.hold_to(queue.capabilities)
            plans.check()
            limit = self._concurrency or settings.concurrent.limit
            availability = availabilities.get(settings.backend)
            if availability is None:
                availability = availabilities[settings.backend] = self._make_availability(settings.name)
            consumers.append(QueueConsumer(self, queue, plans, limit, availability))
        return consumers

    def _make_availability(self, queue: str) -> Availability:
        return Availability(
            on_lost=lambda error: self._emit(BackendLost(queue=queue, worker=self.name, error=error)),
            on_back=lambda seconds: self._emit(BackendBack(queue=queue, worker=self.name, seconds=seconds)),
        )

    async def _open(self, until_empty: bool) -> bool:
        """Open what the queues need, trying as long as it may help; false if stopped before that."""
        for consumer in self.consumers:
            caller = consumer.pops
            while True:
                try:
                    consumer.driver = await caller.ask(consumer.queue.driver(), again=False)
                    break
                except BackendUnavailable:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(max(0.0, caller.retry_at - time.monotonic())):
                            await self._stop.wait()
                if self._stop.begun:
                    return False
                if until_empty:
                    self._refuse_to_wait_longer()
        return True

    # Running

    def fill(self) -> None:
        """Start what is at hand in the slots that are free, the first queue's first."""
        if self.alone.waiting:
            self.alone.begin()
            return
        if self._stop.begun or self._drain_asked.is_set() or self._filling:
            return
        # With a task factory that starts tasks at once, a handler may have ended, and a slot be free, before it is
        # started: that calls this, which would call itself for each job at hand.
        self._filling = True
        try:
            for consumer in self.consumers:
                buffer = consumer.buffer
                while buffer and self.running < self.limit and len(consumer.running) < consumer.limit:
                    execution = buffer.popleft()
                    if consumer.is_over(execution):
                        consumer.give_back(execution)
                        continue
                    self.running += 1
                    self.started += 1
                    consumer.start(execution)
        finally:
            self._filling = False
        if self.max_messages and not self._told_last and self.all_started:
            self._told_last = True
            self.started_last()

    def start(self, execution: Execution) -> "asyncio.Task[None]":
        """Run a delivery at once, in a slot that is known to be free."""
        self.running += 1
        self.started += 1
        return execution.consumer.start(execution)

    def finished(self, consumer: QueueConsumer) -> None:
        """A slot came free."""
        self.running -= 1
        self.handled += 1
        self.fill()
        if self.running < self.limit or len(consumer.buffer) <= consumer.prefetch.low:
            self.intake.has_room()

    def has_room(self) -> None:
        """What kept a queue from asking for more is over."""
        self.intake.has_room()

    def could_start(self, consumer: QueueConsumer) -> bool:
        """Whether there is a slot for a job of that queue, and nothing that ends this worker is under way."""
        if self._stop.begun or self._drain_asked.is_set() or self.overrun or self.all_started:
            return False
        return self.running < self.limit and len(consumer.running) < consumer.limit

    def overran(self) -> None:
        """A handler went past its timeout and goes on; if all of a queue's have, this worker serves it no more."""
        for consumer in self.consumers:
            late = sum(each.timed_out for each in consumer.running)
            if late >= min(self.limit, consumer.limit):
                name = consumer.settings.name
                logger.error("all %d slots of %s are held by handlers past their timeout; this worker ends", late, name)
                self.end_overrun()
        self.intake.has_room()

    def end_overrun(self) -> None:
        """Stop, since handlers past their timeout leave too little room to go on."""
        self.overrun = True
        self._stop.begin()

    # Beside

    async def _tick(self, until_empty: bool) -> None:
        """Show the lease keeper that the loop turns, and give back what has waited here too long.

        Raises `BackendError` when a backend is given up: ``until_empty``, and with no handler running.
        """
        period = min(_TICK_SECONDS, self._stalls.limit / LOOKS)
        while True:
            self.beat = time.monotonic()
            for consumer in self.consumers:
                if consumer.give_back_buffer(self.beat - _SURPLUS_SECONDS):
                    consumer.prefetch.forget()
            if until_empty and not self.running:
                self._refuse_to_wait_longer()
            await asyncio.sleep(period)

    def _refuse_to_wait_longer(self) -> None:
        """Raise `BackendError` if a queue's backend has been called in vain for all of `_PATIENCE`."""
        for consumer in self.consumers:
            place = f"the backend {consumer.settings.backend!r} at {consumer.queue.place}"
            consumer.availability.refuse_after(_PATIENCE, place)

    async def _tell_lengths(self) -> None:
        async def tell(consumer: QueueConsumer) -> None:
            while True:
                await asyncio.sleep(consumer.settings.queue_length_seconds)
                if self.app.events.hears(QueueLength):
                    info, _ = await consumer.infos.insist(consumer.driver.info)
                    self._emit(QueueLength(queue=consumer.settings.name, worker=self.name, info=info))

        tellers = [self.loop.create_task(tell(each)) for each in self.consumers if each.settings.queue_length_seconds]
        try:
            await asyncio.gather(*tellers)
        finally:
            await end_tasks(tellers)

    def _emit(self, event: Any) -> None:
        self.app.events.emit(event)

    async def _shut_down(self, fetching: asyncio.Task[None], helpers: Iterable[asyncio.Task[Any]]) -> None:
        taking = (fetching, self.alone.task) if self.alone.task else (fetching,)
        try:
            await shut_down(
                self._stop,
                self.shutdown_timeout,
                self.consumers,
                taking=taking,
                alone=self.alone.waiting,
                callbacks=self.failed_calls.tasks,
            )
        finally:
            await end_tasks(helpers)


def _tell_lease_lost(execution: Execution) -> None:
    if execution in execution.consumer.held and not execution.settling:
        execution.consumer.lease_lost(execution)


def _check_count(name: str, value: int | None, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}; it must be a whole number, {least} or more")
    if value < least:
        raise ValueError(f"{name} is {value}; it must be {least} or more")
