"""Keeps worker processes running: what ``headrace worker`` does.

Owns processes: how many there are, when one is replaced, and how all of them end. What a
process does with jobs is the business of `headrace.worker`; its own side of what happens
here stands in `headrace.worker_process`. The supervisor takes no jobs, imports none, and
holds no connection, so that there is little that could end it.

Parent and child are tied by a socket pair, the *line*, of which each holds one end. When
the parent is gone, by ``kill -9`` too, its end closes, and the child stops as if told to.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from headrace.errors import ConfigError
from headrace.retry import retry_delay
from headrace.settings import Backoff, QueueSettings
from headrace.worker_process import STOP_SECONDS, Ending, Farewell, Order

logger = logging.getLogger("headrace")

#: Between a crash and the next start. The first comes nearly at once, since most crashes are
#: single; a process that cannot live costs a start each half minute. Jitter keeps the processes
#: of many machines, which one cause has felled, from coming back as one.
RESTART: Final = Backoff(base=0.1, factor=2, max=30, jitter=0.2)
#: Seconds of life after which earlier crashes no longer count.
HEALTHY_SECONDS: Final = 30.0
#: Seconds beyond their own limit that processes have to end before they are killed.
KILL_MARGIN: Final = 2.0
#: Seconds that a process has after the second signal: to give its messages back, and no more.
HURRY_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Group:
    """Queues that are served together, in strict order, by processes of their own."""

    queues: tuple[str, ...]
    processes: int
    concurrency: int | None = None  #: ``None``: each queue's own
    max_messages: int | None = None  #: ``None``: the queues' own; 0: no end
    shutdown_timeout: float = 25.0  #: seconds that handlers have to end

    @property
    def name(self) -> str:
        return ",".join(self.queues)


def group_of(
    queues: Sequence[QueueSettings],
    *,
    processes: int | None = None,
    concurrency: int | None = None,
    max_messages: int | None = None,
) -> Group:
    """The group for these queues; what is not given is as configured, the largest of their values."""
    return Group(
        queues=tuple(each.name for each in queues),
        processes=processes or max(each.processes for each in queues),
        concurrency=concurrency,
        max_messages=max_messages,
        shutdown_timeout=max(each.shutdown_timeout for each in queues),
    )


class Supervisor:
    """Runs the processes of some groups until it is told to stop.

    ``config``: the file that the processes read; ``None`` where there is none.
    ``until_empty``: each process ends when its queues are empty, and the supervisor with the last.
    ``stderr``: a file descriptor for what the processes write there; by default this process' own.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        config: Path | None,
        until_empty: bool = False,
        log_level: str = "info",
        stderr: int | None = None,
    ) -> None:
        self._groups = groups
        self._config = config
        self._until_empty = until_empty
        self._log_level = log_level
        self._stderr = stderr
        self._children: set[_Child] = set()
        self._stopping = asyncio.Event()
        self._signals = 0
        self._refused: ConfigError | None = None
        self._killed = False

    async def run(self) -> bool:
        """Keep every place filled until `stop`, or until all queues are empty.

        False if a process had to be killed. Raises `ConfigError`, in its own words, when a
        process finds the configuration wrong. Cancelled, it kills what still runs.
        """
        async with asyncio.TaskGroup() as places:
            for group in self._groups:
                for _ in range(group.processes):
                    places.create_task(self._fill(group))
        if self._refused is not None:
            raise self._refused
        return not self._killed

    def stop(self) -> None:
        """Let the processes end gracefully; called a second time, at once. For signal handlers on the loop."""
        self._signals += 1
        if self._signals == 1:
            logger.info(
                "stopping; handlers have up to %g s to end", max(each.shutdown_timeout for each in self._groups)
            )
            self._stop_children()
        elif self._signals == 2:
            logger.warning("told to stop a second time: ending at once")
            self._stop_children()
            asyncio.get_running_loop().call_later(HURRY_SECONDS, self._kill_children)

    def _stop_children(self) -> None:
        self._stopping.set()
        for child in self._children:
            child.signal(signal.SIGTERM)

    def _kill_children(self) -> None:
        for child in self._children:
            self._kill(child)

    def _kill(self, child: "_Child") -> None:
        if child.process.returncode is None:
            self._killed = True
            logger.error("killing process %d; its messages come back when their leases end", child.process.pid)
            child.signal(signal.SIGKILL)

    async def _fill(self, group: Group) -> None:
        """Keep one place of a group filled, by one process after another."""
        crashes = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            ending: Ending | None = None
            try:
                ending = await self._run_one(group)
            except ConfigError as error:
                # Every process reads the same configuration: the first speaks for all.
                self._refused = self._refused or error
                self._stop_children()
                return
            except OSError as error:
                logger.error("no process could be started for %s: %s", group.name, error)
            if self._stopping.is_set() or ending is Ending.EMPTY:
                return
            if ending is Ending.REPLACE:
                crashes = 0
                continue
            if time.monotonic() - started >= HEALTHY_SECONDS:
                crashes = 0
            delay = retry_delay(RESTART, crashes)
            crashes += 1
            logger.info("the next process for %s starts in %.1f s", group.name, delay)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    async def _run_one(self, group: Group) -> Ending | None:
        """Run one process to its end, and say how it ended; ``None`` if it crashed."""
        child = await _Child.start(self._order(group), self._stderr)
        self._children.add(child)
        try:
            if self._stopping.is_set():
                child.signal(signal.SIGTERM)
            status = await self._ended(child, group)
            farewell = child.farewell()
        finally:
            self._children.discard(child)
            child.close()
        if farewell is not None:
            if farewell.ending is Ending.WRONG:
                raise ConfigError(farewell.problem)
            return farewell.ending
        if not (self._stopping.is_set() and status == -signal.SIGTERM):
            logger.error("process %d (%s) %s", child.process.pid, group.name, describe_status(status))
        return None

    async def _ended(self, child: "_Child", group: Group) -> int:
        """Wait for the end of a process; for as long as it may take, once all are to stop."""
        limit = group.shutdown_timeout + STOP_SECONDS + KILL_MARGIN
        async with asyncio.TaskGroup() as waits:
            ended = waits.create_task(child.process.wait())
            stopping = waits.create_task(self._stopping.wait())
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not ended.done() and not (await asyncio.wait((ended,), timeout=limit))[0]:
                logger.error("process %d (%s) did not end within %g s", child.process.pid, group.name, limit)
                self._kill(child)
        return ended.result()

    def _order(self, group: Group) -> Order:
        return Order(
            config=None if self._config is None else str(self._config),
            queues=list(group.queues),
            concurrency=group.concurrency,
            max_messages=group.max_messages,
            until_empty=self._until_empty,
            log_level=self._log_level,
        )


