"""One worker of a group, as one process after another.

Owns when a process is started, and how one takes over from another. Which places there are is
decided in `headrace.supervisor`; what a process is, stands in `headrace.child`.
"""

import asyncio
import contextlib
import logging
import signal
import time
from typing import TYPE_CHECKING, Final

from headrace.child import Child, describe_status
from headrace.errors import BackendError, ConfigError
from headrace.memory import resident_mib
from headrace.orders import DRAIN, GO, STOP_SECONDS, Ending
from headrace.retry import retry_delay
from headrace.settings import Backoff

if TYPE_CHECKING:
    from headrace.supervisor import Group, Supervisor

logger = logging.getLogger("headrace")

#: Between a crash and the next start. The first comes nearly at once, since most crashes are
#: single; a process that cannot live costs a start each half minute. Jitter keeps the processes
#: of many machines, which one cause has felled, from coming back as one.
RESTART: Final = Backoff(base=0.1, factor=2, max=30, jitter=0.2)
#: Seconds of life after which earlier crashes no longer count.
HEALTHY_SECONDS: Final = 30.0
#: Seconds beyond their own limit that processes have to end before they are killed.
KILL_MARGIN: Final = 2.0
#: Seconds for a successor to import, connect and check what it needs, before it is given up.
READY_SECONDS: Final = 60.0
#: Seconds between two tries to replace a worker that is due for it.
AGAIN_SECONDS: Final = 30.0
#: Seconds of draining after which it is told that a handler keeps a successor waiting.
LONG_DRAIN: Final = 60.0


