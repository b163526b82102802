"""The file: its birth, its rights, what is refused, and what goes wrong with it while it is in use."""

import asyncio
import contextlib
import errno
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from headrace.driver import Settled
from headrace.errors import BackendError, BackendUnavailable
from headrace_sqlite import disk
from headrace_sqlite.backend import SqliteBackend
from headrace_sqlite.disk import Log

from .helpers import counts, drain, ids, message, messages, shown
from .test_sqlite_processes import run

Make = Callable[..., SqliteBackend]


async def test_building_a_backend_touches_nothing(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    backend.driver("{q}")
    backend.clone()
    assert list(path.parent.iterdir()) == []


async def test_the_files_belong_to_their_owner_alone(sqlite: Make, path: Path) -> None:
    before = os.umask(0)
    try:
        backend = sqlite()
        await backend.open()
        await backend.driver("{q}").push([message()])
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"queue.db": 0o600, "queue.db-wal": 0o600, "queue.db-shm": 0o600}


async def test_closing_leaves_one_file_with_everything_in_it(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    await backend.open()
    await backend.driver("{q}").push([message("a")])
    await backend.close()
    assert [file.name for file in path.parent.iterdir()] == ["queue.db"]
    again = sqlite()
    await again.open()
    assert ids(await again.driver("{q}").pop(1, 0)) == ["a"]


async def test_closing_answers_what_was_asked_before(sqlite: Make) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("a")])
    pushed = asyncio.create_task(driver.push([message("b")]))
    await asyncio.sleep(0)
    await backend.close()
    assert await pushed == ["b"]
    with pytest.raises(BackendUnavailable, match="not open"):
        await driver.push([message("c")])


async def test_closing_twice_and_closing_unopened_do_nothing(sqlite: Make) -> None:
    backend = sqlite()
    await backend.close()
    await backend.open()
    await backend.close()
    await backend.close()


# What is refused at opening.


async def test_a_missing_folder_is_named(sqlite: Make, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"no folder .*/missing; create it"):
        await sqlite(file=tmp_path / "missing" / "queue.db").open()


async def test_a_folder_is_not_a_file(sqlite: Make, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="is a folder"):
        await sqlite(file=tmp_path).open()


async def test_a_file_that_is_no_database_is_left_alone(sqlite: Make, path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(BackendError, match=r"queue\.db is not an SQLite database") as caught:
        await sqlite().open()
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    assert path.read_bytes() == b"Dear diary, " * 1000


async def test_a_database_of_another_application_is_left_alone(sqlite: Make, path: Path) -> None:
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE diary (entry)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(BackendError, match="another application"):
        await sqlite().open()
    assert path.read_bytes() == before


async def test_a_file_of_a_later_version_is_refused(sqlite: Make, path: Path) -> None:
    first = sqlite()
    await first.open()
    await first.close()
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(BackendError, match=r"later headrace \(its version 99, ours 1\): upgrade"):
        await sqlite().open()


async def test_an_empty_file_becomes_a_queue(sqlite: Make, path: Path) -> None:
    path.touch()
    backend = sqlite()
    await backend.open()
    assert await backend.driver("{q}").push([message("a")]) == ["a"]


def test_a_read_only_file_says_so(path: Path) -> None:
    """In a child without root's rights, which no file would withstand."""
    asyncio.run(_create(path))
    path.chmod(0o444)
    path.parent.chmod(0o777)
    for folder in path.parents[1:]:
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)  # however deep the test's folder is, the way to it is open
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            asyncio.run(SqliteBackend(path).open())
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as said:
        assert "BackendError" in (text := said.read()), text
    assert "queue.db is read-only: make the file" in text


async def _create(path: Path) -> None:
    backend = SqliteBackend(path)
    await backend.open()
    await backend.close()


async def test_many_may_create_the_file_at_once(sqlite: Make) -> None:
    backends = [sqlite() for _ in range(8)]
    await asyncio.gather(*(asyncio.to_thread(asyncio.run, _create(Path(backend.place))) for backend in backends))
    await asyncio.gather(*(backend.open() for backend in backends))
    for backend in backends:
        await backend.driver("{q}").push(messages(3))
    assert len(await drain(backends[0].driver("{q}"))) == 24


