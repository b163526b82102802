"""What is done with one worker process between its start and its end.

Owns how long each step may take, and what follows when it takes longer. When a process is
started, and which one has a place, is decided in `headrace.place`.
"""

import asyncio
import logging
import signal
from typing import TYPE_CHECKING, Final

from headrace.child import Child, describe_status
from headrace.groups import Group
from headrace.log_fields import about_queue
from headrace.orders import STOP_SECONDS

if TYPE_CHECKING:
    from headrace.supervisor import Supervisor

logger = logging.getLogger("headrace")

#: Seconds beyond their own limit that processes have to end before they are killed.
KILL_MARGIN: Final = 2.0
#: Seconds for a process to import, connect and check what it needs, before it is told of that it is not ready;
#: one that is to follow another is then given up.
READY_SECONDS: Final = 60.0
#: Seconds of draining after which it is told that a handler keeps a successor waiting.
LONG_DRAIN: Final = 60.0


class Processes:
    """Starts, readies and ends processes for a supervisor."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor

    async def start(self, group: Group) -> Child:
        """Start one; raises `OSError` if there is no way to."""
        child = await Child.start(self._supervisor.order(group), self._supervisor.stderr)
        child.news = self._supervisor.news
        self._supervisor.children.add(child)
        return child

    def forget(self, child: Child) -> None:
        """Let go of one that has ended; one that has not is killed."""
        self._supervisor.children.discard(child)
        child.close()

    async def get_ready(self, child: Child) -> str | None:
        """Wait until a process is ready; if it cannot, or not in time, or all is to stop, why."""
        waits = [asyncio.ensure_future(each) for each in (child.ready.wait(), child.ended())]
        stopping = asyncio.ensure_future(self._supervisor.stopping.wait())
        try:
            await asyncio.wait((*waits, stopping), timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (*waits, stopping):
                each.cancel()
        name = f"the new process {child.pid} ({child.name})"
        if child.farewell is not None and child.farewell.problem:
            return f"{name} cannot work: {child.farewell.problem}"
        if not child.alive:
            return f"{name} {describe_status(child.process.returncode or 0)} before it was ready"
        return None if child.ready.is_set() else f"{name} was not ready within {READY_SECONDS:g} s"

    async def dismiss(self, child: Child, seconds: float = STOP_SECONDS) -> None:
        """End a process that has taken nothing. One that may yet begin to has more ``seconds``."""
        child.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await child.ended()
        except TimeoutError:
            text = "process %d (%s) did not end within %g s"
            logger.error(text, child.pid, child.name, seconds, extra=about_queue(child.name))
        finally:
            self.forget(child)

    async def until_drained(self, child: Child) -> None:
        """Wait for the end of a process that was told to drain, however long its handlers take."""
        try:
            async with asyncio.timeout(LONG_DRAIN):
                await child.process.wait()
        except TimeoutError:
            text = "process %d (%s) still has handlers to end; its successor waits for them"
            logger.warning(text, child.pid, child.name, extra=about_queue(child.name))
            await child.process.wait()

    async def ended(self, child: Child, group: Group) -> int:
        """Wait for the end of a process, and give its status. Once all are to stop, it has its limit, and is killed."""
        limit = group.shutdown_timeout + STOP_SECONDS + KILL_MARGIN
        async with asyncio.TaskGroup() as waits:
            ended = waits.create_task(child.ended())
            stopping = waits.create_task(self._supervisor.stopping.wait())
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not ended.done() and not (await asyncio.wait((ended,), timeout=limit))[0]:
                text = "process %d (%s) did not end within %g s"
                logger.error(text, child.pid, child.name, limit, extra=about_queue(child.name))
                self._supervisor.kill(child)
        return ended.result()

    async def see_off(self, child: Child, group: Group) -> None:
        """Wait for the end of a process that lets its last handlers end, and whose place another one has."""
        try:
            self.tell_crash(child, await self.ended(child, group))
        finally:
            self.forget(child)

    async def put_down(self, child: Child, group: Group) -> None:
        """End a process that is stalled: it has its ``shutdown_timeout`` to come round, and is killed.

        What it held comes back when the leases end, as deliveries that ended with their worker.
        """
        child.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(group.shutdown_timeout):
                status = await child.ended()
        except TimeoutError:
            text = "process %d (%s) is stalled, and did not end within %g s: it is killed"
            logger.error(text, child.pid, child.name, group.shutdown_timeout, extra=about_queue(child.name))
            child.signal(signal.SIGKILL)
            await child.ended()
        else:
            self.tell_crash(child, status)
        finally:
            self.forget(child)

    def tell_crash(self, child: Child, status: int) -> None:
        """Say how a process ended, unless that was in good order."""
        if child.farewell is None and not (self._supervisor.stopping.is_set() and status == -signal.SIGTERM):
            text = "process %d (%s) %s"
            logger.error(text, child.pid, child.name, describe_status(status), extra=about_queue(child.name))
