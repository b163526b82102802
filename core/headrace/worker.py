"""The consumer engine: one group of queues, served by one process or by your own loop.

Owns how many deliveries are taken and when, the order among the group's queues, and how a
worker starts. What becomes of each delivery is decided in ``consumer.py``, and how a worker
stops in ``stopping.py``.
"""

import asyncio
import contextlib
import contextvars
import inspect
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from headrace.availability import Availability
from headrace.consumer import QueueConsumer
from headrace.context import set_current
from headrace.errors import BackendUnavailable, CapabilityError, JobError
from headrace.events import BackendBack, BackendLost, QueueLength, WorkerStarted, WorkerStopped
from headrace.execution import Execution
from headrace.job import Job
from headrace.leases import LeaseKeeper
from headrace.lifespan import lifespan_of
from headrace.plans import Plans, load_middleware
from headrace.queue import Queue
from headrace.stopping import GRACE_SECONDS, Stop, drain, end_tasks, shut_down

if TYPE_CHECKING:
    from headrace.app import Headrace

logger = logging.getLogger("headrace")

#: Seconds after which what was prefetched and has not started is given back to others.
_SURPLUS_SECONDS: Final = 1.0
#: Seconds between signs of life to the lease keeper, and looks for surplus.
_TICK_SECONDS: Final = 1.0
#: Seconds between looks where a backend cannot wait without reserving.
_POLL_SECONDS: Final = 1.0
#: Seconds of waiting in a pop when the worker shall end with its queues: while handlers run,
#: and once the queues are known to hold something that is not due or not ours.
_ENDING_WAIT: Final = 0.02
_LINGERING_WAIT: Final = 0.25
#: Looks in a row that must find a queue empty where a backend only estimates its counts.
_EMPTY_LOOKS: Final = 3
#: Seconds for which a backend is called in vain by a worker that shall end with its queues: a
#: broker's restart or failover is over by then, and whoever waits for that end, cron say, is told.
_PATIENCE: Final = 60.0


