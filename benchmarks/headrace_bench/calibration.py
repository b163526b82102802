"""A fixed piece of work that tells whether something else uses the machine.

Noise on a shared machine is seldom small and lasting; mostly another program takes a processor
for a second. So the same work is timed before and after each run, and where it took longer than
it does at best, the run beside it is marked.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import Final

from headrace_bench.results import Calibration, Run

#: How many times the shortest time seen is still quiet: beyond what two calibrations of a quiet machine differ by.
TOLERANCE: Final = 1.3

#: Rounds of the work: some hundredths of a second, long enough to be interrupted where others are busy.
_ROUNDS: Final = 12_000


def measure() -> float:
    """Seconds that the work takes now. It is of the kind that queues do: objects, small hashes, bytes."""
    began = time.perf_counter()
    seen: dict[bytes, int] = {}
    for number in range(_ROUNDS):
        key = hashlib.blake2b(b"%d" % number, digest_size=8).digest()
        seen[key] = seen.get(key, 0) + number
    return time.perf_counter() - began


def judge(runs: Iterable[Run], seen: Sequence[float]) -> Calibration | None:
    """Mark the runs that were disturbed, by all calibrations of the session; ``None`` if there were none."""
    if not seen:
        return None
    reference = min(seen)
    for each in runs:
        each.disturbed = each.calibration > TOLERANCE * reference
    return Calibration(reference, TOLERANCE)