class Place:
    """A place that is to be filled. ``proved``: its group has worked before, with what was configured then."""

    def __init__(self, supervisor: "Supervisor", group: "Group", *, proved: bool = False) -> None:
        self.group = group
        self.retired = False
        self._supervisor = supervisor
        self._proved = proved
        self._child: Child | None = None  #: the one that works
        self._successor: Child | None = None  #: is ready, and waits for its turn
        self._wake = asyncio.Event()  #: do not wait any longer between a crash and the next start
        self._try_again_at = 0.0

    @property
    def proved(self) -> bool:
        """Whether this configuration has worked here: what goes wrong after that ends no other process."""
        return self._proved or (self._child is not None and self._child.ready.is_set())

    @property
    def outworn(self) -> str | None:
        """Why its process is due to be replaced, if it is."""
        child, now = self._child, time.monotonic()
        if child is None or not child.ready.is_set() or self._over or now < self._try_again_at:
            return None
        if self.group.max_seconds and now - child.started >= self.group.max_seconds:
            return f"process {child.pid} ({self.group.name}) has worked for {self.group.max_seconds:g} s"
        if self.group.max_memory and (mib := resident_mib(child.pid)) > self.group.max_memory:
            return f"process {child.pid} ({self.group.name}) uses {mib:.0f} MiB of memory"
        return None

    async def fill(self) -> None:
        """Keep it filled until all is to stop, it is retired, or its queues are empty."""
        try:
            await self._fill()
        finally:
            # Whoever gets a successor ready by now is to know that there is no place for it.
            self.retired = True
            if self._successor is not None:
                # It has taken nothing yet.
                await self._dismiss(self._successor)

    def wake(self) -> None:
        """Look at once what is to be done, rather than when the next process may start."""
        self._wake.set()

    def retire(self) -> None:
        """Drain the process, and start no other."""
        self.retired = True
        self.wake()
        if self._child is not None:
            self._child.say(DRAIN)

    async def replace(self, group: "Group") -> bool:
        """Put a fresh process into this place, for ``group`` from now on; whether that could be done.

        First the fresh one gets ready, and if it cannot, the old one stays. Then the old one
        is drained, with no limit of time, so that no job is interrupted; then the fresh one
        takes over. So no more than the group's processes take jobs at any moment, and one less
        for as long as the old one has handlers to end.
        """
        self._try_again_at = time.monotonic() + AGAIN_SECONDS
        try:
            successor = await self._start(group)
        except OSError as error:
            logger.error("no process could be started for %s: %s", group.name, error)
            return False
        try:
            problem = await self._get_ready(successor)
        except BaseException:
            self._forget(successor)
            raise
        if problem is not None or self._over:
            await self._dismiss(successor)
            if not self._over:
                logger.error("%s; what is there goes on as it is", problem)
            return False
        self.group, self._successor = group, successor
        self.wake()
        if self._child is not None:
            text = "process %d (%s) is ready, and takes over when process %d has ended its handlers"
            logger.info(text, successor.pid, group.name, self._child.pid)
            self._child.say(DRAIN)
            await self._until_drained(self._child)
        return True

    @property
    def _over(self) -> bool:
        return self.retired or self._supervisor.stopping.is_set()

    async def _fill(self) -> None:
        crashes = 0
        while not self._over:
            started = time.monotonic()
            self._wake.clear()
            ending: Ending | None = None
            try:
                ending = await self._run_one()
            except (ConfigError, BackendError) as error:
                if not self._proved or self._supervisor.until_empty:
                    self._supervisor.refuse(error)
                    return
                logger.error("%s: %s", self.group.name, error)
            except OSError as error:
                logger.error("no process could be started for %s: %s", self.group.name, error)
            if self._over or ending is Ending.EMPTY:
                return
            if ending is Ending.REPLACE or self._successor is not None:
                crashes = 0
                continue
            if time.monotonic() - started >= HEALTHY_SECONDS:
                crashes = 0
            delay = retry_delay(RESTART, crashes)
            crashes += 1
            logger.info("the next process for %s starts in %.1f s", self.group.name, delay)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), delay)

    async def _run_one(self) -> Ending | None:
        """Let one process work to its end, and say how it ended; ``None`` if it crashed."""
        child, self._successor = self._successor, None
        if child is None:
            child = await self._start(self.group)
        self._child = child
        try:
            child.say(GO)
            if self._supervisor.stopping.is_set():
                child.signal(signal.SIGTERM)
            elif self.retired or self._successor is not None:
                # That came about while this one was being started.
                child.say(DRAIN)
            status = await self._ended(child)
        finally:
            self._proved = self.proved
            self._child = None
            self._forget(child)
        if child.farewell is not None:
            if child.farewell.ending is Ending.WRONG:
                raise ConfigError(child.farewell.problem)
            if child.farewell.ending is Ending.FAILED:
                raise BackendError(child.farewell.problem)
            return child.farewell.ending
        if not (self._supervisor.stopping.is_set() and status == -signal.SIGTERM):
            logger.error("process %d (%s) %s", child.pid, self.group.name, describe_status(status))
        return None

    async def _start(self, group: "Group") -> Child:
        child = await Child.start(self._supervisor.order(group), self._supervisor.stderr)
        self._supervisor.children.add(child)
        return child

    def _forget(self, child: Child) -> None:
        self._supervisor.children.discard(child)
        child.close()

    async def _dismiss(self, child: Child) -> None:
        """End a process that has taken nothing."""
        child.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await child.ended()
        except TimeoutError:
            logger.error("process %d (%s) did not end within %g s", child.pid, self.group.name, STOP_SECONDS)
        finally:
            self._forget(child)

    async def _get_ready(self, child: Child) -> str | None:
        """Wait until a process is ready; if it cannot, or not in time, or all is to stop, why."""
        waits = [asyncio.ensure_future(each) for each in (child.ready.wait(), child.ended())]
        stopping = asyncio.ensure_future(self._supervisor.stopping.wait())
        try:
            await asyncio.wait((*waits, stopping), timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (*waits, stopping):
                each.cancel()
        name = f"the new process {child.pid} ({self.group.name})"
        if child.farewell is not None and child.farewell.problem:
            return f"{name} cannot work: {child.farewell.problem}"
        if not child.alive:
            return f"{name} {describe_status(child.process.returncode or 0)} before it was ready"
        return None if child.ready.is_set() else f"{name} was not ready within {READY_SECONDS:g} s"

    async def _until_drained(self, child: Child) -> None:
        try:
            async with asyncio.timeout(LONG_DRAIN):
                await child.process.wait()
        except TimeoutError:
            text = "process %d (%s) still has handlers to end; its successor waits for them"
            logger.warning(text, child.pid, self.group.name)
            await child.process.wait()

    async def _ended(self, child: Child) -> int:
        """Wait for the end of a process; for as long as it may take, once all are to stop."""
        limit = self.group.shutdown_timeout + STOP_SECONDS + KILL_MARGIN
        async with asyncio.TaskGroup() as waits:
            ended = waits.create_task(child.ended())
            stopping = waits.create_task(self._supervisor.stopping.wait())
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not ended.done() and not (await asyncio.wait((ended,), timeout=limit))[0]:
                logger.error("process %d (%s) did not end within %g s", child.pid, self.group.name, limit)
                self._supervisor.kill(child)
        return ended.result()
