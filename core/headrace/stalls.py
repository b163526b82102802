"""Noticing that a worker is stuck: its event loop is blocked, or it takes nothing while jobs wait.

Owns what counts as a stall, and the one report of each. That the leases of a blocked loop run
out is the business of `headrace.leases`; that a stalled worker may be replaced, of `headrace.place`.

Slots that are all held by handlers are no stall: a job may take as long as it likes, and one
that must not has a ``handle_timeout``.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from headrace.consumer import QueueConsumer
from headrace.execution import Execution
from headrace.log_fields import ATTRIBUTE, LogFields, fields_of

if TYPE_CHECKING:
    from headrace.worker import Worker

logger = logging.getLogger("headrace")

#: Longest seconds between two looks at the loop, which are also its signs of life for a supervisor.
LOOK_SECONDS: Final = 5.0
#: Looks within ``stall_seconds``, so that a stall is told soon after it is one, however short they are.
LOOKS: Final = 4
#: Innermost frames of a stack that are told: handlers are less deep, and endless recursions have thousands.
_FRAMES: Final = 30
#: Characters of them, as many as a failure's note has: one line of source may have millions.
_LONGEST_STACK: Final = 16 * 1024
#: Jobs that are named where it is not known which of them is to blame.
_NAMED: Final = 3


class Stalls:
    """Watches one worker. Made on the thread of its event loop."""

    def __init__(self, worker: "Worker", consumers: Sequence[QueueConsumer]) -> None:
        self.limit = min(each.settings.stall_seconds for each in consumers)  #: seconds
        self._worker = worker
        self._consumers = consumers
        self._thread = threading.get_ident()
        self._looked = time.monotonic()
        self._blocked_since: float | None = None
        self._blocked = ""  #: what is told of a blocked loop, while it is
        self._takes_nothing = ""  #: and of a worker that takes nothing

    @property
    def interval(self) -> float:
        """Seconds between two calls of `look`."""
        return min(LOOK_SECONDS, self.limit / LOOKS)

    def look(self) -> bool:
        """Whether the loop turns, or has not been blocked for long. Called by another thread than the loop's.

        Reports a loop that is blocked for too long, once, and once more when it turns again.
        """
        beat, now = self._worker.beat, time.monotonic()
        silent = now - beat
        looked, self._looked = self._looked, now
        if now - looked > self.limit:
            # This thread stood still as well: the process was stopped, or a handler held the
            # interpreter. That is over, and the loop turns next.
            pass
        elif silent > self.limit:
            if self._blocked_since is None:
                self._blocked_since = beat
                self._blocked = f"its event loop has been blocked for {silent:.3g} s"
                self._report_blocked(silent)
        elif self._blocked_since is not None:
            logger.warning("the event loop turns again; it was blocked for %.3g s", beat - self._blocked_since)
            self._blocked_since, self._blocked = None, ""
        self._worker.show_sign(silent, self._blocked or self._takes_nothing)
        return self._blocked_since is None

    async def watch_taking(self, taking: "asyncio.Task[None]") -> None:
        """Report, once, if nothing is taken for ``stall_seconds`` although jobs wait and there is room for them.

        ``taking``: the task that should. Asks the backend only while nothing comes, and then seldom.
        """
        waiting = 0
        while True:
            taken = self._worker.intake.taken
            await asyncio.sleep(self.limit / LOOKS)
            if self._worker.intake.taken == taken and await self._jobs_wait():
                waiting += 1
                # The first look does not tell for how long they have been waiting.
                if waiting == LOOKS + 1:
                    self._takes_nothing = f"it has taken no job for {self.limit:g} s although some wait"
                    self._report_idle(taking)
            else:
                if self._takes_nothing:
                    logger.warning("jobs are taken again, or none waits any more")
                waiting, self._takes_nothing = 0, ""

    async def _jobs_wait(self) -> bool:
        """Whether jobs wait that this worker has room for, as far as their backend tells."""
        for consumer in self._consumers:
            if not self._worker.could_start(consumer):
                continue
            try:
                info = await consumer.infos.ask(consumer.driver.info())
            except Exception as error:
                # The backend's loss is told by whoever takes from it.
                logger.debug("whether jobs wait on %s: %s", consumer.settings.name, error)
                continue
            if info.waiting:
                return True
        return False

    def _report_blocked(self, seconds: float) -> None:
        frame = sys._current_frames().get(self._thread)
        stack = "" if frame is None else _told(traceback.walk_stack(frame))
        execution = self._in_hand()
        by = f"by {_named(execution)}" if execution is not None else f"with {self._all_in_hand()} in hand"
        text = "the event loop has been blocked for %.3g s %s; leases are no longer extended"
        self._report(text, seconds, by, stack=stack, execution=execution)

    def _report_idle(self, taking: "asyncio.Task[None]") -> None:
        text = "no job has been taken for %.3g s although some wait and there is room for them, with %s in hand"
        self._report(text, self.limit, self._all_in_hand(), stack=_told(_frames_of(taking.get_coro())))

    def _report(self, text: str, *arguments: object, stack: str, execution: Execution | None = None) -> None:
        queues = ",".join(each.settings.name for each in self._consumers)
        fields = LogFields(queue=queues, worker=self._worker.name) if execution is None else fields_of(execution)
        # By hand, since the stack is not the one of whoever logs it.
        record = logger.makeRecord(
            logger.name,
            logging.CRITICAL,
            __file__,
            0,
            f"%s: {text}",
            (queues, *arguments),
            None,
            extra={ATTRIBUTE: fields},
            sinfo=f"Stack (most recent call last):\n{stack}" if stack else None,
        )
        logger.handle(record)

    def _in_hand(self) -> Execution | None:
        """The delivery whose task the loop is in, unless that is one which the job has started itself."""
        task = asyncio.current_task(self._worker.loop)
        return next((each for each in self._running() if each.task is task and task is not None), None)

    def _all_in_hand(self) -> str:
        running = list(self._running())
        more = f" and {len(running) - _NAMED} more" if len(running) > _NAMED else ""
        return ", ".join(map(_named, running[:_NAMED])) + more if running else "no job"

    def _running(self) -> Iterator[Execution]:
        for consumer in self._consumers:
            # list() of a set is one step to other threads.
            yield from list(consumer.running)


def _named(execution: Execution) -> str:
    return f"{execution.message.name} {execution.id} on {execution.queue}"


def _told(frames: Iterable[tuple[FrameType, int]]) -> str:
    """The innermost of some frames, given from the inside outwards, as a traceback shows them."""
    summary = traceback.StackSummary.extract(iter(frames), limit=_FRAMES)
    summary.reverse()
    # The end is what matters.
    return "".join(summary.format())[-_LONGEST_STACK:].rstrip()


def _frames_of(awaited: Any) -> list[tuple[FrameType, int]]:
    """Where a coroutine waits: its own frame and those of what it awaits, from the inside outwards."""
    frames: list[tuple[FrameType, int]] = []
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        awaited = getattr(awaited, "cr_await", None)
    return frames[::-1]
