"""What jobs did, written where it outlives whoever did it: a worker that is killed takes nothing of it along."""

import os
import time
from collections import Counter
from pathlib import Path

import msgspec


class Entry(msgspec.Struct, frozen=True):
    """One thing that happened to a job."""

    word: str  #: what: ``ran``, ``began`` ...
    key: str  #: which job of the case
    attempt: int
    pid: int  #: the process that wrote this
    time: float  #: seconds on `time.monotonic`, which the processes of one machine share


class Ledger:
    """A file that any number of processes append to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Entry)

    def write(self, word: str, key: str, attempt: int = 0) -> None:
        line = self._encoder.encode(Entry(word, key, attempt, os.getpid(), time.monotonic())) + b"\n"
        # One short append is one write: a kill leaves a whole line or none.
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)

    def entries(self, *words: str) -> list[Entry]:
        """What was written, in that order; of some words if any are named."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        # A reader may come upon a line in the midst of being written; it ends what there is.
        found = [self._decoder.decode(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
        return [each for each in found if not words or each.word in words]

    def keys(self, *words: str) -> list[str]:
        """The jobs that something was written of, in that order, each as often as it was."""
        return [each.key for each in self.entries(*words)]

    def counts(self, *words: str) -> Counter[str]:
        """How often something was written of each job."""
        return Counter(self.keys(*words))
