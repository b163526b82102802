"""What the jobs have done, in a file that every worker process maps into its memory.

Owns the layout and what can be read from it: which jobs ran, how often, when, and in which
worker. A job's mark costs a fraction of a microsecond, the same in every library, and what a
process has written stays when it is killed. The adapter in Node, which cannot map a file, reads
and writes a job's record instead.

A job's record has sixteen bytes: the time of its latest start (a double in the machine's order,
seconds of the monotonic clock, which all processes share), and a byte each for how often it
started, how often it ended, and which worker started it last; five are unused.
"""

import mmap
import time
from pathlib import Path
from typing import Final

#: Bytes of a record, and where its counts stand.
RECORD: Final = 16
STARTED: Final = 8
ENDED: Final = 9
WORKER: Final = 10

#: The most that a byte counts.
MOST: Final = 255

#: Parts of a run that a rate leaves out: at its begin, while connections are made and Node compiles, and at its end,
#: where workers run dry one after the other.
WARM_UP: Final = 0.25
RUN_DRY: Final = 0.05

#: The fewest starts that tell a rate.
TELLING: Final = 100


class Ledger:
    """The records of jobs that are numbered from 0."""

    def __init__(self, path: Path, jobs: int | None = None) -> None:
        """Open a file that `create` has made, as far as the first ``jobs``, or the whole of it."""
        with path.open("r+b") as file:
            self._bytes = memoryview(mmap.mmap(file.fileno(), 0))
        if jobs is not None:
            self._bytes = self._bytes[: RECORD * jobs]
        self._times: memoryview[float] = self._bytes.cast("d")
        self.jobs: Final = len(self._bytes) // RECORD

    @classmethod
    def create(cls, path: Path, jobs: int, spare: int = 0) -> "Ledger":
        """An empty one; jobs with the ``spare`` numbers after the others may run too, and do not count."""
        with path.open("wb") as file:
            file.truncate(RECORD * (jobs + spare))
        return cls(path, jobs)

    # What jobs do.

    def start(self, number: int, worker: int) -> None:
        """A job begins, in the worker of that number, which is from 1 to 255."""
        at = RECORD * number
        self._times[2 * number] = time.monotonic()
        self._bytes[at + STARTED] = min(self._bytes[at + STARTED] + 1, MOST)
        self._bytes[at + WORKER] = worker

    def end(self, number: int) -> None:
        """A job has come to its end."""
        at = RECORD * number + ENDED
        self._bytes[at] = min(self._bytes[at] + 1, MOST)

    # What can be known of them.

    def _column(self, which: int) -> bytes:
        return bytes(self._bytes[which::RECORD])

    @property
    def begun(self) -> int:
        """Jobs that have started."""
        return self.jobs - self._column(STARTED).count(0)

    @property
    def done(self) -> int:
        """Jobs that have ended."""
        return self.jobs - self._column(ENDED).count(0)

    @property
    def repeats(self) -> int:
        """Starts beyond the first of each job."""
        return sum(self._column(STARTED)) - self.begun

    def running(self) -> list[int]:
        """Jobs that have started and never ended."""
        pairs = zip(self._column(STARTED), self._column(ENDED), strict=True)
        return [number for number, (started, ended) in enumerate(pairs) if started and not ended]

    def times(self, first: int = 0) -> list[float]:
        """When the jobs from that number on started last; 0 for one that never did."""
        return list(self._times[2 * first :: 2])

    def rate(self, workers: int) -> float:
        """Starts a second, from when all workers were at work, but for `WARM_UP` and `RUN_DRY`.

        Raises `ValueError` if they never were together for long enough to tell.
        """
        times = self.times()
        firsts: dict[int, float] = {}
        for started, worker in zip(times, self._column(WORKER), strict=True):
            firsts[worker] = min(started, firsts.get(worker, started))
        window = sorted(each for each in times if each >= max(firsts.values()))
        if len(firsts) < workers or len(window) < TELLING:
            raise ValueError(
                f"only {len(window)} of {len(times)} jobs started while all of {workers} workers were at work"
            )
        first, last = int(len(window) * WARM_UP), int(len(window) * (1 - RUN_DRY)) - 1
        return (last - first) / (window[last] - window[first])

    def latencies(self, first: int, pushed: list[float]) -> list[float]:
        """Milliseconds from these times to the starts of the jobs from ``first`` on; sorted."""
        return sorted(1000 * (start - push) for start, push in zip(self.times(first), pushed, strict=True))