# What goes wrong later, and that it passes.


async def test_a_file_locked_by_another_program_is_unavailable_until_it_is_free(sqlite: Make, path: Path) -> None:
    backend = sqlite(busy_seconds=0.1)
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("a"), message("b")])
    (held,) = await driver.pop(1, 0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(BackendUnavailable, match=r"queue\.db is locked by another program") as caught:
        await driver.push([message("c")])
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    with pytest.raises(BackendUnavailable, match="locked"):
        await driver.pop(1, 0)
    with pytest.raises(BackendUnavailable, match="locked"):
        await sqlite(busy_seconds=0.05).open()
    assert await counts(driver) == {"waiting": 1, "reserved": 1}
    other.execute("ROLLBACK")
    other.close()
    assert await driver.push([message("c")]) == ["c"]
    assert len(await driver.ack([held.receipt])) == 1
    assert ids(await driver.pop(9, 0)) == ["b", "c"]


async def test_a_lock_that_is_soon_gone_is_only_waited_for(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    pushing = asyncio.gather(*(driver.push([message()]) for _ in range(5)))
    await asyncio.sleep(0.05)
    assert not pushing.done()
    other.execute("ROLLBACK")
    other.close()
    assert len(await pushing) == 5


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_full_file_is_unavailable_until_there_is_space(sqlite: Make, key: str | None) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("a")])

    async def allow(pages: int) -> None:
        session = await backend.session()
        await session.transactions.submit(
            lambda connection, now: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        )

    await allow(1)  # no further than it is
    with pytest.raises(BackendUnavailable, match=r"queue\.db cannot grow, the disk is full"):
        await driver.push([message(body=b"x" * 1_000_000, unique_key=key)])
    assert await counts(driver) == {"waiting": 1}
    await allow(1_000_000)
    await driver.push([message("b", body=b"x" * 1_000_000)])
    assert ids(await driver.pop(9, 0)) == ["a", "b"]


def test_files_that_may_not_grow_lose_nothing(path: Path) -> None:
    said = run("fill", path).splitlines()
    assert "queue.db cannot" in said[0]
    assert said[1:] == ["True", "['after']", "True"]


async def test_a_damaged_file_says_so(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    await backend.open()
    await backend.driver("{q}").push(messages(1000, body=b"x" * 500))
    await backend.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(b"\xaa" * (size - 8 * 4096))
    damaged = sqlite()
    with pytest.raises(BackendError, match=r"queue\.db is damaged: restore"):
        await damaged.open()
        await drain(damaged.driver("{q}"))


async def test_a_damaged_row_is_handed_out_without_a_name_and_stops_no_other(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("a"), message("b"), message("c")])
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE message SET headers = '[[' WHERE id = 'a'")
        file.execute("UPDATE message SET note = 'x' WHERE id = 'b'")
    held = await driver.pop(9, 0)
    assert [(each.message.id, each.message.name) for each in held] == [("a", ""), ("b", ""), ("c", "Job")]
    assert await driver.ack([each.receipt for each in held]) == [Settled.DONE] * 3


FILES = ("queue.db", "queue.db-wal", "queue.db-shm")


def move(folder: Path, target: Path, names: Sequence[str] = FILES) -> None:
    target.mkdir(exist_ok=True)
    for name in names:
        (folder / name).rename(target / name)


@pytest.mark.parametrize("names", [FILES, FILES[:1]], ids=["with its log", "alone"])
async def test_a_file_that_is_moved_away_is_unavailable_until_it_is_back(
    sqlite: Make, path: Path, names: Sequence[str]
) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("a"), message("b")])
    (held,) = await driver.pop(1, 0)
    move(path.parent, path.parent / "elsewhere", names)
    for call in (driver.push([message()]), driver.pop(1, 0), driver.info(), driver.wait_ready(0)):
        with pytest.raises(BackendUnavailable, match=r"queue\.db is missing, it was removed or moved"):
            await call
    assert not path.exists()
    move(path.parent / "elsewhere", path.parent, names)
    assert ids(await driver.pop(9, 0)) == ["b"]
    assert await driver.ack([held.receipt]) == [Settled.DONE]


