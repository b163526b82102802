"""The threads in which plain handlers run, and how what they have done comes back."""

import asyncio
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from headrace.threads import Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(2, "of-a-test")
    yield threads
    threads.close(wait=True)
    assert not any(each.name.startswith("of-a-test") for each in threading.enumerate())


async def test_what_a_call_returns_or_raises_comes_back(threads: Threads) -> None:
    assert await threads.run(lambda: threading.current_thread().name) == "of-a-test_0"

    def exit_thread() -> None:
        raise SystemExit(3)

    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 / 0)
    with pytest.raises(SystemExit):
        await threads.run(exit_thread)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.run(lambda: next(iter(())))


async def test_of_many_calls_none_is_forgotten(threads: Threads) -> None:
    numbers = range(5000)
    assert await asyncio.gather(*(threads.run(partial(int, number)) for number in numbers)) == [*numbers]


async def test_what_was_cancelled_before_it_began_is_not_done(threads: Threads) -> None:
    may_end, done = threading.Event(), list[str]()
    held = [threads.run(may_end.wait) for _ in range(2)]
    late = threads.run(lambda: done.append("late"))
    late.cancel()
    may_end.set()
    assert await asyncio.gather(*held) == [True, True]
    await threads.run(lambda: done.append("after"))
    assert done == ["after"]


def test_one_loop_may_follow_another_and_whoever_left_is_not_waited_for(threads: Threads) -> None:
    may_end = threading.Event()

    async def leave() -> None:
        threads.run(may_end.wait)

    async def call() -> str:
        return await threads.run(lambda: "done")

    asyncio.run(leave())
    assert asyncio.run(call()) == "done"
    may_end.set()
    assert asyncio.run(call()) == "done"


async def test_what_has_not_begun_when_they_are_closed_never_does() -> None:
    threads = Threads(1, "of-a-test")
    may_end, done = threading.Event(), list[str]()
    began = threads.run(may_end.wait)
    never = threads.run(lambda: done.append("never"))
    threads.close()
    may_end.set()
    assert await began
    threads.close(wait=True)
    never.cancel()
    assert done == []
