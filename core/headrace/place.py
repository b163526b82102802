"""One worker of a group, as one process after another.

Owns when a process is started, and when one takes over from another. Which places there are is
decided in `headrace.supervisor`; what a process is, stands in `headrace.child`, and how it is
started and ended in `headrace.processes`.
"""

import asyncio
import contextlib
import logging
import signal
import time
from typing import TYPE_CHECKING, Final

from headrace.child import Child
from headrace.errors import BackendError, ConfigError
from headrace.groups import Group
from headrace.log_fields import about_queue
from headrace.memory import resident_mib
from headrace.orders import DRAIN, GO, STOP_SECONDS, Ending
from headrace.processes import READY_SECONDS, Processes
from headrace.retry import retry_delay
from headrace.settings import Backoff

if TYPE_CHECKING:
    from headrace.supervisor import Supervisor

logger = logging.getLogger("headrace")

#: Between a crash and the next start. The first comes nearly at once, since most crashes are
#: single; a process that cannot live costs a start each half minute. Jitter keeps the processes
#: of many machines, which one cause has felled, from coming back as one.
RESTART: Final = Backoff(base=0.1, factor=2, max=30, jitter=0.2)
#: Seconds of life after which earlier crashes no longer count.
HEALTHY_SECONDS: Final = 30.0
#: Seconds between two tries to replace a worker that is due for it.
AGAIN_SECONDS: Final = 30.0
#: Seconds beyond ``stall_seconds`` in which a process can tell of its stall itself, before its silence is
#: told of: it looks every few seconds, and knows more.
SILENCE_MARGIN: Final = 10.0


