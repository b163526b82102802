"""The file: its birth, its rights, what is refused, and what goes wrong with it while it is in use."""

import asyncio
import errno
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.errors import BackendError, BackendUnavailable
from headrace_sqlite.backend import SqliteBackend
from headrace_sqlite.disk import Log

from .helpers import counts, drain, ids, message, messages
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
    for folder in path.parents[1:3]:
        folder.chmod(0o755)
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

    def allow(pages: int) -> "asyncio.Future[object]":
        return backend.session().transactions.submit(
            lambda connection, now: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone(), durable=False
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


async def test_a_removed_file_is_noticed(sqlite: Make, path: Path) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message()])
    path.rename(path.with_name("elsewhere.db"))
    for call in (driver.push([message()]), driver.pop(1, 0), driver.info()):
        with pytest.raises(BackendUnavailable, match="removed or replaced"):
            await call
    path.with_name("elsewhere.db").rename(path)
    assert len(await driver.pop(1, 0)) == 1


async def test_a_failed_sync_confirms_nothing_and_the_next_may_succeed(
    sqlite: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = sqlite()
    await backend.open()
    driver = backend.driver("{q}")

    def fail(log: Log) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Log, "sync", fail)
        with pytest.raises(BackendUnavailable, match=r"queue\.db could not be synced"):
            await driver.push([message("a")])
    assert await driver.push([message("a")]) == ["a"]
    assert await counts(driver) == {"waiting": 1}


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
    bad = backend.session().transactions.submit(lambda connection, now: connection.execute("nonsense"), durable=True)
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
    read = await backend.session().read(lambda connection, now: connection.execute(pragma).fetchone())
    wrote = await backend.session().transactions.submit(
        lambda connection, now: connection.execute(pragma).fetchone(), durable=False
    )
    assert read == wrote == (0,)


async def test_check_tells_of_a_library_with_the_log_bug(sqlite: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = sqlite()
    await backend.open()
    for version, warns in (((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 50, 7), False)):
        monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
        assert any("WAL-reset" in line for line in await backend.check()) is warns
    assert backend.versions == {"sqlite": sqlite3.sqlite_version}