@pytest.mark.parametrize("gone", ["removed", "moved", "moved without its log"])
async def test_a_replaced_file_is_gone_over_to(sqlite: Make, path: Path, gone: str) -> None:
    backend = sqlite()
    await backend.open()
    driver, same = backend.driver("{q}"), backend.driver("{q}")
    await driver.push([message("old")])
    (held,) = await driver.pop(1, 0)
    waiting = asyncio.create_task(same.pop(1, 0.3))
    await asyncio.sleep(0.05)
    move(path.parent, path.parent / "old", FILES if gone != "moved without its log" else FILES[:1])
    if gone == "removed":
        shutil.rmtree(path.parent / "old")
    other = sqlite()
    await other.open()
    await other.driver("{q}").push([message("new")])
    assert await driver.ack([held.receipt]) == [Settled.STALE]
    assert ids(await waiting) in ([], ["new"])
    await driver.push([message("newer")])
    assert set(ids([*waiting.result(), *await drain(driver), *await drain(same)])) == {"new", "newer"}
    await other.close()
    await backend.close()
    if gone == "moved without its log":
        for log in path.parent.glob("queue.db-*"):
            log.rename(path.parent / "old" / log.name.rpartition(".")[0])
    if gone != "removed":
        old = sqlite(file=path.parent / "old" / "queue.db")
        await old.open()
        assert await counts(old.driver("{q}")) == {"reserved": 1}


async def test_a_copy_put_in_the_place_of_the_file_is_not_ruined_by_the_old_log(sqlite: Make, path: Path) -> None:
    first = sqlite()
    await first.open()
    await first.driver("{q}").push([message("kept")])
    await first.close()
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    backend = sqlite()
    await backend.open()
    clone = sqlite()
    await clone.open()
    driver = backend.driver("{q}")
    await driver.flush("waiting")
    await driver.push(messages(500, body=b"x" * 1000))
    copy.replace(path)
    assert await shown(driver, "waiting") == ["kept"]
    await driver.push([message("new")])
    assert await shown(clone.driver("{q}"), "waiting") == ["kept", "new"]
    await clone.driver("{q}").push([message("newer")])
    assert ids(await drain(driver)) == ["kept", "new", "newer"]
    checked = await (await backend.session()).read(
        lambda connection, now: connection.execute("PRAGMA integrity_check").fetchall()
    )
    assert checked == [("ok",)]


async def test_many_calls_at_once_go_over_to_a_replaced_file_together(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    await backend.open()
    drivers = [backend.driver(f"{{{n}}}") for n in range(20)]
    await asyncio.gather(*(driver.push([message()]) for driver in drivers))
    for name in FILES:
        (path.parent / name).unlink()
    await _create(path)
    await asyncio.gather(*(driver.push([message()]) for driver in drivers))
    assert [await counts(driver) for driver in drivers] == [{"waiting": 1}] * 20


async def test_closing_while_the_file_is_missing_or_replaced_ends(sqlite: Make, path: Path) -> None:
    missing, replaced = sqlite(), sqlite()
    for backend in (missing, replaced):
        await backend.open()
        await backend.driver("{q}").push([message()])
    for name in FILES:
        (path.parent / name).unlink()
    pushed = asyncio.create_task(missing.driver("{q}").push([message()]))
    await asyncio.sleep(0)
    await asyncio.wait_for(missing.close(), 5)
    with pytest.raises(BackendUnavailable):
        await pushed
    await _create(path)
    pushed = asyncio.create_task(replaced.driver("{q}").push([message()]))
    await asyncio.sleep(0)
    await asyncio.wait_for(replaced.close(), 5)
    with contextlib.suppress(BackendUnavailable):
        await pushed


async def test_a_file_that_is_replaced_by_somebody_elses_is_refused_and_left_alone(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("a")])
    move(path.parent, path.parent / "elsewhere")
    path.write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(BackendError, match="is not an SQLite database"):
        await driver.push([message("b")])
    path.unlink()
    move(path.parent / "elsewhere", path.parent)
    assert ids(await drain(driver)) == ["a"]


