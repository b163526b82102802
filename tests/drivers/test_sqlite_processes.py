"""One file and several processes: sharing, waking, dying and forking."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.errors import BackendError
from headrace_sqlite.backend import SqliteBackend
from headrace_sqlite.disk import Log
from headrace_sqlite.watch import Watch

from .helpers import counts, drain, ids, message, messages

Make = Callable[..., SqliteBackend]
PROGRAMS = Path(__file__).with_name("programs.py")


def start(name: str, path: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(PROGRAMS), name, str(path), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def run(name: str, path: Path, *arguments: str) -> str:
    """Run a program to its end and return what it said."""
    with start(name, path, *arguments) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return said


def kill(process: "subprocess.Popen[str]") -> list[str]:
    """Kill a program as it stands and return the words that it had said in full lines."""
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return said[: said.rfind("\n") + 1].split()


async def test_processes_never_share_a_delivery(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    consumers = [start("consume", path) for _ in range(3)]
    sent = messages(1500)
    for at in range(0, 1500, 50):
        await driver.push(sent[at : at + 50])
    said = [await asyncio.to_thread(consumer.communicate, None, 60) for consumer in consumers]
    acked = [word for words, _ in said for word in words.split() if word != "ready"]
    assert sorted(acked) == sorted(sent_.id for sent_ in sent)
    assert await counts(driver) == {}


async def test_a_push_of_another_process_wakes_a_waiting_pop(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    waiting = asyncio.create_task(driver.pop(10, 20))
    await asyncio.sleep(0.05)
    pusher = start("push", path, "p", "10")
    assert len(await waiting) == 10
    await asyncio.to_thread(pusher.communicate, None, 60)


async def test_what_a_killed_process_had_confirmed_is_there(sqlite: Make, path: Path) -> None:
    confirmed: list[str] = []
    for attempt in range(3):
        process = start("push", path, str(attempt))
        assert process.stdout is not None
        for _ in range(5 * attempt + 1):
            await asyncio.to_thread(process.stdout.readline)
        confirmed += kill(process)
    backend = sqlite()
    await backend.open()
    assert set(confirmed) <= set(ids(await drain(backend.driver("{q}"), 1000)))


async def test_what_a_killed_process_had_reserved_comes_back_by_its_lease(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("a")])
    process = start("hold", path, "0.5")
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "a\n"
    kill(process)
    (delivery,) = await driver.pop(1, 20)
    assert (delivery.message.id, delivery.count) == ("a", 2)


def test_the_log_stays_small_though_every_process_is_killed(path: Path) -> None:
    sizes = []
    for attempt in range(5):
        process = start("push", path, str(attempt), "1000000", "20000")
        deadline = time.monotonic() + 20
        log = path.with_name("queue.db-wal")
        while time.monotonic() < deadline and (path.stat().st_size if path.exists() else 0) < (attempt + 1) * 3_000_000:
            time.sleep(0.01)
        kill(process)
        sizes.append(log.stat().st_size)
    assert max(sizes) < 12_000_000


@pytest.mark.parametrize("verb", ["close", "push"])
def test_a_backend_can_be_closed_when_the_interpreter_starts_no_threads_any_more(path: Path, verb: str) -> None:
    """As a script does that only pushed, from code without an event loop."""
    run("leave", path, verb)
    assert [file.name for file in path.parent.iterdir()] == ["queue.db"]
    assert asyncio.run(_left(path)) == (["a"] if verb == "close" else ["a", "late"])


async def _left(path: Path) -> list[str]:
    backend = SqliteBackend(path)
    await backend.open()
    left = ids(await drain(backend.driver("{q}")))
    await backend.close()
    return left


def test_a_worker_whose_disk_was_full_goes_on_and_loses_nothing(path: Path) -> None:
    said = run("work_when_full", path).splitlines()
    assert said == ["full", "every job ran", "nothing is left"]


async def test_a_commit_wakes_those_whom_it_concerns_and_looks_for_nobody_else(
    sqlite: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{busy}")
    idle = [asyncio.create_task(backend.driver(f"{{{n}}}").pop(1, 20)) for n in range(20)]
    await driver.push(messages(3))
    await asyncio.sleep(0.1)
    looked = 0
    look = Watch._next

    def counted(watch: Watch, queue: int) -> float:
        nonlocal looked
        looked += 1
        return look(watch, queue)

    monkeypatch.setattr(Watch, "_next", counted)
    touched: list[Log] = []
    monkeypatch.setattr(Log, "touch", lambda log: touched.append(log))
    for _ in range(3):
        (held,) = await driver.pop(1, 0)
        await driver.extend([held.receipt], 60)
        await driver.ack([held.receipt])
        await asyncio.sleep(0.01)
    assert looked == 3  # each pop for itself
    assert not touched
    await driver.push([message()])
    await asyncio.sleep(0.05)
    assert looked == 3
    assert len(touched) == 1
    await backend.driver("{7}").push([message("a")])
    assert ids(await idle[7]) == ["a"]
    for task in idle:
        task.cancel()
    await asyncio.wait(idle)


async def test_an_opened_backend_is_refused_in_a_forked_child(sqlite: Make) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("a")])

    read, write = os.pipe()
    child = await asyncio.to_thread(_fork, driver, write)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    os.close(write)
    with os.fdopen(read) as said:
        text = said.read()
    assert (os.waitstatus_to_exitcode(status), text.count("do not survive a fork")) == (0, 4), text
    assert ids(await driver.pop(1, 0)) == ["a"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def _fork(driver: object, write: int) -> int:
    child = os.fork()
    if child:
        return child
    try:
        asyncio.run(_use(driver, write))
    finally:
        os._exit(0)


async def _use(driver: object, write: int) -> None:
    for call in (
        lambda: driver.push([message()]),  # type: ignore[attr-defined]
        lambda: driver.pop(1, 0),  # type: ignore[attr-defined]
        lambda: driver.info(),  # type: ignore[attr-defined]
        lambda: driver.wait_ready(0),  # type: ignore[attr-defined]
    ):
        try:
            await call()
        except BackendError as error:
            os.write(write, f"{error}\n".encode())
