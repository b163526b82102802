"""What a ``kill -9`` of the worker does to a contender's jobs: tried, and counted by ids.

Two trials. In one, jobs take half a second, and the worker is killed with some of them running;
another worker starts at once. In the other, jobs take no time, and the worker is killed again and
again in the midst of them, at moments that nobody chose, so that a kill falls between any two steps
that the library takes. Lost is what has not run when nothing has come back for much longer than it
should take; where a library lets one choose, that is `SOON`. Meanwhile a job a second is pushed, as
life goes on in most queues, and some libraries look for dead workers' jobs only when there are others.

Trials are about what happens and not about how fast, so they take place side by side.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, get_args

from headrace_bench.results import Run
from peers.base import Place
from peers.brokers import Brokers
from peers.contenders import Contender
from peers.ledger import Ledger
from peers.processes import PeerFailed, Producer, WorkerProcess

#: Seconds that a slow job takes, and how many there are: beyond one worker's share twice, and some.
SLOW: Final = 0.5
SLOW_JOBS: Final = 5

#: Jobs of the busy trial, of which each kill awaits a share.
BUSY_LEAST: Final = 600
BUSY_MOST: Final = 20_000

#: How often a busy worker is killed.
KILLS: Final = 5

#: Seconds between two looks for the moment of a kill, and at most until a kill after that.
LOOK: Final = 0.01
WAVER: Final = 0.02

#: Seconds beyond a contender's recovery after which jobs are lost, if none has run for a while either.
MARGIN: Final = 15.0
QUIET: Final = 15.0

#: Seconds between two jobs that are pushed while the dead worker's are awaited.
TRICKLE: Final = 1.0

#: Seconds in which a worker must have started on its first jobs.
START: Final = 60.0


#: The two trials.
Kind = Literal["slow", "busy"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True)
class Outcome:
    """Of one trial."""

    jobs: int
    lost: int
    again: int  #: starts beyond the first of each job
    seconds: float  #: from the last kill until the last job that had to run again started, or any job of a busy worker

    def to_run(self) -> Run:
        figures = {} if self.lost else {"recovered": self.seconds}
        return Run(round=0, jobs=self.jobs, lost=self.lost, duplicates=self.again, figures=figures)


class Stopped(Exception):
    """The session ends before the trial has."""


class Trial:
    """The trials of one contender."""

    def __init__(
        self, contender: Contender, brokers: Brokers, libraries: Path, folder: Path, stopping: threading.Event
    ) -> None:
        """``folder`` is for ledgers and logs, and nobody else's. When ``stopping`` is set, trials raise `Stopped`."""
        self._contender = contender
        self._brokers = brokers
        self._libraries = libraries
        self._folder = folder
        self._stopping = stopping

    def run(self, kind: Kind, rate: float) -> Outcome:
        """One of them; workers do at most ``rate`` jobs a second. Raises `PeerFailed` and `Stopped`."""
        return self._slow() if kind == "slow" else self._busy(rate)

    def _slow(self) -> Outcome:
        """One kill with slow jobs running."""
        each = self._contender.concurrency
        jobs = SLOW_JOBS + 3 * each
        with ExitStack() as stack:
            ledger, producer, worker = self._begin(stack, jobs, SLOW)
            first = worker()
            # The first ones have ended, so that there are acks too, and the next are in the midst.
            self._await(ledger, each, max(1, each // 2), first)
            time.sleep(SLOW / 4)
            first.kill()
            killed = time.monotonic()
            due = ledger.running()
            if not due:
                raise PeerFailed("no job was running when the worker was killed, so nothing was tried")
            worker()
            self._recover(ledger, producer, killed)
            return self._outcome(ledger, due, killed)

    def _busy(self, rate: float) -> Outcome:
        """`KILLS` kills of workers in the midst of fast jobs."""
        jobs = max(BUSY_LEAST, min(BUSY_MOST, round(rate)))
        share = jobs // (KILLS + 1)
        with ExitStack() as stack:
            ledger, producer, worker = self._begin(stack, jobs, 0.0)
            for number in range(1, KILLS + 1):
                current = worker()
                self._await(ledger, min(number * share, ledger.done + share), 0, current)
                time.sleep(random.uniform(0, WAVER))
                current.kill()
            killed = time.monotonic()
            worker()
            self._recover(ledger, producer, killed)
            return self._outcome(ledger, range(jobs), killed)

    def _begin(
        self, stack: ExitStack, jobs: int, seconds: float
    ) -> tuple[Ledger, Producer, Callable[[], WorkerProcess]]:
        """Push the jobs; their ledger, who has pushed them, and what starts a worker of them."""
        contender, log, path = self._contender, self._folder / "log", self._folder / "ledger"
        place = Place(
            url=self._brokers.own(contender.broker),
            queue=self._folder.name,
            concurrency=contender.concurrency,
            uvloop=contender.uvloop,
            options=contender.options | contender.short,
        )
        ledger = Ledger.create(path, jobs, spare=1)
        producer = stack.enter_context(Producer(contender, place, self._libraries, log))
        producer.push(jobs)
        theirs = replace(place, ledger=str(path), worker=1, seconds=seconds)
        return ledger, producer, lambda: stack.enter_context(WorkerProcess(contender, theirs, self._libraries, log))

    def _pause(self) -> None:
        if self._stopping.wait(LOOK):
            raise Stopped

    def _await(self, ledger: Ledger, done: int, running: int, worker: WorkerProcess) -> None:
        """Return when so many jobs are done and are running, or nothing happens for long: then there is the outcome.

        Raises `PeerFailed` if the worker ends.
        """
        seen, deadline = ledger.done, time.monotonic() + START
        while seen < done or len(ledger.running()) < running:
            if seen == ledger.jobs or time.monotonic() > deadline:
                return
            worker.check()
            self._pause()
            if (now := ledger.done) > seen:
                seen, deadline = now, time.monotonic() + QUIET

    def _recover(self, ledger: Ledger, producer: Producer, killed: float) -> None:
        """Return when all jobs have run, or no more will."""
        done, since, pushed = ledger.done, time.monotonic(), killed
        while done < ledger.jobs:
            self._pause()
            now = time.monotonic()
            if now > pushed + TRICKLE:
                producer.push(1, first=ledger.jobs)
                pushed = now
            if ledger.done > done:
                done, since = ledger.done, now
            if now > killed + self._contender.recovery + MARGIN and now > since + QUIET:
                return

    @staticmethod
    def _outcome(ledger: Ledger, due: Sequence[int], killed: float) -> Outcome:
        times = ledger.times()
        last = max((times[number] for number in due), default=killed)
        return Outcome(ledger.jobs, ledger.jobs - ledger.done, ledger.repeats, max(0.0, last - killed))


def describe(slow: Outcome | str, busy: Outcome | str) -> str:
    """Both in a line, for a report; a text says why there is no outcome."""
    return f"{_told(slow, 'one kill, slow jobs')}; {_told(busy, f'{KILLS} kills, fast jobs')}"


def _told(outcome: Outcome | str, what: str) -> str:
    if isinstance(outcome, str):
        return f"{what}: not tried: {outcome}"
    fate = f"LOST {outcome.lost}" if outcome.lost else "none lost"
    return f"{what}: {fate} of {outcome.jobs}, {outcome.again} ran again, after {outcome.seconds:.1f} s"