class _Child:
    """A worker process as its parent sees it."""

    def __init__(self, process: Process, line: socket.socket) -> None:
        self.process = process
        self._line = line

    @classmethod
    async def start(cls, order: Order, stderr: int | None) -> "_Child":
        """Start a process, never by a bare fork: nothing of this one's memory or descriptors goes along."""
        ours, theirs = socket.socketpair()
        try:
            # -P: the working directory is no place to import from, as it is none for the `headrace` script.
            # A session of its own: Ctrl-C on the terminal reaches the supervisor alone, which passes it on.
            # No standard input: several processes that read one terminal would only take from one another.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "headrace.worker_process", str(theirs.fileno())),
                msgspec.json.encode(order).decode(),
                stdin=DEVNULL,
                stderr=stderr,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        return cls(process, ours)

    def signal(self, number: signal.Signals) -> None:
        # Not by `send_signal`: that looks whether the process has ended, and so may take the exit
        # status away from asyncio, which waits for it in a thread.
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def farewell(self) -> Farewell | None:
        """What a process that has ended told on the line; ``None`` if it did not come to that."""
        said = bytearray()
        # It has ended, so all that it said is here; what it forked may hold the line open.
        with contextlib.suppress(OSError):
            while part := self._line.recv(65536):
                said += part
        try:
            return msgspec.json.decode(said, type=Farewell)
        except msgspec.DecodeError:
            return None

    def close(self) -> None:
        """Let go of the process; one that still runs, because this is cancelled, is killed."""
        self.signal(signal.SIGKILL)
        self._line.close()


def describe_status(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