class FailingDisk:
    """Takes the place of the system's sync; as Linux does, it tells each descriptor of a failure only once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails = False
        self.seconds = 0.0
        self.synced: list[str] = []
        monkeypatch.setattr(disk, "_sync", self.sync)

    def sync(self, descriptor: int) -> None:
        time.sleep(self.seconds)
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        self.synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))


async def test_after_a_failed_sync_nothing_is_confirmed_before_the_log_is_written_again(
    sqlite: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("before")])
    failing = FailingDisk(monkeypatch)
    written: list[int] = []
    write = os.pwrite

    def watched(descriptor: int, block: bytes, place: int) -> int:
        written.append(len(block))
        other = sqlite3.connect(path, timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
        return write(descriptor, block, place)

    monkeypatch.setattr(os, "pwrite", watched)
    failing.fails = True
    results = await asyncio.gather(*(driver.push([message("a")]) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [BackendUnavailable] * 3
    for call in (driver.push([message("b")]), driver.pop(1, 0)):
        with pytest.raises(BackendUnavailable, match=r"queue\.db could not be synced to the disk: .*Input/output"):
            await call
    failing.fails = False
    written.clear()
    log = path.with_name("queue.db-wal")
    before = log.read_bytes()
    assert await driver.push([message("c")]) == ["c"]
    assert sum(written) == len(before)
    assert log.read_bytes().startswith(before)
    assert set(failing.synced) == {str(log)}
    assert ids(await drain(driver)) == ["before", "a", "c"]
    written.clear()
    failing.seconds = 0.02
    pushing = [asyncio.create_task(driver.push([message()])) for _ in range(3)]
    for _ in range(3):
        await asyncio.sleep(0.005)
        await driver.pop(1, 0)
    await asyncio.gather(*pushing)
    assert not written  # a sync under way is no failure
    failing.fails = True
    with pytest.raises(BackendUnavailable, match="could not be synced"):
        await driver.push([message()])
    failing.fails = False
    await backend.close()
    assert written  # once more, before the log is copied into the file
    assert [file.name for file in path.parent.iterdir()] == ["queue.db"]


async def test_of_two_syncs_at_once_the_failure_of_one_is_not_the_success_of_the_other(
    sqlite: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emptying of the log is told of the failure; those who wait for a sync of their own must be, too."""
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("a")])
    failing = FailingDisk(monkeypatch)
    log = Log(path, 4096)
    failing.fails = True
    with pytest.raises(OSError, match="Input/output"):
        log.empty(sqlite3.connect(":memory:"))
    failing.fails = False
    with pytest.raises(OSError, match="earlier"):
        log.sync()
    log.mend()
    log.sync()
    log.close()


