"""Taking messages: how many, of which of a group's queues, and when.

Owns the loop that asks the queues in strict order and keeps the slots full without hoarding.
Where what came is started is `headrace.worker`'s business, what becomes of it `headrace.consumer`'s.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace.consumer import QueueConsumer
from headrace.ending import end_tasks

if TYPE_CHECKING:
    from headrace.worker import Worker

logger = logging.getLogger("headrace")

#: Seconds between looks where a backend cannot wait without reserving, or refuses to.
_POLL_SECONDS: Final = 1.0
#: Seconds of waiting in a pop when the worker shall end with its queues: while handlers run,
#: and once the queues are known to hold something that is not due or not ours.
_ENDING_WAIT: Final = 0.02
_LINGERING_WAIT: Final = 0.25
#: Looks in a row that must find a queue empty where a backend only estimates its counts.
_EMPTY_LOOKS: Final = 3


class Intake:
    """Takes messages for a worker. Belongs to the worker's event loop."""

    def __init__(self, worker: "Worker", consumers: Sequence[QueueConsumer], *, until_empty: bool) -> None:
        self.taken = 0  #: deliveries so far
        self._worker = worker
        self._consumers = consumers
        self._until_empty = until_empty
        self._room = asyncio.Event()
        self._popped = asyncio.Event()  #: no pop is in flight
        self._popped.set()
        self._lingering = False  #: the queues hold only what is not due, or not ours
        self._empty_looks = 0

    def has_room(self) -> None:
        """What kept a queue from being asked for more is over."""
        self._room.set()

    async def nothing_under_way(self) -> None:
        """Wait until no pop is in flight."""
        await self._popped.wait()

    async def run(self) -> None:
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
                    came += await consumer.pop(demand, self._wait())
                except Exception as error:
                    logger.debug("pop on %s: %s", consumer.settings.name, error)
                finally:
                    self._popped.set()
                self._worker.fill()
            if came:
                self.taken += came
                self._lingering, self._empty_looks = False, 0
            elif self._until_empty and asked and await self._nothing_left():
                return
            elif not asked or len(self._consumers) > 1:
                await self._until_worthwhile(asked, resting)

    def _wait(self) -> float:
        """How long a pop may wait: not at all where other queues want a look."""
        if len(self._consumers) > 1:
            return 0.0
        pop_timeout = self._consumers[0].pop_timeout
        return min(pop_timeout, self._ending_wait()) if self._until_empty else pop_timeout

    def _ending_wait(self) -> float:
        return _LINGERING_WAIT if self._lingering and not self._worker.running else _ENDING_WAIT

    def _demand(self, consumer: QueueConsumer) -> int:
        """How many deliveries of one queue to ask for; 0 if there is no need yet."""
        worker = self._worker
        if worker.alone.waiting or worker.stopping or worker.overrun or consumer.indebted:
            return 0
        consumer.prefetch.measure(time.monotonic(), consumer.ended)
        # What lies in a queue's buffer beyond its own limit takes no slot from the others.
        taken = worker.running + sum(each.startable for each in self._consumers)
        slots = consumer.limit - len(consumer.running)
        demand = consumer.prefetch.demand(min(worker.limit - taken + consumer.startable, slots) - len(consumer.buffer))
        if worker.max_messages:
            buffered = sum(len(each.buffer) for each in self._consumers)
            demand = max(0, min(demand, worker.max_messages - worker.started - buffered))
        return demand

    def _spent(self) -> bool:
        """Whether ``max_messages`` have been handled, or are past their timeout; or no slot will come free."""
        if self._worker.overrun:
            return True
        if not self._worker.all_started:
            return False
        return all(each.timed_out for consumer in self._consumers for each in consumer.running)

    async def _until_worthwhile(self, asked: Sequence[QueueConsumer], resting: Sequence[QueueConsumer]) -> None:
        """Wait until a queue that was found empty has something, a slot comes free, or a backend may be tried again.

        ``resting`` are those that were left alone since it was too early to try them again. By
        now it may not be, so that they are not asked a second time: nobody would wait for them.
        Reserves nothing, so that the queues keep their order.
        """
        wait = self._ending_wait() if self._until_empty else min(each.pop_timeout for each in self._consumers)
        now = time.monotonic()
        pauses = [each.pops.retry_at - now for each in resting]
        loop = self._worker.loop
        waits: list[asyncio.Task[Any]] = [loop.create_task(self._room.wait())]
        for consumer in asked:
            if not consumer.pops.ready:
                pauses.append(consumer.pops.retry_at - now)
            elif consumer.capabilities.wait_ready and consumer.waits.ready:
                waits.append(loop.create_task(consumer.waits.ask(consumer.driver.wait_ready(wait), wait)))
            else:
                pauses.append(min(wait, _POLL_SECONDS))
        timeout = max(0.0, min(pauses)) if pauses else None
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(waits)

    async def _nothing_left(self) -> bool:
        """Whether the queues are empty but for what rests in ``failed`` and ``timeout``."""
        if self._worker.failed_calls.tasks or any(not each.idle for each in self._consumers):
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
