"""A fake clock stands still until it is moved, and serves whatever takes a clock."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from headrace.driver import Message
from headrace.testing import FakeClock
from headrace_memory.backend import MemoryBackend
from headrace_sqlite.backend import SqliteBackend


def test_it_starts_at_the_present_or_where_one_says() -> None:
    clock = FakeClock()
    assert abs(clock() - time.monotonic()) < 60
    assert abs(clock.wall() - time.time()) < 60
    assert (FakeClock(5.0, 7.0).now(), FakeClock(5.0, 7.0).wall()) == (5.0, 7.0)


def test_it_moves_when_it_is_told_to_and_only_forward() -> None:
    clock = FakeClock(1000.0, 2000.0)
    assert clock() == clock.elapsed() == clock.now() == 1000.0
    clock.advance(2.5)
    assert (clock(), clock.elapsed(), clock.wall()) == (1002.5, 1002.5, 2002.5)
    for wrong in (-1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="forward"):
            clock.advance(wrong)
    assert clock() == 1002.5


async def test_timers_fire_in_their_order_once_their_time_has_come() -> None:
    clock, fired = FakeClock(), list[str]()
    clock.call_later(20, fired.append, "second")
    clock.call_later(10, fired.append, "first")
    cancelled = clock.call_later(5, fired.append, "cancelled")
    clock.call_later(30, fired.append, "third")
    cancelled.cancel()
    await clock.advance(19)
    await asyncio.sleep(0)
    assert fired == ["first"]
    clock.advance(11)
    await asyncio.sleep(0)
    assert fired == ["first", "second", "third"]
    cancelled.cancel()


async def test_a_timer_fires_on_its_own_loop_whichever_thread_moves_the_clock() -> None:
    clock, fired = FakeClock(), asyncio.Event()
    threads: list[threading.Thread] = []

    def fire() -> None:
        threads.append(threading.current_thread())
        fired.set()

    clock.call_later(1, fire)
    await asyncio.to_thread(clock.advance, 1)
    await asyncio.wait_for(fired.wait(), 5)
    assert threads == [threading.current_thread()]


def test_a_timer_of_a_loop_that_has_ended_is_forgotten() -> None:
    clock = FakeClock()

    async def set_one() -> None:
        clock.call_later(1, pytest.fail, "there is no loop any more")

    asyncio.run(set_one())
    clock.advance(1)


async def test_it_is_a_clock_of_the_memory_backend_and_a_machine_of_sqlite(tmp_path: Path) -> None:
    clock = FakeClock()
    for backend in (MemoryBackend(clock), SqliteBackend(tmp_path / "jobs.db", machine=clock)):
        await backend.open()
        driver = backend.driver("{q}", lease_seconds=30)
        await driver.delay([Message(id="a", name="Job", body=b"{}", delay=60)])
        clock.advance(59.9)
        assert list(await driver.pop(1, 0)) == []
        clock.advance(0.2)
        assert len(await driver.pop(1, 0)) == 1
        clock.advance(29.9)
        assert list(await driver.pop(1, 0)) == []
        clock.advance(0.2)
        (again,) = await driver.pop(1, 0)
        assert again.count == 2
        await backend.close()
