"""The backend that misbehaves as it is told, held against one that does not."""

import asyncio
import multiprocessing
import pickle
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, Job
from headrace.conformance.faulty import Fault, FaultyBackend
from headrace.driver import Driver, Message, Settled
from headrace.errors import BackendUnavailable
from headrace_memory.backend import MemoryBackend

MakeDriver = Callable[..., Driver]

served: list[int] = []


class Serve(Job, name="faulty.Serve", queue="faulty"):
    number: int

    async def handle(self) -> None:
        served.append(self.number)


def message(name: str) -> Message:
    return Message(id=name, name="x", body=b"")


@pytest.fixture
async def inner() -> AsyncIterator[MemoryBackend]:
    backend = MemoryBackend()
    await backend.open()
    yield backend
    await backend.close()


async def waiting(inner: MemoryBackend) -> int | None:
    return (await inner.driver("q").info()).waiting


async def test_without_faults_everything_passes(inner: MemoryBackend) -> None:
    backend = FaultyBackend(inner)
    driver = backend.driver("q")
    assert backend.capabilities == inner.capabilities
    assert backend.place == inner.place
    assert await driver.push([message("a"), message("b")]) == ["a", "b"]
    assert await driver.wait_ready(0)
    first, second = await driver.pop(2, 0)
    assert await driver.extend([first.receipt], 5) == [Settled.DONE]
    assert await driver.ack([first.receipt]) == [Settled.DONE]
    assert await driver.fail([(second.receipt, second.message)], "failed") == [Settled.DONE]
    assert [each.id for each in (await driver.peek("failed", 5)).messages] == ["b"]
    assert await driver.reload("failed") == 1
    assert await driver.cancel("b")
    assert await driver.flush("delayed") == 0
    assert await driver.forget("failed", ["b"]) == 0
    await driver.destroy()
    assert backend.happened == ()


async def test_a_call_that_fails_before_has_done_nothing(inner: MemoryBackend) -> None:
    driver = FaultyBackend(inner, Fault("push", "fail", at=2)).driver("q")
    await driver.push([message("a")])
    with pytest.raises(BackendUnavailable, match="push was not sent"):
        await driver.push([message("b")])
    await driver.push([message("c")])
    assert await waiting(inner) == 2


async def test_a_call_that_fails_after_has_taken_effect(inner: MemoryBackend) -> None:
    backend = FaultyBackend(inner, Fault("push", "fail", when="after", every=2))
    driver = backend.driver("q")
    for name in "abcd":
        if name in "bd":
            with pytest.raises(BackendUnavailable, match="the answer to push was lost"):
                await driver.push([message(name)])
        else:
            await driver.push([message(name)])
    assert await waiting(inner) == 4
    assert len(backend.happened) == 2


async def test_a_duplicated_call_gives_the_second_answer(inner: MemoryBackend) -> None:
    driver = FaultyBackend(inner, Fault("ack", "duplicate")).driver("q")
    await driver.push([message("a")])
    (delivery,) = await driver.pop(1, 0)
    assert await driver.ack([delivery.receipt]) == [Settled.STALE]
    assert (await inner.driver("q").info()).reserved == 0


async def test_reordered_deliveries_are_the_same_in_another_order(inner: MemoryBackend) -> None:
    orders = []
    for prefix in ("one", "two"):
        driver = FaultyBackend(inner, Fault("pop", "reorder", seed=7)).driver(prefix)
        await driver.push([message(str(number)) for number in range(20)])
        orders.append([each.message.id for each in await driver.pop(20, 0)])
    assert orders[0] == orders[1] != sorted(orders[0], key=int)
    assert len(set(orders[0])) == 20


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_delayed_call_takes_longer(inner: MemoryBackend, when: Any) -> None:
    driver = FaultyBackend(inner, Fault("*", "delay", when=when, seconds=0.1)).driver("q")
    began = time.monotonic()
    await driver.push([message("a")])
    assert time.monotonic() - began >= 0.09


async def test_a_lost_connection_fails_every_call_until_it_is_healed(inner: MemoryBackend) -> None:
    backend = FaultyBackend(inner)
    driver, clone = backend.driver("q"), backend.clone()
    pop = asyncio.create_task(driver.pop(1, 60))
    await asyncio.sleep(0)
    backend.disconnect()
    with pytest.raises(BackendUnavailable, match="lost during the call"):
        await pop
    with pytest.raises(BackendUnavailable, match="no connection"):
        await driver.push([message("a")])
    with pytest.raises(BackendUnavailable, match="no connection"):
        await clone.open()
    backend.heal()
    await clone.open()
    await clone.driver("q").push([message("a")])
    assert len(await driver.pop(1, 0)) == 1


async def test_a_connection_is_lost_on_other_threads_too(inner: MemoryBackend) -> None:
    backend = FaultyBackend(inner)

    async def pop() -> None:
        clone = backend.clone()
        await clone.open()
        await clone.driver("q").pop(1, 60)

    waiting = asyncio.create_task(asyncio.to_thread(asyncio.run, pop()))
    while not backend._course._running:
        await asyncio.sleep(0.01)
    backend.disconnect()
    with pytest.raises(BackendUnavailable):
        await waiting