class Place:
    """A place that is to be filled. ``proved``: its group has worked before, with what was configured then."""

    def __init__(self, supervisor: "Supervisor", group: Group, *, proved: bool = False) -> None:
        self.group = group
        self.retired = False
        self._supervisor = supervisor
        self._processes = Processes(supervisor)
        self._proved = proved
        self._child: Child | None = None  #: the one that works
        self._successor: Child | None = None  #: waits for its turn
        self._preparing: asyncio.Task[None] | None = None  #: starts a successor for one that is nearly done
        self._replacing = False
        self._follows = False  #: the one that works was to follow another
        self._gave_up = False  #: a successor of the one that works; the next starts when its turn has come
        self._longest_start = 0.0  #: seconds that a process took here to get ready
        self._wake = asyncio.Event()  #: do not wait any longer between a crash and the next start
        self._news = asyncio.Event()  #: something may have changed with some process
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
        if self._successor is not None or self._preparing is not None:
            return None
        if self.group.max_seconds and now - child.started >= self.group.max_seconds:
            return f"process {child.pid} ({self.group.name}) has worked for {self.group.max_seconds:g} s"
        if self.group.max_memory and (mib := resident_mib(child.pid)) > self.group.max_memory:
            return f"process {child.pid} ({self.group.name}) uses {mib:.0f} MiB of memory"
        return None

    @property
    def ready(self) -> bool:
        """Whether there is a process in it that has opened its backends."""
        return self._child is not None and self._child.ready.is_set()

    @property
    def lacks(self) -> bool:
        """Whether there is no process in it that takes jobs."""
        return self._child is None or self._child.state != "working"

    @property
    def stalled(self) -> bool:
        """Whether its process is stuck."""
        return self._child is not None and self._child.stalled.is_set()

    def look_for_life(self) -> None:
        """Count its process as stalled if that has shown no sign of life for too long; it may be stopped, say.

        Tell of those that do not get ready, too.
        """
        for each in (self._child, self._successor):
            if each is not None:
                self._look_at_start(each)
        child = self._child
        if child is None or self.stalled or child.silent is None:
            return
        if child.silent > self.group.stall_seconds + SILENCE_MARGIN:
            problem = f"it has shown no sign of life for {child.silent:.3g} s"
            self._log(logging.CRITICAL, "process %d (%s) is stalled: %s", child.pid, self.group.name, problem)
            child.is_stalled(problem)

    def _look_at_start(self, child: Child) -> None:
        """Tell, once, of a process that takes too long to get ready, unless it waits for its backend."""
        if child.start_seconds is not None:
            self._longest_start = max(self._longest_start, child.start_seconds)
            return
        # A lifespan that loads what is large may rightly take longer each time.
        patience = max(READY_SECONDS, 2 * self._longest_start)
        if not child.late and (seconds := child.starting_for) is not None and seconds > patience:
            child.late = True
            text = "process %d (%s) is not ready after %.3g s: it %s"
            self._log(logging.WARNING, text, child.pid, child.name, seconds, child.doing)
            self._news.set()

    def look_again(self) -> None:
        """Look whether something is to be done about its process."""
        self._news.set()

    async def fill(self) -> None:
        """Keep it filled until all is to stop, it is retired, or its queues are empty."""
        try:
            await self._fill()
        finally:
            # Whoever gets a successor ready by now is to know that there is no place for it.
            self.retired = True
            await self._dismiss_successor()

    def wake(self) -> None:
        """Look at once what is to be done, rather than when the next process may start."""
        self._wake.set()
        self._news.set()

    def retire(self) -> None:
        """Drain the process, and start no other."""
        self.retired = True
        self.wake()
        if self._child is not None:
            self._child.say(DRAIN)

    async def replace(self, group: Group) -> bool:
        """Put a fresh process into this place, for ``group`` from now on; whether that could be done.

        First the fresh one gets ready, and if it cannot, the old one stays. Then the old one
        is drained, with no limit of time, so that no job is interrupted; then the fresh one
        takes over. So no more than the group's processes take jobs at any moment, and one less
        for as long as the old one has handlers to end. Only where another place of the group is
        without a process as well, the fresh one does not wait for that.
        """
        self._try_again_at = time.monotonic() + AGAIN_SECONDS
        self._replacing = True
        try:
            # One that was to follow for another reason may be of other code and configuration.
            await self._dismiss_successor()
            successor = await self._started(group)
        finally:
            self._replacing = False
        if successor is None:
            return False
        self.group, self._successor = group, successor
        self.wake()
        if self._child is not None:
            text = "process %d (%s) is ready, and takes over when process %d has ended its handlers"
            self._log(logging.INFO, text, successor.pid, group.name, self._child.pid)
            self._child.say(DRAIN)
            await self._processes.until_drained(self._child)
        return True

    async def _started(self, group: Group) -> Child | None:
        """A process that is ready; ``None`` where there can be none, or all is over, which is told."""
        try:
            child = await self._processes.start(group)
        except OSError as error:
            self._log(logging.ERROR, "no process could be started for %s: %s", group.name, error)
            return None
        try:
            problem = await self._processes.get_ready(child)
        except BaseException:
            self._processes.forget(child)
            raise
        if problem is None and not self._over:
            return child
        await self._processes.dismiss(child)
        if not self._over:
            self._log(logging.ERROR, "%s; what is there goes on as it is", problem)
        return None

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
                self._log(logging.ERROR, "%s: %s", self.group.name, error)
            except OSError as error:
                self._log(logging.ERROR, "no process could be started for %s: %s", self.group.name, error)
            if self._over or ending is Ending.EMPTY:
                return
            if ending is Ending.REPLACE or self._successor is not None:
                crashes = 0
                continue
            if time.monotonic() - started >= HEALTHY_SECONDS:
                crashes = 0
            delay = retry_delay(RESTART, crashes)
            crashes += 1
            self._log(logging.INFO, "the next process for %s starts in %.1f s", self.group.name, delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    async def _run_one(self) -> Ending | None:
        """Let one process work for as long as it has this place, and say how it ended; ``None`` if it crashed."""
        if self._preparing is not None:
            await asyncio.wait((self._preparing,))
        child, self._successor = self._successor, None
        self._follows, self._gave_up = child is not None, False
        if child is None:
            child = await self._processes.start(self.group)
        self._child = child
        try:
            child.say(GO)
            if self._supervisor.stopping.is_set():
                child.signal(signal.SIGTERM)
            elif self.retired or self._successor is not None:
                # That came about while this one was being started.
                child.say(DRAIN)
            status = await self._until_vacant(child)
        except BaseException:
            self._processes.forget(child)
            raise
        finally:
            self._proved = self.proved
            self._child = None
            self._supervisor.news()
        if status is None:
            if child.ready.is_set():
                leave = self._processes.put_down if child.stalled.is_set() else self._processes.see_off
                self._supervisor.spawn(leave(child, self.group))
            else:
                # It may get ready just now, and was told to go.
                limit = self.group.shutdown_timeout + STOP_SECONDS
                self._supervisor.spawn(self._processes.dismiss(child, limit))
            return Ending.REPLACE
        self._processes.forget(child)
        return self._ending_of(child, status)

    def _ending_of(self, child: Child, status: int) -> Ending | None:
        """How a process says that it has ended; ``None`` if it crashed. Raises what keeps it from working."""
        farewell = child.farewell
        if farewell is None:
            self._processes.tell_crash(child, status)
            return None
        if farewell.ending is Ending.WRONG:
            raise ConfigError(farewell.problem)
        if farewell.ending is Ending.FAILED:
            raise BackendError(farewell.problem)
        if farewell.ending is Ending.BROKEN:
            self._log(logging.ERROR, "process %d (%s) cannot work: %s", child.pid, child.name, farewell.problem)
            return None
        return farewell.ending

    async def _until_vacant(self, child: Child) -> int | None:
        """Wait until a process has ended, for its status; or until another one is to have its place, ``None``."""
        ended = asyncio.ensure_future(self._processes.ended(child, self.group))
        try:
            while not ended.done():
                self._news.clear()
                if self._is_to_go(child):
                    return None
                self._give_up_late_successor()
                self._prepare(child)
                news = asyncio.ensure_future(self._news.wait())
                await asyncio.wait((ended, news), return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
            return ended.result()
        finally:
            ended.cancel()

    def _is_to_go(self, child: Child) -> bool:
        """Whether a process that has not ended is to lose its place."""
        if self._supervisor.stopping.is_set() or not child.alive:
            return False
        awaited = self._successor is not None and self._successor.ready.is_set()
        if not child.ready.is_set():
            # What hangs does not hear that it should end. One that took this place over before it was ready is
            # given up when it is late: a fresh one may be luckier, and is only told of.
            return awaited or self.retired or (self._follows and child.late)
        if child.stalled.is_set():
            # It does not hear that it should drain.
            return awaited or self.retired or self.group.replace_stalled
        # Only one place of a group waits for the handlers of a process that takes no more.
        return awaited and child.state == "draining" and self._supervisor.others_lack(self)

    def _prepare(self, child: Child) -> None:
        """Start a successor for a process that is nearly done, so that it is ready by then."""
        busy = self._over or self._replacing or self._successor or self._preparing
        if child.due.is_set() and not busy and not self._gave_up:
            self._preparing = asyncio.ensure_future(self._start_successor())

    async def _start_successor(self) -> None:
        try:
            self._successor = await self._processes.start(self.group)
        except OSError as error:
            # It is tried again when its turn has come.
            self._log(logging.ERROR, "no process could be started for %s: %s", self.group.name, error)
        finally:
            self._preparing = None

    def _give_up_late_successor(self) -> None:
        """End a successor that does not get ready, so that it does not keep others from following."""
        successor = self._successor
        if successor is not None and successor.late and not successor.ready.is_set():
            self._successor, self._gave_up = None, True
            self._log(logging.ERROR, "process %d (%s) is given up", successor.pid, successor.name)
            self._supervisor.spawn(self._processes.dismiss(successor))

    async def _dismiss_successor(self) -> None:
        """End who waits for a turn that does not come. It has taken nothing yet."""
        if self._preparing is not None:
            await asyncio.wait((self._preparing,))
        if self._successor is not None:
            successor, self._successor = self._successor, None
            await self._processes.dismiss(successor)

    def _log(self, level: int, text: str, *arguments: object) -> None:
        logger.log(level, text, *arguments, extra=about_queue(self.group.name))
