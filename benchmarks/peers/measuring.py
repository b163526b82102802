"""One run of one scenario by one contender: pushed, consumed, timed, and proved by ids.

Every run begins with an empty broker and processes of its own, and ends with nothing left running.
What lost a job has no figures.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from headrace_bench import calibration
from headrace_bench.results import Run
from headrace_bench.statistics import percentile, percentiles
from peers.base import Place
from peers.brokers import Brokers
from peers.contenders import Contender
from peers.ledger import Ledger
from peers.processes import PeerFailed, Producer, WorkerProcess

#: The least and the most jobs of a run.
LEAST: Final = 200
MOST: Final = 500_000

#: Seconds without progress after which jobs are given up: several times the longest timer of any contender that
#: matters while nothing goes wrong.
STALLED: Final = 15.0

#: Seconds that acks may take after the last job has run.
SETTLED: Final = 10.0

#: Seconds between two looks at a ledger: each costs some milliseconds of a processor where there are many jobs.
LOOK: Final = 0.1

#: Paced jobs that are not measured: connections are made, caches filled.
WARM: Final = 50

#: Jobs a second of a paced run.
RATE: Final = 100.0

#: The queue of all runs.
QUEUE: Final = "peers"


@dataclass(frozen=True)
class Size:
    """Seconds, and how often."""

    rounds: int
    push: float  #: of a run that pushes
    consume: float  #: that a run of one worker should take
    pace: float  #: of a run at a fixed rate


QUICK: Final = Size(rounds=1, push=0.4, consume=0.8, pace=2.0)
FULL: Final = Size(rounds=5, push=2.0, consume=4.0, pace=10.0)


class Bench:
    """One contender's seat: what its runs share."""

    def __init__(self, contender: Contender, brokers: Brokers, libraries: Path, folder: Path, size: Size) -> None:
        """``folder`` is for ledgers and logs, and nobody else's."""
        self.contender: Final = contender
        self.versions: dict[str, str] = {}
        self._brokers = brokers
        self._libraries = libraries
        self._folder = folder
        self._size = size
        #: Jobs a second of one worker, as far as is known.
        self.rate = contender.about

    def push(self, bulk: bool) -> Run:
        """Pushed one by one, or in bulk: a second, and whether all of it is in the broker."""
        place = self._place()
        with self._producer(place) as producer:
            producer.push(WARM)  # which connects, and declares what some libraries declare with the first one
            count, seconds = producer.push_for(self._size.push, bulk)
            pushed = WARM + count
            left = self._left(producer, pushed)
            producer.close()
        return _run(pushed, {"rate": count / seconds}, lost=max(0, pushed - left), duplicates=max(0, left - pushed))

    def consume(self, workers: int) -> Run:
        """Consumed by so many worker processes: a second."""
        jobs = max(LEAST, min(MOST, round(self.rate * self._size.consume * workers)))
        place, ledger = self._place(), self._ledger(jobs)
        with self._producer(place) as producer, ExitStack() as stack:
            producer.push(jobs)
            crew = [stack.enter_context(self._worker(place, number)) for number in range(1, workers + 1)]
            self._wait(ledger, jobs, crew)
            _settle(lambda: self._held(producer), 0)
            for worker in crew:
                worker.stop()
            left = self._left(producer, 0)
            producer.close()
        if lost := max(jobs - ledger.done, left):
            return _run(jobs, {}, lost, ledger.repeats)
        rate = ledger.rate(workers)
        self.rate = max(self.rate, rate / workers)
        return _run(jobs, {"rate": rate}, 0, ledger.repeats)

    def latency(self) -> Run:
        """From push to start, at a fixed rate, with one worker."""
        count = round(self._size.pace * RATE)
        place, ledger = self._place(), self._ledger(WARM + count)
        with self._producer(place) as producer, self._worker(place, 1):
            producer.pace(0, WARM, RATE)
            self._wait(ledger, WARM)
            pushed = producer.pace(WARM, count, RATE)
            self._wait(ledger, WARM + count)
            producer.close()
        if lost := ledger.jobs - ledger.done:
            return _run(ledger.jobs, {}, lost, ledger.repeats)
        took = ledger.latencies(WARM, pushed)
        figures = {"p50": percentile(took, 50), "p99": percentile(took, 99), "max": took[-1]}
        run = _run(ledger.jobs, figures, 0, ledger.repeats)
        run.percentiles = percentiles(took)
        return run

    def _held(self, producer: Producer) -> int:
        """Jobs in the broker; workers are at work, and some have not sent their last acks."""
        left = producer.left()
        return self._brokers.held() if left is None else left

    def _left(self, producer: Producer, wanted: int) -> int:
        """Jobs in the broker, when no worker has one, and nothing more is on its way to or from it."""
        left = producer.left()
        return _settle(self._brokers.waiting, wanted) if left is None else left

    def _place(self) -> Place:
        return Place(
            url=self._brokers.empty(self.contender.broker),
            queue=QUEUE,
            concurrency=self.contender.concurrency,
            uvloop=self.contender.uvloop,
            options=self.contender.options,
        )

    @property
    def _ledger_path(self) -> Path:
        return self._folder / "ledger"

    def _ledger(self, jobs: int) -> Ledger:
        return Ledger.create(self._ledger_path, jobs)

    def _producer(self, place: Place) -> Producer:
        producer = Producer(self.contender, place, self._libraries, self._folder / "log")
        self.versions = producer.versions
        return producer

    def _worker(self, place: Place, number: int) -> WorkerProcess:
        theirs = replace(place, ledger=str(self._ledger_path), worker=number)
        return WorkerProcess(self.contender, theirs, self._libraries, self._folder / "log")

    @staticmethod
    def _wait(ledger: Ledger, jobs: int, crew: Sequence[WorkerProcess] = ()) -> None:
        """Return when so many jobs are done, or nothing happens any more. Raises `PeerFailed` if a worker ends."""
        done, since = 0, time.monotonic()
        while done < jobs and time.monotonic() - since < STALLED:
            time.sleep(LOOK)
            for worker in crew:
                worker.check()
            if (now := ledger.done) > done:
                done, since = now, time.monotonic()


def _settle(count: Callable[[], int], wanted: int) -> int:
    """A broker's count once it is as wanted, or does not become so within `SETTLED`."""
    deadline = time.monotonic() + SETTLED
    while (found := count()) != wanted and time.monotonic() < deadline:
        time.sleep(LOOK)
    return found


def _run(jobs: int, figures: dict[str, float], lost: int, duplicates: int) -> Run:
    return Run(round=0, figures={} if lost else figures, jobs=jobs, lost=lost, duplicates=duplicates)


def timed(number: int, action: Callable[[], Run], seen: list[float]) -> Run:
    """Do one run of a round between two calibrations, which are added to ``seen``; an error becomes a run without
    figures."""
    before = calibration.measure()
    began = time.monotonic()
    try:
        run = action()
    except (PeerFailed, RuntimeError, OSError, ValueError) as error:
        run = Run(round=number, error=f"{type(error).__name__}: {error}")
    run.round = number
    run.seconds = time.monotonic() - began
    after = calibration.measure()
    seen += [before, after]
    run.calibration = max(before, after)
    return run