async def test_a_sync_that_fails_for_a_full_log_leaves_the_log_as_it_is(
    sqlite: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = sqlite(synchronous="normal")
    await backend.open()
    driver = backend.driver("{q}")
    failing = FailingDisk(monkeypatch)
    failing.fails = True
    with pytest.raises(BackendUnavailable, match="could not be synced"):
        for n in range(10):
            await driver.push(messages(100, id=f"{n}", body=b"x" * 10_000)[:1] + messages(99, body=b"x" * 10_000))
    size = path.stat().st_size
    with pytest.raises(BackendUnavailable, match="could not be synced"):
        await driver.push([message("a")])
    assert path.stat().st_size == size
    failing.fails = False
    assert await driver.push([message("a")]) == ["a"]
    for _ in range(5):
        await driver.push(messages(100, body=b"x" * 10_000))
    assert path.stat().st_size > size


async def test_the_loop_goes_on_while_a_disk_that_was_quick_takes_its_time(
    sqlite: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    slow = FailingDisk(monkeypatch)
    for _ in range(3):
        await driver.push(messages(1))
    slow.seconds = 0.3
    pushing = asyncio.create_task(driver.push([message("a")]))
    turns = 0
    while not pushing.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert await pushing == ["a"]
    assert turns > 5


async def test_with_normal_synchronous_no_call_waits_for_the_disk(
    sqlite: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Log, "sync", lambda log: pytest.fail("synced"))
    backend = sqlite(synchronous="normal")
    await backend.open()
    assert await backend.driver("{q}").push([message("a")]) == ["a"]


async def test_one_failing_request_harms_none_of_its_neighbours(sqlite: Make) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("a")])
    bad = (await backend.session()).transactions.submit(
        lambda connection, now: connection.execute("nonsense"), durable=True
    )
    results = await asyncio.gather(
        driver.push([message("b")]), bad, driver.pop(1, 0), driver.push([message("c")]), return_exceptions=True
    )
    assert isinstance(results[1], BackendError)
    assert (results[0], ids(results[2]), results[3]) == (["b"], ["a"], ["c"])  # type: ignore[arg-type]
    assert await counts(driver) == {"waiting": 2, "reserved": 1}


async def test_a_message_that_cannot_be_stored_fails_alone(sqlite: Make) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    first, bad, last = await driver.push([message("a"), message("b", name="\ud800"), message("c")])
    assert (first, last) == ("a", "c")
    assert isinstance(bad, BackendError)
    assert "'b'" in str(bad)
    assert ids(await drain(driver)) == ["a", "c"]


async def test_a_message_that_cannot_be_stored_replaces_nothing(sqlite: Make) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("a", unique_key="k")])
    bad, good = await driver.push([message("b", name="\ud800", unique_key="k"), message("c", unique_key="l")])
    assert (isinstance(bad, BackendError), good) == (True, "c")
    assert ids(await drain(driver)) == ["a", "c"]


# The log.


async def test_the_log_stays_small_under_constant_load(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    log = path.with_name("queue.db-wal")
    for _ in range(60):
        await driver.push(messages(100, body=b"x" * 2000))
        held = await driver.pop(100, 0)
        await driver.ack([delivery.receipt for delivery in held])
        assert log.stat().st_size < 8_000_000


async def test_a_reader_that_holds_the_log_only_delays_its_emptying(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message()])
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM message").fetchone()
    for _ in range(10):
        await driver.push(messages(100, body=b"x" * 10_000))
    size = path.with_name("queue.db-wal").stat().st_size
    assert size > 10_000_000
    reader.execute("ROLLBACK")
    reader.close()
    await asyncio.sleep(1.1)  # until another try is due
    for _ in range(10):
        await driver.push(messages(100, body=b"x" * 10_000))
    assert path.with_name("queue.db-wal").stat().st_size < size + 3_000_000  # it went on for a batch or two
    assert path.stat().st_size > 10_000_000


async def test_nobody_can_write_while_the_log_is_emptied(
    sqlite: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied = []
    empty = Log.empty

    def watched(log: Log, connection: sqlite3.Connection) -> None:
        other = sqlite3.connect(path, timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        empty(log, connection)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
        emptied.append(connection)

    monkeypatch.setattr(Log, "empty", watched)
    backend = sqlite()
    await backend.open()
    for _ in range(3):
        await backend.driver("{q}").push(messages(400, body=b"x" * 5000))
    await backend.driver("{q}").push([message()])
    assert emptied
    pragma = "PRAGMA wal_autocheckpoint"
    read = await (await backend.session()).read(lambda connection, now: connection.execute(pragma).fetchone())
    wrote = await (await backend.session()).transactions.submit(
        lambda connection, now: connection.execute(pragma).fetchone()
    )
    assert read == wrote == (0,)


async def test_check_tells_of_a_library_with_the_log_bug(sqlite: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = sqlite()
    await backend.open()
    for version, warns in (((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 50, 7), False)):
        monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
        assert any("WAL-reset" in line for line in await backend.check()) is warns
    assert backend.versions == {"sqlite": sqlite3.sqlite_version}
