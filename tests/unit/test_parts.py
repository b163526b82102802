"""The engine's small parts, each by itself."""

import asyncio
import os
import random
from collections.abc import Sequence

import pytest

from headrace.availability import Availability
from headrace.batching import Batcher
from headrace.errors import BackendUnavailable
from headrace.ids import new_id
from headrace.notes import make_note, note_of


async def test_what_comes_in_during_a_call_goes_out_with_the_next() -> None:
    calls: list[list[int]] = []
    gate = asyncio.Event()

    async def call(items: Sequence[int]) -> None:
        calls.append(list(items))
        await gate.wait()

    batcher = Batcher(call, 100)
    batcher.add(1)
    while not calls:
        await asyncio.sleep(0)
    for number in range(2, 6):
        batcher.add(number)
    assert calls == [[1]]
    gate.set()
    await batcher.drain()
    assert calls == [[1], [2, 3, 4, 5]]
    assert batcher.idle


async def test_no_call_is_larger_than_the_largest_batch() -> None:
    calls: list[int] = []

    async def call(items: Sequence[int]) -> None:
        calls.append(len(items))

    batcher = Batcher(call, 10)
    for number in range(25):
        batcher.add(number)
    await batcher.drain()
    assert calls == [10, 10, 5]


async def test_an_abandoned_batcher_gives_back_what_waited() -> None:
    async def call(items: Sequence[int]) -> None:
        await asyncio.sleep(60)

    batcher = Batcher(call, 2)
    for number in range(5):
        batcher.add(number)
    await asyncio.sleep(0.01)
    assert batcher.abandon() == [2, 3, 4]
    await batcher.drain()
    assert batcher.idle


async def test_a_lost_backend_is_told_once_and_its_return_too() -> None:
    told: list[object] = []
    availability = Availability(told.append, lambda seconds: told.append("back")).caller("call")
    answers = iter([BackendUnavailable("first"), BackendUnavailable("second"), 5])

    async def call() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await availability.insist(call) == (5, True)
    assert [str(each) for each in told] == ["first", "back"]
    answers = iter([7])
    assert await availability.insist(call) == (7, False)


def test_a_note_is_never_over_16_kib_and_keeps_the_end_of_its_traceback() -> None:
    def deeper(depth: int) -> None:
        if depth:
            deeper(depth - 1)
        raise ValueError("é" * 10_000)

    with pytest.raises(ValueError, match="é") as caught:
        deeper(200)
    note = note_of(caught.value)
    assert len((note.type + note.message + note.traceback).encode()) < 16 * 1024
    assert note.type == "ValueError"
    assert note.message.endswith("...")
    assert note.traceback.startswith("...")
    assert make_note("X", "\ud800").message == "?"


def test_an_error_whose_text_cannot_be_had_still_makes_a_note() -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert note_of(Unspeakable()).message == "(its text could not be had: RuntimeError)"


def test_ids_are_uuids_of_version_7_that_differ_and_are_in_order_of_time() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 32 and each[12] == "7" and each[16] in "89ab" for each in ids)
    assert [each[:12] for each in ids] == sorted(each[:12] for each in ids)


def test_ids_differ_after_a_fork_and_whatever_the_program_seeds() -> None:
    new_id()
    reading, writing = os.pipe()
    random.seed(5)
    child = os.fork()
    ids = {new_id()[16:] for _ in range(100)}
    if not child:
        # In the child nothing of pytest may run on.
        os.write(writing, " ".join(ids).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        of_child = set(file.read().split())
    os.waitpid(child, 0)
    random.seed(5)
    again = {new_id()[16:] for _ in range(100)}
    assert len(ids | of_child | again) == 300
