"""Delays: the ways to say one, and how one that is longer than the backend's longest is carried.

Such a delay is made of hops. A hop ends with a delivery, which is given back for the next
one; headers tell how much is left then. What is left is counted twice: in seconds, which
no wrong clock can make longer, and by the time of day that it is due, so that an outage
between two hops is not added to the delay.
"""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from headrace.driver import Message
from headrace.errors import JobError
from headrace.options import Delay
from headrace.settings import LONGEST

#: Seconds of delay still to wait after this hop. A message that has it is not for running yet.
REMAINING_HEADER: Final = "headrace-remaining"
#: When the whole delay ends, in seconds since the epoch.
DUE_HEADER: Final = "headrace-due"


def seconds_of(delay: Delay | None) -> float:
    """Any way to say a delay, as seconds from now; never below 0. Raises `JobError`."""
    if delay is None:
        return 0.0
    if isinstance(delay, datetime):
        if delay.tzinfo is None:
            raise JobError(f"delay is the naive datetime {delay}; give it a timezone")
        delay = delay - datetime.now(UTC)
    if isinstance(delay, timedelta):
        return max(0.0, delay.total_seconds())
    if isinstance(delay, bool) or not isinstance(delay, int | float) or delay != delay or delay == float("inf"):
        raise JobError(f"delay is {delay!r}; it must be seconds, a timedelta or an aware datetime")
    if not -LONGEST <= delay <= LONGEST:  # an int knows no bound, and its text may be one that Python does not write
        raise JobError("delay is a number of hundreds of digits; it must be seconds, a timedelta or an aware datetime")
    if delay < 0:
        raise JobError(f"delay is {delay!r} seconds; it cannot be negative")
    return float(delay)


def split(message: Message, delay: float, longest: float, now: Callable[[], float] = time.time) -> Message:
    """The message, to be stored so that it falls due after ``delay`` seconds: at once or by hops of ``longest``."""
    headers = message.headers
    if delay > longest:
        headers = {**headers, REMAINING_HEADER: repr(delay - longest), DUE_HEADER: repr(now() + delay)}
        delay = longest
    elif delay == message.delay:
        return message
    return msgspec.structs.replace(message, delay=delay, headers=headers)


def is_hop(message: Message) -> bool:
    """Whether a delivered message has only ended a hop, and its delay is not over."""
    return REMAINING_HEADER in message.headers


def after_hop(message: Message, now: Callable[[], float] = time.time) -> Message:
    """A message that has ended a hop, as it was before `split`: its ``delay`` is all that is left."""
    headers = dict(message.headers)
    try:
        remaining = float(headers.pop(REMAINING_HEADER))
        due = headers.pop(DUE_HEADER, None)
        if due is not None:
            remaining = min(remaining, float(due) - now())
    except ValueError:
        headers.pop(DUE_HEADER, None)
        remaining = 0.0
    if not math.isfinite(remaining):  # which we have not written
        remaining = 0.0
    return msgspec.structs.replace(message, delay=max(0.0, remaining), headers=headers)
