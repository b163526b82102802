"""One queue in a worker: running its deliveries, and deciding what becomes of each.

Owns the way of a delivery from pop to the verb that settles it: ack, retry or fail. How
many are taken, and when, is decided for the whole group in ``intake.py``; how that verb reaches
the backend stands in ``settling.py``.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headrace.availability import Availability
from headrace.context import set_current
from headrace.delays import after_hop, is_hop, split
from headrace.driver import Delivery, Driver, Message, Note, RestingChannel
from headrace.errors import ConfigError, Drop, JobError, JobTimeout, Retry, UnknownJob, WorkerDied
from headrace.events import AfterHandle, BeforeHandle, FailedHandle, LeaseLost, RetryHandle, TimeoutHandle
from headrace.execution import Execution
from headrace.job import Job
from headrace.log_fields import about, telling_of
from headrace.notes import note_of
from headrace.plans import Plans
from headrace.prefetch import Prefetch
from headrace.queue import Queue
from headrace.retry import retry_delay
from headrace.settling import Move, Settler
from headrace.signing import UNKNOWN_HEADER
from headrace.suspects import NotInChild, SuspectError, run_in_child

if TYPE_CHECKING:
    from headrace.worker import Worker

logger = logging.getLogger("headrace")

#: Longest seconds between two tries at an unknown job: the new worker of a deploy finds it soon.
_UNKNOWN_LONGEST: Final = 60.0

#: Seconds that a handler which is cancelled for its timeout has for its cleaning up, before its message goes on
#: without it: as long as those that a stop cancels.
_CANCEL_SECONDS: Final = 5.0


class QueueConsumer:
    """Runs one queue's deliveries for a worker. Belongs to the worker's event loop."""

    def __init__(self, worker: "Worker", queue: Queue, plans: Plans, limit: int, availability: Availability) -> None:
        self.worker = worker
        self.queue = queue
        self.settings = queue.settings
        self.capabilities = queue.capabilities
        self.availability = availability
        self.limit = limit
        self.plans = plans
        self.driver: Driver
        name = self.settings.name
        self.pops = availability.caller(f"pop on {name}")
        self.waits = availability.caller(f"wait_ready on {name}")
        self.infos = availability.caller(f"info on {name}")
        self.held: set[Execution] = set()  #: popped and not settled: what the lease keeper extends
        self.buffer: deque[Execution] = deque()  #: popped and not started
        self.running: set[Execution] = set()
        self.ended = 0  #: handlers that have ended
        self.prefetch = Prefetch(self.capabilities.max_batch)
        self._events = worker.app.events
        self.clock = worker.app.handler_clock
        # Asked once: the answers stand in the way of every single message.
        self._hears_before = bool(self._events.hears(BeforeHandle))
        self._hears_after = bool(self._events.hears(AfterHandle))
        self._lease = self.settings.lease_seconds if self.capabilities.leases == "timed" else math.inf
        self.settler = Settler(self)

    @property
    def pop_timeout(self) -> float:
        """Seconds that one pop may wait."""
        return self.settings.pop_timeout or self.capabilities.pop_timeout

    @property
    def startable(self) -> int:
        """How many of the buffer this queue's own limit lets start now."""
        return min(len(self.buffer), self.limit - len(self.running))

    @property
    def indebted(self) -> bool:
        """Whether acks lag far behind: a debt to re-execute, to be paid before more is taken."""
        unsettled = len(self.held) - len(self.running) - len(self.buffer)
        return unsettled > 2 * self.capabilities.max_batch

    @property
    def idle(self) -> bool:
        """Whether nothing of this queue is in this worker's hands, but for handlers past their timeout."""
        late = all(each.timed_out for each in self.running)
        return late and not self.held and self.settler.idle

    # Taking deliveries

    async def pop(self, limit: int, wait: float) -> int:
        """Take at most ``limit`` deliveries into the buffer; how many came."""
        asked = time.monotonic()
        deliveries = await self.pops.ask(self.driver.pop(limit, wait), wait)
        now = time.monotonic()
        for delivery in deliveries:
            # Its lease began while we waited for the answer: reckon from the question.
            execution = Execution(self, delivery, now, asked)
            self.held.add(execution)
            if delivery.count > 1 or delivery.message.deaths or delivery.message.headers:
                self._accept_unusual(execution)
            else:
                self.buffer.append(execution)
        return len(deliveries)

    def _accept_unusual(self, execution: Execution) -> None:
        """A delivery that died before, or carries headers: perhaps not for running, or not here."""
        message, most = execution.message, self.settings.max_redeliveries
        if execution.delivery.count > 1 and (earlier := self._earlier(execution)) is not None:
            self._adopt(earlier, execution)
            if earlier.settling:
                self.settler.came_again(earlier)
        elif is_hop(message):
            self._return(execution, after_hop(message))
        elif execution.redeliveries > 2 * most:
            error = WorkerDied(f"its worker ended {execution.redeliveries} times while it was running or waiting to")
            self._fail(execution, error, "failed")
        elif execution.redeliveries >= most:
            execution.suspect = True
            if self.worker.app.config.in_code:
                self.worker.alone.add(execution)
            elif execution.redeliveries > most:
                # In its process it has not ended only that, or another suspect beside it has ended the worker.
                self.worker.alone.add(execution, in_child=True)
            else:
                self.buffer.append(execution)
        else:
            self.buffer.append(execution)

    def _earlier(self, execution: Execution) -> Execution | None:
        """The same message, if this worker still has it in hand: it lost lease or connection, and nobody died."""
        for each in self.held:
            if each is not execution and each.id == execution.id:
                return each
        return None

    def _adopt(self, earlier: Execution, execution: Execution) -> None:
        """Let a delivery go on by the receipt of a later one, instead of beside it. It counts as one."""
        self.held.discard(execution)
        count, message = earlier.delivery.count, earlier.delivery.message
        earlier.delivery = Delivery(message, execution.delivery.receipt, count)
        earlier.leased, earlier.lost = execution.leased, False

    def give_back(self, execution: Execution) -> None:
        """Put a delivery that did not run to its end back where it came from. Costs it nothing."""
        message = execution.message
        self._return(execution, message if not message.delay else msgspec.structs.replace(message, delay=0.0))

    def give_back_buffer(self, popped_before: float | None = None) -> int:
        """Give back what has not started, or only what came before a time; how many."""
        count = 0
        while self.buffer and (popped_before is None or self.buffer[0].popped < popped_before):
            self.give_back(self.buffer.popleft())
            count += 1
        return count

    def is_over(self, execution: Execution) -> bool:
        """Whether a delivery that has not started is no longer ours, as far as can be known here.

        So after this process stood still for longer than its leases: others may have run the message meanwhile.
        """
        return execution.lost or time.monotonic() - execution.leased >= self._lease

    # Running

    def start(self, execution: Execution) -> "asyncio.Task[None]":
        """Run a delivery in a task of its own, which bears its job's name."""
        self.running.add(execution)
        loop, name = self.worker.loop, execution.delivery.message.name
        run = self._run(execution)
        if loop.get_task_factory() is None:
            # What `create_task` comes to, without its way there: a fifth of what a task costs.
            task = asyncio.Task(run, loop=loop, name=name)
        else:
            task = loop.create_task(run, name=name)
        if not task.done():  # as it may be, with a task factory that starts tasks at once
            execution.task = task
        return task

    async def _run(self, execution: Execution) -> None:
        """A delivery from decoding to the verb that settles it. The hot path: kept to one coroutine."""
        error: BaseException | None = None
        try:
            job = self._prepare(execution)
            if job is None:
                return
            plan, terms = execution.plan, execution.terms
            assert plan is not None and terms is not None
            set_current(execution)
            if self._hears_before:
                self._events.emit(self._event(BeforeHandle, execution))
            execution.started = time.monotonic()
            isolated = execution.suspect and not execution.alone
            if execution.suspect:
                self._tell_suspect(execution)
            if terms.handle_timeout and not isolated:
                self._set_timer(execution, terms.handle_timeout)
            try:
                if isolated:
                    await run_in_child(self.worker.app.config, execution, self._child_started)
                elif plan.invoke is None:
                    await job.handle()  # type: ignore[misc]
                else:
                    await plan.invoke(execution, job)
            except BaseException as raised:
                # Whatever a handler raises ends its job and nothing else: SystemExit too.
                error = raised
            if execution.timer is not None:
                execution.timer.cancel()
                execution.timer = None
            if error is None and not execution.settling and execution.cancelled_for is None:
                self._done(execution)
            else:
                self._ended_otherwise(execution, error)
        except Exception as own:
            logger.exception("an error of headrace's own, which its message is to bear")
            if not execution.settling:
                self._fail(execution, own, "failed")
        finally:
            self.running.discard(execution)
            self.ended += 1
            # Each closes a circle, the task by way of its context: left to the garbage
            # collector, they were a third of what a message cost.
            execution.task = error = None
            self.worker.finished(self)

    def _tell_suspect(self, execution: Execution) -> None:
        how = "with nothing else in flight" if execution.alone else "in a process of its own"
        text = "%s %s on %s runs %s: %d of its deliveries ended with their worker"
        logger.warning(text, execution.message.name, execution.id, execution.queue, how, execution.redeliveries)

    def _set_timer(self, execution: Execution, seconds: float) -> None:
        execution.ends = self.clock.now() + seconds
        execution.timer = self.clock.call_later(seconds, self._deadline, execution)

    def _child_started(self, execution: Execution) -> None:
        """A suspect's handler starts now, its process being up: a timeout counts from here."""
        execution.started = time.monotonic()
        if execution.terms is not None and execution.terms.handle_timeout:
            self._set_timer(execution, execution.terms.handle_timeout)

    def _prepare(self, execution: Execution) -> Job | None:
        """Decode the job; where that cannot be, settle the message by promise 8."""
        message = execution.delivery.message
        try:
            if self.queue.signer is not None:
                self.queue.signer.verify(message)
            plan = execution.plan = self.plans.get(message.name)
            job = execution.running_job = plan.decode(message.body)
            execution.terms = plan.terms if not message.headers else plan.terms_of(message)
        except UnknownJob as error:
            self._unknown(execution, error)
        except (JobError, ConfigError) as error:
            self._fail(execution, error, "failed")
        else:
            return job
        return None

    def _done(self, execution: Execution, dropped: str | None = None) -> None:
        """The handler ended well, and in time."""
        execution.settling = True
        self.settler.acks.add(execution)
        if self._hears_after:
            seconds = time.monotonic() - execution.started
            self._events.emit(self._event(AfterHandle, execution, seconds=seconds, dropped=dropped))

    def _ended_otherwise(self, execution: Execution, error: BaseException | None) -> None:
        """The handler ended, but not simply well and in time."""
        seconds = time.monotonic() - execution.started
        if execution.settling:
            # Its message was moved while it ran: to `timeout`, or back when the worker stopped.
            # What the stop raised in one past its timeout is not told: it is no failure of the handler.
            ended_itself = execution.cancelled_for is None or error is None or isinstance(error, Drop)
            if execution.timed_out and ended_itself:
                self._ended_late(execution, error, seconds)
        elif execution.cancelled_for == "stop" and error is not None and not isinstance(error, Drop):
            # Whatever its cleaning up raised: it was the stop that ended it.
            self.give_back(execution)
        elif isinstance(error, asyncio.CancelledError) and not execution.cancelled_for and self.worker.is_ended:
            # With all tasks of the loop, whose program ends. If that was no way to end it, one of them has done it.
            self._return(execution, execution.message, died=not self.worker.may_be_cancelled)
        elif execution.cancelled_for == "timeout":
            limit = execution.terms.handle_timeout if execution.terms else 0.0
            late = JobTimeout(f"{execution.message.name} ran past its handle_timeout of {limit:g} s and was cancelled")
            late.__cause__ = error if not isinstance(error, asyncio.CancelledError) else None
            self._failed(execution, late, seconds)
        elif error is None:
            self._done(execution)
        elif isinstance(error, Drop):
            self._done(execution, error.reason)
        elif isinstance(error, NotInChild):
            logger.warning("%s %s cannot run in a process of its own: %s", execution.message.name, execution.id, error)
            self.worker.alone.add(execution)
        else:
            self._failed(execution, error, seconds)

    def _ended_late(self, execution: Execution, error: BaseException | None, seconds: float) -> None:
        if error is None or isinstance(error, Drop):
            reason = error.reason if isinstance(error, Drop) else None
            self._events.emit(self._event(AfterHandle, execution, seconds=seconds, late=True, dropped=reason))
        else:
            self._events.emit(self._event(FailedHandle, execution, error=error, seconds=seconds, late=True))

    def _deadline(self, execution: Execution) -> None:
        """The timer of a handler fired, and the handler has not ended."""
        now = self.clock.now()
        assert execution.ends is not None and execution.terms is not None
        if now < execution.ends:
            execution.timer = self.clock.call_later(execution.ends - now, self._deadline, execution)
        elif execution.settling or execution.cancelled_for is not None:
            pass
        elif execution.terms.on_timeout == "cancel":
            execution.cancelled_for = "timeout"
            assert execution.task is not None
            execution.task.cancel()
            execution.timer = self.clock.call_later(_CANCEL_SECONDS, self._cancelled_in_vain, execution)
        else:
            execution.timed_out = True
            limit = execution.terms.handle_timeout
            error = JobTimeout(f"{execution.message.name} still ran after its handle_timeout of {limit:g} s")
            self._fail(execution, error, "timeout")
            self.worker.overran()

    def _cancelled_in_vain(self, execution: Execution) -> None:
        """A handler past its timeout goes on though it was cancelled: its message does not wait for it."""
        if execution.settling or execution.cancelled_for != "timeout":
            return
        name, limit = execution.message.name, execution.terms.handle_timeout if execution.terms else 0.0
        text = "%s %s goes on though it was cancelled %g s ago; it holds its slot, and its message goes on without it"
        logger.error(text, name, execution.id, _CANCEL_SECONDS, extra=about(execution))
        execution.timed_out = True
        error = JobTimeout(f"{name} ran past its handle_timeout of {limit:g} s, and ignored that it was cancelled")
        self._failed(execution, error, time.monotonic() - execution.started)
        self.worker.overran()

    # Outcomes

    def _failed(self, execution: Execution, error: BaseException, seconds: float) -> None:
        """A run failed: again later, or to rest in ``failed``."""
        message, terms = execution.message, execution.terms
        assert terms is not None
        if isinstance(error, WorkerDied) or message.attempt >= terms.max_retries:
            self._fail(execution, error, "failed")
            return
        asked = error if isinstance(error, Retry) else None
        delay = (
            retry_delay(terms.retry_seconds, message.attempt) if asked is None or asked.delay is None else asked.delay
        )
        again = msgspec.structs.replace(
            message,
            attempt=message.attempt + 1,
            delay=max(0.0, delay),
            note=self._note(error) if asked is None else message.note,
            headers={key: value for key, value in message.headers.items() if key != UNKNOWN_HEADER},
        )

        def confirmed() -> None:
            if self._events.hears(RetryHandle):
                told = None if asked is not None else error
                self._tell(RetryHandle, execution, message=again, error=told, seconds=seconds)

        self._return(execution, again, confirmed)

    def _unknown(self, execution: Execution, error: UnknownJob) -> None:
        """Perhaps a newer worker knows it: hand it on for a while, and spend no attempt."""
        message, patience = execution.message, self.settings.unknown_job_seconds
        try:
            waited = float(message.headers.get(UNKNOWN_HEADER, "0"))
        except ValueError:
            waited = patience
        if not 0 <= waited < patience:  # below 0, or no number, is not what we have written
            self._fail(execution, error, "failed")
            return
        delay = min(max(1.0, waited), _UNKNOWN_LONGEST, patience - waited)
        headers = {**message.headers, UNKNOWN_HEADER: repr(waited + delay)}
        again = msgspec.structs.replace(message, delay=delay, headers=headers)

        def confirmed() -> None:
            if self._events.hears(RetryHandle):
                self._tell(RetryHandle, execution, message=again, error=error, seconds=0.0)

        self._return(execution, again, confirmed)

    def _fail(self, execution: Execution, error: BaseException, channel: RestingChannel) -> None:
        """Bring a message to rest, and tell of it once that is confirmed."""
        seconds = time.monotonic() - execution.started if execution.started else 0.0
        message = msgspec.structs.replace(
            execution.message, deaths=execution.redeliveries, delay=0.0, note=self._note(error)
        )

        def confirmed() -> None:
            if channel == "timeout":
                self._tell(TimeoutHandle, execution, message=message, seconds=seconds)
                return
            self._tell(FailedHandle, execution, message=message, error=error, seconds=seconds)
            if execution.running_job is not None and type(execution.running_job).failed is not Job.failed:
                self.worker.failed_calls.call(execution, error)

        execution.settling = True
        settler = self.settler
        (settler.timeouts if channel == "timeout" else settler.failures).add(Move(execution, message, confirmed))

    def _return(
        self,
        execution: Execution,
        message: Message,
        then: Callable[[], None] | None = None,
        *,
        died: bool = False,
    ) -> None:
        """Give a message back, now or later. Deliveries that died are folded into it, this one if it ``died``."""
        message = split(message, message.delay, self.capabilities.max_delay)
        deaths = execution.redeliveries + died
        if message.deaths != deaths:
            message = msgspec.structs.replace(message, deaths=deaths)
        execution.settling = True
        self.settler.retries.add(Move(execution, message, then))

    @staticmethod
    def _note(error: BaseException) -> Note:
        # Not by looking for the attribute: an exception may answer to any name.
        return error.headrace_note if isinstance(error, SuspectError) else note_of(error)

    def _event(self, kind: type[Any], execution: Execution, *, message: Message | None = None, **fields: Any) -> Any:
        return kind(
            queue=self.settings.name,
            worker=self.worker.name,
            message=message or execution.message,
            job=execution.running_job,
            **fields,
        )

    def _tell(self, kind: type[Any], execution: Execution, **fields: Any) -> None:
        """Emit an event of a delivery outside of its run. What listeners log of it says which it was."""
        with telling_of(execution):
            self._events.emit(self._event(kind, execution, **fields))

    # Settling

    async def drain(self) -> None:
        """Wait until everything that was to be settled is."""
        await self.settler.drain()

    def let_go(self, executions: Sequence[Execution]) -> None:
        """These are no longer in this worker's hands."""
        indebted = self.indebted
        self.held.difference_update(executions)
        if indebted and not self.indebted:
            self.worker.has_room()

    def lease_lost(self, execution: Execution) -> None:
        """A delivery proved to be no longer ours. Told once."""
        if not execution.lost:
            execution.lost = True
            self._tell(LeaseLost, execution)
