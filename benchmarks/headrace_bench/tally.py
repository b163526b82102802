"""Which jobs ran, how often and when: the proof behind every figure.

A job is a number. Each process counts in a file of its own, which it has mapped into its memory: that costs
no more than a list, outlives a ``kill -9``, and can be read by the others while it is written.
"""

import mmap
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

#: The most runs of one job that are told apart: more fit into no byte.
_MOST: Final = 255

#: Bytes of one time: a double.
_TIME: Final = 8


class Tally:
    """What this process has run of so many jobs. Threads may share it: no two run the same delivery."""

    def __init__(self, folder: Path, jobs: int) -> None:
        """``folder`` is shared by all processes that run these jobs, of which there are some, and by nobody else."""
        self.jobs: Final = jobs
        self._path: Final = folder / f"tally-{os.getpid()}"
        with self._path.open("w+b") as file:
            file.truncate(jobs * (1 + _TIME))
            self._map: Final = mmap.mmap(file.fileno(), 0)
        self._counts: Final = memoryview(self._map)[-jobs:]
        self._times: Final = memoryview(self._map)[: jobs * _TIME].cast("d")

    def ran(self, number: int) -> None:
        """Count a run of a job."""
        if self._counts[number] < _MOST:
            self._counts[number] += 1

    def started(self, number: int) -> None:
        """Count a run of a job, and note the time if it is the first."""
        if not self._counts[number]:
            self._times[number] = time.monotonic()
        self.ran(number)

    @property
    def distinct(self) -> int:
        """How many jobs have run at least once in this process."""
        return self.jobs - self._counts.tobytes().count(0)

    def close(self) -> None:
        """Let the file go; what it says stays."""
        self._counts.release()
        self._times.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tallies:
    """What all processes together have run, read from their files: as far as they are now."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self._folder = folder
        self.jobs: Final = jobs

    @property
    def ran(self) -> int:
        """How many jobs have run at least once."""
        return self.jobs - self.lost

    @property
    def lost(self) -> int:
        """How many have not."""
        counts = [each for each, _ in self._files()]
        if len(counts) <= 1:
            return counts[0].count(0) if counts else self.jobs
        # As a number a file of counts is zero just where all of it is; joined bytewise, where all files are.
        joined = 0
        for each in counts:
            joined |= int.from_bytes(each, "big")
        return joined.to_bytes(self.jobs, "big").count(0)

    @property
    def missing(self) -> list[int]:
        """The numbers of those that have not run."""
        counts = [each for each, _ in self._files()]
        return [number for number in range(self.jobs) if not any(each[number] for each in counts)]

    @property
    def duplicates(self) -> int:
        """Runs beyond the first of each job."""
        return sum(sum(each) for each, _ in self._files()) - self.ran

    def times(self) -> list[float]:
        """When each job started first, on `time.monotonic`; 0 for one that did not."""
        first = [0.0] * self.jobs
        for _, times in self._files():
            for number, at in enumerate(times):
                if at and (not first[number] or at < first[number]):
                    first[number] = at
        return first

    def _files(self) -> Iterator[tuple[bytes, "memoryview[float]"]]:
        for path in sorted(self._folder.glob("tally-*")):
            with suppress(FileNotFoundError):
                data = path.read_bytes()
                if len(data) == self.jobs * (1 + _TIME):  # else it is just being made
                    yield data[-self.jobs :], memoryview(data)[: self.jobs * _TIME].cast("d")
