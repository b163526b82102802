"""The open loop: what is slow is counted, and does not slow the sending."""

import asyncio
import itertools
import time

import pytest

from headrace_bench.pacing import send_at_rate


async def test_each_has_its_time_whatever_becomes_of_those_before() -> None:
    async def send(number: int) -> None:
        await asyncio.sleep(0.3 if number == 0 else 0)

    began = time.monotonic()
    due = await send_at_rate(100, 20, send)
    gaps = {round(after - before, 6) for before, after in itertools.pairwise(due)}
    assert gaps == {0.01}
    assert time.monotonic() - began < 5


async def test_a_stall_is_counted_in_the_latency_of_all_that_were_due_during_it() -> None:
    sent: list[float] = []

    async def send(number: int) -> None:
        if number == 10:
            time.sleep(0.3)
        sent.append(time.monotonic())

    due = await send_at_rate(100, 60, send)
    late = [at - was_due for at, was_due in zip(sent, due, strict=True)]
    assert max(late) >= 0.25
    # 0.3 s at 100 a second: about thirty were due in that time, and a closed loop would tell of one.
    assert sum(each > 0.05 for each in late) >= 20


async def test_what_a_send_raises_is_raised_when_all_have_ended() -> None:
    ended = []

    async def send(number: int) -> None:
        if number == 1:
            raise ValueError("no")
        await asyncio.sleep(0.05)
        ended.append(number)

    with pytest.raises(ValueError, match="no"):
        await send_at_rate(1000, 4, send)
    assert ended == [0, 2, 3]
