"""How much of a queue to have at hand: judged from how long its jobs really take.

Enough for about a tenth of a second beyond the free slots: short jobs never wait for the
backend, and long ones are left to whoever is free. Owns no deliveries and reads no clock.
"""

from typing import Final

#: Seconds of work to have at hand: longer than any round trip, short enough that nobody waits for it.
AHEAD_SECONDS: Final = 0.1
#: Seconds between two looks at how fast jobs go; shorter ones would measure chance.
MEASURE_SECONDS: Final = 0.01
#: A rate this many times below the last one is believed at once: what was short has become long.
_DROP: Final = 4


class Prefetch:
    """The measured rate of one queue, and what follows from it."""

    def __init__(self, largest: int) -> None:
        """``largest``: how many deliveries one call can bring."""
        self.low = 0  #: take more when no more than this is at hand
        self._ahead = 0
        self._largest = largest
        self._rate = 0.0
        self._looked_at = 0.0
        self._ended = 0

    def measure(self, now: float, ended: int) -> None:
        """Look again: ``ended`` jobs have ended until ``now``."""
        elapsed = now - self._looked_at
        if elapsed < MEASURE_SECONDS:
            return
        rate = (ended - self._ended) / elapsed
        self._looked_at, self._ended = now, ended
        self._set_rate(rate if rate < self._rate / _DROP else (self._rate + rate) / 2)

    def forget(self) -> None:
        """What was at hand did not start: begin from nothing."""
        self._set_rate(0.0)

    def demand(self, free: int) -> int:
        """How many to ask for, with ``free`` slots more than deliveries at hand; 0 if it is not yet time."""
        wanted = free + self._ahead
        return min(wanted, self._largest) if wanted >= max(1, self.low) else 0

    def _set_rate(self, rate: float) -> None:
        self._rate = rate
        self._ahead = min(int(rate * AHEAD_SECONDS), self._largest)
        # Half of it: one call is under way while the other half runs.
        self.low = self._ahead // 2
