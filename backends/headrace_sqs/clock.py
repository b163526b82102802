"""Time: the clock that leases follow here, what is known of SQS's own, and seconds as SQS counts them.

A lease begins when SQS reserves a message, which for a request that waits may be any moment until it is
answered. SQS tells that moment by its clock; when it was by ours follows from the answers to other requests, each
of which was given between two readings of our clock. So a process that was stopped while an
answer lay in its socket knows that the lease has ended.
"""

import math
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final

#: Counts while the machine sleeps, where there is such a clock: a lease is then over when the lid is opened.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

#: Seconds that a date may be before the moment at which it was made.
_DATE_PRECISION: Final = 1.0


def now() -> float:
    """Seconds by the clock that leases follow here; nobody sets it."""
    return time.clock_gettime(_CLOCK)


def whole(seconds: float) -> int:
    """Seconds as SQS counts them: whole ones, at least one, none too few."""
    return max(1, math.ceil(seconds - 1e-9))


class ServerClock:
    """How far SQS's clock is ahead of ours at most, which each answer may tell better."""

    def __init__(self) -> None:
        self._most_ahead = math.inf

    def learn(self, began: float, answer: Mapping[str, Any]) -> None:
        """Take in an answer to a request that was sent after ``began``."""
        date = date_of(answer)
        if date is not None:
            self._most_ahead = min(self._most_ahead, date + _DATE_PRECISION - began)

    def latest(self) -> float:
        """SQS's time at this moment, or after that."""
        return now() + self._most_ahead

    def earliest(self, time_there: float) -> float:
        """Our time at a moment of SQS's, or before that."""
        return time_there - self._most_ahead


def date_of(answer: Mapping[str, Any]) -> float | None:
    """When SQS answered, by its clock, in seconds since the epoch; up to a second too early."""
    date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    return None if date is None else parsedate_to_datetime(date).timestamp()


def time_of(answer: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> float:
    """The same, or when one of its messages was received for the first time, if that is later: it is exact."""
    times = [int(each["Attributes"].get("ApproximateFirstReceiveTimestamp", 0)) / 1000 for each in messages]
    return max([date_of(answer) or 0.0, *times])
