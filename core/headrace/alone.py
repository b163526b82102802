"""Suspects that run with nothing else in flight.

That is how a message which has ended its worker too often runs where no child process could
know its job: with a configuration in code, or a job declared there. And in a child process, if
its worker has ended all the same while it ran in one. Owns that nothing else is in flight
then; the child process stands in `headrace.suspects`.
"""

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from headrace.execution import Execution

if TYPE_CHECKING:
    from headrace.worker import Worker

logger = logging.getLogger("headrace")

#: Seconds between looks at whether a suspect has gone past its timeout.
_LOOK_SECONDS: Final = 1.0


class AloneRuns:
    """A worker's suspects that wait for their turn. Belongs to the worker's event loop."""

    def __init__(self, worker: "Worker") -> None:
        self.waiting: deque[Execution] = deque()  #: the first of them may be running
        self.task: asyncio.Task[None] | None = None
        self._worker = worker

    def add(self, execution: Execution, *, in_child: bool = False) -> None:
        """Have a suspect run once nothing else is in flight, in this process or in a child."""
        worker = self._worker
        if worker.stopping:
            execution.consumer.give_back(execution)
            return
        if execution.started:
            # A child did not know its job; that was no run, and is not counted as one.
            execution.started = 0.0
            worker.started -= 1
            worker.handled -= 1
        execution.alone = not in_child
        self.waiting.append(execution)
        worker.fill()

    def begin(self) -> None:
        """See to it that those who wait are run."""
        if self.task is None:
            self.task = self._worker.loop.create_task(self._run())

    async def _run(self) -> None:
        worker = self._worker
        while self.waiting and not worker.stopping:
            await worker.intake.nothing_under_way()
            # The other suspects go back as well: each may be innocent, and this one may not be.
            while len(self.waiting) > 1:
                self.waiting[-1].consumer.give_back(self.waiting.pop())
            for consumer in worker.consumers:
                consumer.give_back_buffer()
            running = [each for consumer in worker.consumers for each in consumer.running]
            if any(each.timed_out for each in running):
                # That one may never end. Another worker, without it, runs the suspect.
                break
            tasks = [each.task for each in running if each.task is not None]
            if tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                continue
            await self._settle_all()
            if worker.stopping:
                break
            execution = self.waiting[0]
            task = worker.start(execution)
            while not task.done() and not execution.timed_out:
                await asyncio.wait((task,), timeout=_LOOK_SECONDS)
            await self._settle_all()
            self.waiting.popleft()
            if not task.done():
                logger.error("a suspect goes on past its timeout, and might end others; this worker ends")
                worker.end_overrun()
        if self.waiting and not worker.stopping:
            logger.error("a handler past its timeout keeps suspects from running alone; this worker ends")
            worker.end_overrun()
        self.task = None
        worker.has_room()

    async def _settle_all(self) -> None:
        for consumer in self._worker.consumers:
            await consumer.drain()
