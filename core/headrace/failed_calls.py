"""Calling ``failed()`` of jobs whose retries are used up.

Owns where that runs, and that what it raises changes nothing. When it is due is decided in
`headrace.consumer`.
"""

import asyncio
import contextvars
import inspect
import logging

from headrace.context import set_current
from headrace.errors import JobError
from headrace.execution import Execution
from headrace.job import Job
from headrace.threads import Threads

logger = logging.getLogger("headrace")


class FailedCalls:
    """The calls that a worker has under way. ``threads``: for those that are no ``async def``.

    Not the loop's own threads, which handlers may have filled, nor the handlers'.
    """

    def __init__(self, threads: Threads) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._threads = threads

    def call(self, execution: Execution, error: BaseException) -> None:
        """Call ``failed`` of a delivery's job, as part of its run; what it raises is logged."""
        context = contextvars.Context()
        context.run(set_current, execution)
        name = f"failed() of {execution.message.name} {execution.id}"
        task = self._loop.create_task(self._call(execution.job, error), context=context, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _call(self, job: Job, error: BaseException) -> None:
        if not isinstance(error, Exception):
            shown, error = error, JobError(f"the handler raised {error!r}")
            error.__cause__ = shown
        try:
            if inspect.iscoroutinefunction(job.failed):
                await job.failed(error)
            else:
                context = contextvars.copy_context()
                await self._threads.run(lambda: context.run(job.failed, error))
        except asyncio.CancelledError:
            raise
        except BaseException:
            logger.exception("failed() of %s raised; its message rests in 'failed'", job.job_options.name)
