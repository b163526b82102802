"""Sending at a fixed rate, as an open loop: the times are set beforehand, and nothing that is slow moves them.

A loop that waits for one answer before it sends the next stops sending just when things are slow, and so
leaves out what it was to measure ("coordinated omission": Gil Tene). Here each item has its time, and its latency
counts from that, whether or not it could be sent then.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

#: Seconds until the first item: time to begin without being late.
_LEAD: Final = 0.05


async def send_at_rate(rate: float, count: int, send: Callable[[int], Awaitable[object]]) -> list[float]:
    """Call ``send`` with 0 to ``count`` - 1, ``rate`` times a second; returns when all have returned.

    Returns the times at which each was due, on `time.monotonic`. Raises what the first one that failed raised,
    after all have ended.
    """
    begin = time.monotonic() + _LEAD
    due = [begin + number / rate for number in range(count)]
    sending = []
    for number, at in enumerate(due):
        if (pause := at - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        elif number % 16 == 0:
            await asyncio.sleep(0)  # late: let what has been sent proceed
        sending.append(asyncio.ensure_future(send(number)))
    for outcome in await asyncio.gather(*sending, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
    return due