async def test_a_connection_may_come_back_by_itself(inner: MemoryBackend) -> None:
    driver = FaultyBackend(inner, Fault("push", "disconnect", when="after", at=1, seconds=0.1)).driver("q")
    with pytest.raises(BackendUnavailable):
        await driver.push([message("a")])
    with pytest.raises(BackendUnavailable):
        await driver.info()
    await asyncio.sleep(0.1)
    assert (await driver.info()).waiting == 1


async def test_a_cancelled_pop_is_cancelled_inside(inner: MemoryBackend) -> None:
    driver = FaultyBackend(inner).driver("q")
    pop = asyncio.create_task(driver.pop(1, 60))
    await asyncio.sleep(0)
    pop.cancel()
    await asyncio.wait((pop,))
    assert pop.cancelled()
    await driver.push([message("a")])
    assert await waiting(inner) == 1


async def test_clones_share_the_count(inner: MemoryBackend) -> None:
    backend = FaultyBackend(inner, Fault("info", "fail", at=2))
    await backend.driver("q").info()
    with pytest.raises(BackendUnavailable):
        await backend.clone().driver("q").info()


async def test_chance_repeats_itself(inner: MemoryBackend) -> None:
    async def outcomes() -> list[bool]:
        driver = FaultyBackend(inner, Fault("info", "fail", probability=0.5, seed=3)).driver("q")
        found = []
        for _ in range(20):
            try:
                await driver.info()
                found.append(True)
            except BackendUnavailable:
                found.append(False)
        return found

    first = await outcomes()
    assert first == await outcomes()
    assert set(first) == {True, False}


def push_and_die(fault: Fault, path: str) -> None:
    async def push() -> None:
        backend = FaultyBackend(MemoryBackend(), fault)
        await backend.open()
        for number in range(5):
            await backend.driver("q").push([message(str(number))])
            with Path(path).open("a") as file:
                file.write("pushed\n")

    asyncio.run(push())


def test_a_process_is_killed_at_the_named_step(tmp_path: Path) -> None:
    fault = pickle.loads(pickle.dumps(Fault("push", "kill", when="after", at=3)))
    path = tmp_path / "log"
    child = multiprocessing.get_context("spawn").Process(target=push_and_die, args=(fault, str(path)))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    child.close()
    assert path.read_text() == "pushed\n" * 2


async def test_another_process_is_killed_and_the_call_goes_on(inner: MemoryBackend) -> None:
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    driver = FaultyBackend(inner, Fault("push", "kill", at=2, pid=server.pid)).driver("q")
    await driver.push([message("a")])
    assert server.returncode is None
    await driver.push([message("b")])
    assert await server.wait() == -signal.SIGKILL
    assert await waiting(inner) == 2


async def test_a_fault_that_strikes_once_strikes_only_the_first_that_it_comes_to(
    inner: MemoryBackend, tmp_path: Path
) -> None:
    began = time.monotonic()
    once = tmp_path / "struck"
    first, second = (FaultyBackend(inner, Fault("push", "fail", once=once)).driver("q") for _ in range(2))
    with pytest.raises(BackendUnavailable):
        await first.push([message("a")])
    assert await second.push([message("b")]) == ["b"]
    assert await first.push([message("c")]) == ["c"]
    assert began <= float(once.read_text()) <= time.monotonic()
    assert [*tmp_path.iterdir()] == [once]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"verb": "pops", "do": "fail"}, "verb is 'pops'"),
        ({"verb": "pop", "do": "explode"}, "do is 'explode'"),
        ({"verb": "pop", "do": "fail", "when": "during"}, "when is 'during'"),
        ({"verb": "pop", "do": "fail", "at": 1, "every": 2}, "only one"),
        ({"verb": "pop", "do": "fail", "at": 0}, "at is 0"),
        ({"verb": "pop", "do": "fail", "probability": 2}, "probability is 2"),
        ({"verb": "pop", "do": "delay", "seconds": -1}, "seconds is -1"),
        ({"verb": "ack", "do": "reorder"}, "the verb is 'ack'"),
        ({"verb": "ack", "do": "fail", "pid": 1}, "only a kill"),
        ({"verb": "ack", "do": "duplicate", "when": "after"}, "not after it"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(words: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Fault(**words)


async def test_handlers_can_be_tried_on_a_backend_that_fails_them(inner: MemoryBackend) -> None:
    served.clear()
    faults = [Fault("ack", "fail", when="after", every=2), Fault("pop", "fail", probability=0.2)]
    shaky = FaultyBackend(inner, *faults)
    config = {"backend": "shaky", "listeners": [], "queues": {"faulty": {"concurrent": {"limit": 1}}}}
    async with Headrace(config, backends={"shaky": shaky}) as app:
        await app.queue("faulty").push_many([Serve(number=number) for number in range(5)])
        await app.worker("faulty").run(until_empty=True)
    assert served == list(range(5))
    assert shaky.happened