class Worker:
    """Runs the jobs of one group of queues, in strict order, ``concurrency`` at once.

    Made by `Headrace.worker`. `run` is called once.
    """

    def __init__(
        self, app: "Headrace", queues: Sequence[str], *, concurrency: int | None = None, max_messages: int | None = None
    ) -> None:
        if concurrency is not None and concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; it must be 1 or more")
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
        self._failed_threads: ThreadPoolExecutor
        self._concurrency = concurrency
        self._consumers: list[QueueConsumer] = []
        self._alone: deque[Execution] = deque()
        self._alone_task: asyncio.Task[None] | None = None
        self._callbacks: set[asyncio.Task[None]] = set()
        self._running = 0
        self._started = 0
        self._beat = 0.0
        self._room = asyncio.Event()
        self._popped = asyncio.Event()  #: no pop is in flight
        self._popped.set()
        self._lingering = False  #: the queues hold only what is not due, or not ours
        self._empty_looks = 0
        self._stop = Stop()
        self._drain_asked = asyncio.Event()

    def stop(self) -> None:
        """Stop gracefully; called a second time, at once. Call it on the worker's loop: from a signal handler, say."""
        self._stop.ask()

    def drain(self) -> None:
        """Take no more, and end when the handlers that run have, however long that takes. For the worker's loop."""
        self._drain_asked.set()

    async def until_wanted(self) -> None:
        """Awaited when all is open and checked, before the first message; a subclass may wait for its turn."""

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
        self.loop = asyncio.get_running_loop()
        self._beat = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.app)
            self.app.load_jobs()
            threads = ThreadPoolExecutor(self.limit, thread_name_prefix="headrace-job")
            stack.callback(threads.shutdown, wait=False, cancel_futures=True)
            self._failed_threads = ThreadPoolExecutor(self.limit, thread_name_prefix="headrace-failed")
            stack.callback(self._failed_threads.shutdown, wait=False, cancel_futures=True)
            self._consumers = self._make_consumers(threads)
            if until_empty:
                self._refuse_unknown_counts()
            if not await self._open(until_empty):
                return 0
            for consumer in self._consumers:
                consumer.plans.hold_to(consumer.queue.capabilities)
                consumer.plans.check()
            self.state = await stack.enter_async_context(lifespan_of(self.app))
            await self.until_wanted()
            keeper = self._make_keeper()
            if keeper is not None:
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
        works = [self.loop.create_task(each) for each in (self._fetch(until_empty), self._tick(until_empty))]
        fetching, ticking = works
        lengths = self.loop.create_task(self._tell_lengths())
        stopping = self.loop.create_task(self._stop.wait())
        draining = self.loop.create_task(self._drain_when_asked(fetching))
        helpers = (*works, lengths, stopping, draining)
        try:
            await asyncio.wait((fetching, ticking, stopping), return_when=asyncio.FIRST_COMPLETED)
            if self._drain_asked.is_set():
                await asyncio.wait((draining, ticking, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stop.begin()
            await self._stop.to_the_end(self._shut_down(fetching, helpers))
        for work in works:
            if not work.cancelled():
                work.result()

    async def _drain_when_asked(self, fetching: "asyncio.Task[None]") -> None:
        """Wait to be asked, then take no more and let what runs come to its end."""
        await self._drain_asked.wait()
        await end_tasks((fetching,))
        await drain(self._consumers)

    # Starting

    def _refuse_unknown_counts(self) -> None:
        for queue in self.queues:
            if queue.capabilities.counts == "unknown":
                hint = "it cannot tell when a queue is empty, so run without until_empty"
                raise CapabilityError(queue.settings.backend, "counts", hint)

    def _make_consumers(self, threads: ThreadPoolExecutor) -> list[QueueConsumer]:
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
        for consumer in self._consumers:
            caller = consumer.pops
            while True:
                try:
                    consumer.driver = await caller.ask(consumer.queue.driver(), again=False)
                    break
                except BackendUnavailable:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stop.wait(), max(0.0, caller.retry_at - time.monotonic()))
                if self._stop.begun:
                    return False
                if until_empty:
                    self._refuse_to_wait_longer()
        return True

    def _make_keeper(self) -> LeaseKeeper | None:
        timed = [each for each in self._consumers if each.capabilities.leases == "timed"]
        if not timed:
            return None
        backends = {each.settings.backend: self.app.backend(each.settings.backend) for each in timed}
        return LeaseKeeper(timed, backends, lambda: self._beat, _tell_lease_lost)

    # Taking

    async def _fetch(self, until_empty: bool) -> None:
        """Keep the slots full, and no more at hand than will start soon. Ends when nothing is left to do."""
        while not self._spent():
            self._room.clear()
            came = 0
            asked: list[QueueConsumer] = []
            resting: list[QueueConsumer] = []
            for consumer in self._consumers:
                demand = self._demand(consumer)
                if not demand:
                    continue
                if not consumer.pops.ready:
                    resting.append(consumer)
                    continue
                asked.append(consumer)
                self._popped.clear()
                try:
                    came += await consumer.pop(demand, self._wait(until_empty))
                except Exception as error:
                    logger.debug("pop on %s: %s", consumer.settings.name, error)
                finally:
                    self._popped.set()
                self.fill()
            if came:
                self._lingering, self._empty_looks = False, 0
            elif until_empty and asked and await self._nothing_left():
                return
            elif not asked or len(self._consumers) > 1:
                await self._until_worthwhile(asked, resting, until_empty)

    def _wait(self, until_empty: bool) -> float:
        """How long a pop may wait: not at all where other queues want a look."""
        if len(self._consumers) > 1:
            return 0.0
        pop_timeout = self._consumers[0].pop_timeout
        return min(pop_timeout, self._ending_wait()) if until_empty else pop_timeout

    def _ending_wait(self) -> float:
        return _LINGERING_WAIT if self._lingering and not self._running else _ENDING_WAIT

    def _demand(self, consumer: QueueConsumer) -> int:
        """How many deliveries of one queue to ask for; 0 if there is no need yet."""
        if self._alone or self._stop.begun or self.overrun or consumer.indebted:
            return 0
        consumer.prefetch.measure(time.monotonic(), consumer.ended)
        # What lies in a queue's buffer beyond its own limit takes no slot from the others.
        taken = self._running + sum(each.startable for each in self._consumers)
        slots = consumer.limit - len(consumer.running)
        demand = consumer.prefetch.demand(min(self.limit - taken + consumer.startable, slots) - len(consumer.buffer))
        if self.max_messages:
            buffered = sum(len(each.buffer) for each in self._consumers)
            demand = max(0, min(demand, self.max_messages - self._started - buffered))
        return demand

    def _spent(self) -> bool:
        """Whether ``max_messages`` have been handled, or are past their timeout; or no slot will come free."""
        if self.overrun:
            return True
        if not self.max_messages or self._started < self.max_messages:
            return False
        return all(each.timed_out for consumer in self._consumers for each in consumer.running)

    async def _until_worthwhile(
        self, asked: Sequence[QueueConsumer], resting: Sequence[QueueConsumer], until_empty: bool
    ) -> None:
        """Wait until a queue that was found empty has something, a slot comes free, or a backend may be tried again.

        ``resting`` are those that were left alone since it was too early to try them again. By
        now it may not be, so that they are not asked a second time: nobody would wait for them.
        Reserves nothing, so that the queues keep their order.
        """
        wait = self._ending_wait() if until_empty else min(each.pop_timeout for each in self._consumers)
        now = time.monotonic()
        pauses = [each.pops.retry_at - now for each in resting]
        waits: list[asyncio.Task[Any]] = [self.loop.create_task(self._room.wait())]
        for consumer in asked:
            if not consumer.pops.ready:
                pauses.append(consumer.pops.retry_at - now)
            elif consumer.capabilities.wait_ready:
                waits.append(self.loop.create_task(consumer.waits.ask(consumer.driver.wait_ready(wait), wait)))
            else:
                pauses.append(min(wait, _POLL_SECONDS))
        timeout = max(0.0, min(pauses)) if pauses else None
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(waits)

    async def _nothing_left(self) -> bool:
        """Whether the queues are empty but for what rests in ``failed`` and ``timeout``."""
        if self._callbacks or any(not each.idle for each in self._consumers):
            return False
        for consumer in self._consumers:
            try:
                info = await consumer.infos.ask(consumer.driver.info())
            except Exception:
                return False
            if info.waiting or info.delayed or info.reserved:
                self._lingering, self._empty_looks = True, 0
                return False
        self._lingering = True
        self._empty_looks += 1
        return self._empty_looks >= _EMPTY_LOOKS or all(each.capabilities.counts == "exact" for each in self._consumers)

    # Running

    def fill(self) -> None:
        """Start what is at hand in the slots that are free, the first queue's first."""
        if self._alone:
            if self._alone_task is None:
                self._alone_task = self.loop.create_task(self._run_alone())
            return
        if self._stop.begun or self._drain_asked.is_set():
            return
        for consumer in self._consumers:
            buffer = consumer.buffer
            while buffer and self._running < self.limit and len(consumer.running) < consumer.limit:
                self._running += 1
                self._started += 1
                consumer.start(buffer.popleft())

    def finished(self, consumer: QueueConsumer) -> None:
        """A slot came free."""
        self._running -= 1
        self.handled += 1
        self.fill()
        if self._running < self.limit or len(consumer.buffer) <= consumer.prefetch.low:
            self._room.set()

    def has_room(self) -> None:
        """What kept a queue from asking for more is over."""
        self._room.set()

    def overran(self) -> None:
        """A handler went past its timeout and goes on; if all of a queue's have, this worker serves it no more."""
        for consumer in self._consumers:
            late = sum(each.timed_out for each in consumer.running)
            if late >= min(self.limit, consumer.limit):
                name = consumer.settings.name
                logger.error("all %d slots of %s are held by handlers past their timeout; this worker ends", late, name)
                self.overrun = True
                self._stop.begin()
        self._room.set()

    def run_alone(self, execution: Execution) -> None:
        """Run a suspect in this process once nothing else is in flight."""
        if self._stop.begun:
            execution.consumer.give_back(execution)
            return
        if execution.started:
            # A child did not know its job; that was no run, and is not counted as one.
            execution.started = 0.0
            self._started -= 1
            self.handled -= 1
        execution.alone = True
        self._alone.append(execution)
        self.fill()

    async def _run_alone(self) -> None:
        while self._alone and not self._stop.begun:
            await self._popped.wait()
            # The other suspects go back as well: each may be innocent, and this one may not be.
            while len(self._alone) > 1:
                self._alone[-1].consumer.give_back(self._alone.pop())
            for consumer in self._consumers:
                consumer.give_back_buffer()
            running = [each for consumer in self._consumers for each in consumer.running]
            if any(each.timed_out for each in running):
                # That one may never end. Another worker, without it, runs the suspect.
                break
            tasks = [each.task for each in running if each.task is not None]
            if tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                continue
            await self._drain()
            if self._stop.begun:
                break
            execution = self._alone[0]
            self._running += 1
            self._started += 1
            await asyncio.wait((execution.consumer.start(execution),))
            await self._drain()
            self._alone.popleft()
        if self._alone and not self._stop.begun:
            logger.error("a handler past its timeout keeps suspects from running alone; this worker ends")
            self.overrun = True
            self._stop.begin()
        self._alone_task = None
        self._room.set()

    async def _drain(self) -> None:
        for consumer in self._consumers:
            await consumer.drain()

    def call_failed(self, execution: Execution, error: BaseException) -> None:
        """Call ``failed`` of a delivery's job, as part of its run; what it raises is logged."""
        context = contextvars.Context()
        context.run(set_current, execution)
        task = self.loop.create_task(self._call_failed(execution.job, error), context=context)
        self._callbacks.add(task)
        task.add_done_callback(self._callbacks.discard)

    async def _call_failed(self, job: Job, error: BaseException) -> None:
        if not isinstance(error, Exception):
            shown, error = error, JobError(f"the handler raised {error!r}")
            error.__cause__ = shown
        try:
            if inspect.iscoroutinefunction(job.failed):
                await job.failed(error)
            else:
                # Not in the loop's own threads, which handlers may have filled, nor in the handlers'.
                context = contextvars.copy_context()
                await self.loop.run_in_executor(self._failed_threads, lambda: context.run(job.failed, error))
        except asyncio.CancelledError:
            raise
        except BaseException:
            logger.exception("failed() of %s raised; its message rests in 'failed'", job.job_options.name)

    # Beside

    async def _tick(self, until_empty: bool) -> None:
        """Show the lease keeper that the loop turns, and give back what has waited here too long.

        Raises `BackendError` when a backend is given up: ``until_empty``, and with no handler running.
        """
        while True:
            self._beat = time.monotonic()
            for consumer in self._consumers:
                if consumer.give_back_buffer(self._beat - _SURPLUS_SECONDS):
                    consumer.prefetch.forget()
            if until_empty and not self._running:
                self._refuse_to_wait_longer()
            await asyncio.sleep(_TICK_SECONDS)

    def _refuse_to_wait_longer(self) -> None:
        """Raise `BackendError` if a queue's backend has been called in vain for all of `_PATIENCE`."""
        for consumer in self._consumers:
            place = f"the backend {consumer.settings.backend!r} at {consumer.queue.place}"
            consumer.availability.refuse_after(_PATIENCE, place)

    async def _tell_lengths(self) -> None:
        async def tell(consumer: QueueConsumer) -> None:
            while True:
                await asyncio.sleep(consumer.settings.queue_length_seconds)
                if self.app.events.hears(QueueLength):
                    info, _ = await consumer.infos.insist(consumer.driver.info)
                    self._emit(QueueLength(queue=consumer.settings.name, worker=self.name, info=info))

        tellers = [self.loop.create_task(tell(each)) for each in self._consumers if each.settings.queue_length_seconds]
        try:
            await asyncio.gather(*tellers)
        finally:
            await end_tasks(tellers)

    def _emit(self, event: Any) -> None:
        self.app.events.emit(event)

    async def _shut_down(self, fetching: asyncio.Task[None], helpers: Iterable[asyncio.Task[Any]]) -> None:
        taking = (fetching, self._alone_task) if self._alone_task else (fetching,)
        try:
            await shut_down(
                self._stop,
                self.shutdown_timeout,
                self._consumers,
                taking=taking,
                alone=self._alone,
                callbacks=self._callbacks,
            )
        finally:
            await end_tasks(helpers)


def _tell_lease_lost(execution: Execution) -> None:
    if execution in execution.consumer.held and not execution.settling:
        execution.consumer.lease_lost(execution)
