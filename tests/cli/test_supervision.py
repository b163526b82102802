"""``headrace worker`` and its processes: reloading, adding and removing, replacing what is old or large."""

import asyncio
import os
import pty
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

from headrace import place, processes, supervisor
from headrace.child import Child
from headrace.config import Config
from headrace.conformance.servers.process import free_port
from headrace.groups import group_of
from headrace.supervisor import Supervisor

from .conftest import CONFIG, JOBS, Shop, until

LEAK = """

kept = []


class Leak(Job, queue="mail"):
    async def handle(self):
        for _ in range(100):
            kept.append(b"x" * (2 * 2**20))
            await asyncio.sleep(0)
        note("leaked")


class Alone(Job, queue="low"):
    number: int

    async def handle(self):
        note(f"begins {self.number}")
        await asyncio.sleep(0.3)
        note(f"ends {self.number}")
"""


@contextmanager
def serving(shop: Shop, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A worker that has started and, in the end, is told to stop, which it does well."""
    worker = shop.start("worker", *arguments)
    until(lambda: "started" in shop.log, "a worker has started")
    yield worker
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0, shop.log
    assert shop.processes() == []


def hold(shop: Shop) -> int:
    """Let the worker run a job until ``release`` is touched; the process that runs it."""
    shop.push("Hold")
    until(lambda: shop.words == ["holding"], "the handler runs")
    return shop.record[0][0]


def test_sighup_runs_fresh_code_once_the_old_process_has_let_its_handlers_end(shop: Shop) -> None:
    shop.configure(CONFIG.replace("shutdown_timeout = 5", "shutdown_timeout = 0.1", 1))
    with serving(shop, "mail") as worker:
        old = hold(shop)
        (shop.folder / "shop_jobs.py").write_text(JOBS.replace('"sent {', '"sent afresh {'))
        worker.send_signal(signal.SIGHUP)
        until(lambda: "takes over" in shop.log, "its successor is ready")
        shop.push("Send", user_id=1)
        # Much longer than the shutdown_timeout: to be replaced is not to be stopped.
        time.sleep(1)
        assert shop.words == ["holding"]
        assert old in shop.processes()
        shop.touch("release")
        until(lambda: len(shop.record) == 3, "the successor works")
        assert shop.words == ["holding", "released", "sent afresh 1"]
        assert shop.record[1][0] == old
        assert shop.processes() == [shop.record[2][0]] != [old]
        until(lambda: "INFO" in shop.log and "reloaded" in shop.log, "the supervisor has told of it")
    assert shop.counts() == {}


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("shop_jobs.py", "raise RuntimeError('half written')", "half written"),
        ("shop_jobs.py", "import os\nos._exit(9)", "ended with exit status 9 before it was ready"),
        ("headrace.toml", f"{CONFIG}max_retires = 3\n", "max_retires"),
    ],
    ids=["a module that does not import", "a module that crashes", "a wrong configuration"],
)
def test_what_cannot_be_reloaded_is_told_and_the_old_processes_stay(
    shop: Shop, file: str, text: str, words: str
) -> None:
    with serving(shop, "mail", "--processes", "2") as worker:
        until(lambda: shop.log.count("started") == 2, "both processes work")
        old = sorted(shop.processes())
        good = (shop.folder / file).read_text()
        (shop.folder / file).write_text(text)
        worker.send_signal(signal.SIGHUP)
        until(lambda: "what is there goes on as it is" in shop.log, "the supervisor has told of it")
        assert words in shop.log
        assert "Traceback" not in shop.log
        until(lambda: len(shop.processes()) == 2, "the one that could not is gone")
        assert sorted(shop.processes()) == old
        (shop.folder / file).write_text(good)
        shop.push("Send", user_id=1)
        until(lambda: shop.words == ["sent 1"], "the old ones work")


def test_a_process_that_dies_while_the_code_is_broken_takes_no_other_along(shop: Shop) -> None:
    with serving(shop, "mail", "--processes", "2") as worker:
        until(lambda: shop.log.count("started") == 2, "both processes work")
        good = (shop.folder / "shop_jobs.py").read_text()
        (shop.folder / "shop_jobs.py").write_text("raise RuntimeError('half written')")
        os.kill(shop.processes()[0], signal.SIGKILL)
        until(lambda: "half written" in shop.log, "its successor could not be started")
        assert worker.poll() is None
        (shop.folder / "shop_jobs.py").write_text(good)
        until(lambda: shop.log.count("started") == 3, "the place is filled again")
        assert len(shop.processes()) == 2


def test_sighup_follows_the_configuration_in_queues_and_processes(shop: Shop) -> None:
    with serving(shop) as worker:
        until(lambda: shop.log.count("started") == 2, "mail and low have a process each")
        shop.configure(
            CONFIG.replace("[queues.mail]", "[queues.mail]\nprocesses = 2")
            .replace("[queues.low]", "[queues.low]\nenabled = false")
            .replace("[queues.default]\nenabled = false", "[queues.default]")
        )
        worker.send_signal(signal.SIGHUP)
        until(lambda: "reloaded" in shop.log, "the supervisor has reloaded")
        until(lambda: shop.log.count("started") == 5, "two of mail and one of default have started")
        until(lambda: len(shop.processes()) == 3, "the one of low is gone")
        shop.push("Send", user_id=1)
        shop.push("Send", "--queue", "default", user_id=2)
        shop.push("Send", "--queue", "low", user_id=3)
        until(lambda: sorted(shop.words) == ["sent 1", "sent 2"], "both queues are served")
        assert shop.counts("low") == {"waiting": 1}


def test_sigttin_adds_a_process_to_each_group_and_sigttou_removes_one_but_never_the_last(shop: Shop) -> None:
    with serving(shop, "mail", "low") as worker:
        until(lambda: shop.log.count("started") == 2, "both groups work")
        worker.send_signal(signal.SIGTTIN)
        until(lambda: len(shop.processes()) == 4, "each has one more")
        until(lambda: shop.log.count("started") == 4, "they work")
        worker.send_signal(signal.SIGTTOU)
        until(lambda: len(shop.processes()) == 2, "each has one less")
        worker.send_signal(signal.SIGTTOU)
        until(lambda: shop.log.count("its last process stays") == 2, "the supervisor has told of it")
        assert len(shop.processes()) == 2


def test_a_removed_process_lets_its_handler_end(shop: Shop) -> None:
    with serving(shop, "mail") as worker:
        worker.send_signal(signal.SIGTTIN)
        until(lambda: shop.log.count("started") == 2, "the second one works")
        shop.store("Hold", *({} for _ in range(8)))
        until(lambda: len(shop.words) == 8, "both are full")
        worker.send_signal(signal.SIGTTOU)
        until(lambda: "is removed" in shop.log, "the supervisor has told of it")
        shop.touch("release")
        until(lambda: len(shop.processes()) == 1, "it is gone")
        until(lambda: shop.words.count("released") == 8, "no handler was interrupted")
    assert shop.counts() == {}


def test_a_process_that_uses_too_much_memory_is_replaced(shop: Shop) -> None:
    (shop.folder / "shop_jobs.py").write_text(JOBS + LEAK)
    shop.configure(CONFIG.replace("[queues.mail]", "[queues.mail]\nmax_memory = 180"))
    with serving(shop, "mail"):
        shop.push("Leak")
        until(lambda: "MiB of memory; it is drained and replaced" in shop.log, "the supervisor has seen it")
        until(lambda: shop.log.count("started") == 2, "its successor works")
        shop.push("Send", user_id=1)
        until(lambda: len(shop.words) == 2, "the successor works")
    assert shop.record[0][0] != shop.record[1][0]
    assert shop.log.count("it is drained and replaced") == 1


def test_processes_are_replaced_at_their_age_one_after_the_other(shop: Shop) -> None:
    shop.configure(CONFIG.replace("[queues.mail]", "[queues.mail]\nmax_seconds = 3\nprocesses = 2"))
    with serving(shop, "mail"):
        until(lambda: shop.log.count("started") == 2, "both work")
        fewest = 2
        give_up_at = time.monotonic() + 30
        while shop.log.count("started") < 4:
            assert time.monotonic() < give_up_at, shop.log
            fewest = min(fewest, len(shop.processes()))
            time.sleep(0.01)
        assert fewest == 2
    stopped, started = (
        [number for number, line in enumerate(shop.log.splitlines()) if f" {word}" in line and "worker " in line]
        for word in ("stopped", "started")
    )
    # The first has a successor before the second one goes.
    assert stopped[0] < started[2] < stopped[1]


def test_jobs_that_shall_run_one_by_one_do_so_across_a_reload(shop: Shop) -> None:
    (shop.folder / "shop_jobs.py").write_text(JOBS + LEAK)
    shop.store("Alone", *({"number": number} for number in range(12)), queue="low")
    with serving(shop, "low") as worker:
        until(lambda: shop.words, "the first runs")
        worker.send_signal(signal.SIGHUP)
        until(lambda: len(shop.words) == 24, "all have run")
        until(lambda: "reloaded" in shop.log, "the supervisor has reloaded")
    assert shop.words == [f"{what} {number}" for number in range(12) for what in ("begins", "ends")]
    assert len({process for process, _ in shop.record}) == 2


def test_stopping_ends_a_reload_that_waits_for_a_handler(shop: Shop) -> None:
    with serving(shop, "mail") as worker:
        hold(shop)
        worker.send_signal(signal.SIGHUP)
        until(lambda: len(shop.processes()) == 2, "its successor gets ready")
        worker.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in shop.log, "the supervisor has heard")
        shop.touch("release")
        assert worker.wait(30) == 0
    assert shop.words == ["holding", "released"]
    assert shop.counts() == {}


def test_a_supervisor_that_is_killed_in_a_reload_leaves_no_process_behind(shop: Shop) -> None:
    shop.push("Hold")
    worker = shop.start("worker", "mail")
    until(lambda: shop.words == ["holding"], "the handler runs")
    worker.send_signal(signal.SIGHUP)
    until(lambda: len(shop.processes()) == 2, "its successor gets ready")
    worker.kill()
    worker.wait()
    shop.touch("release")
    until(lambda: not shop.processes(), "both are gone")
    assert shop.words == ["holding", "released"]
    assert shop.counts() == {}


def test_a_worker_whose_terminal_is_closed_stops(shop: Shop) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(shop.folder)
        command = shop.command("worker", "mail")
        os.execve(command[0], command, shop.environment)
    said = b""
    while b"started" not in said:
        said += os.read(terminal, 65536)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    # 120 is Python's own, where what it had to say in the end could not be written to the terminal.
    assert os.waitstatus_to_exitcode(status) in (0, 120)
    assert shop.processes() == []


def test_the_successor_of_a_process_that_has_taken_its_last_message_is_ready_and_waits_for_its_handlers(
    shop: Shop,
) -> None:
    with serving(shop, "low", "--max-messages", "1"):
        shop.store("Hold", {}, queue="low")
        until(lambda: shop.words == ["holding"], "the last message is in hand")
        until(lambda: len(shop.processes()) == 2, "its successor has been started")
        shop.store("Send", {"user_id": 1}, queue="low")
        time.sleep(1)
        # One by one, as the queue's limit says.
        assert shop.words == ["holding"]
        shop.touch("release")
        until(lambda: len(shop.words) == 3, "the successor works")
    assert shop.words == ["holding", "released", "sent 1"]
    assert shop.record[1][0] != shop.record[2][0]


def test_no_more_than_one_process_of_a_group_is_missing_while_several_end_their_last_handlers(shop: Shop) -> None:
    with serving(shop, "mail", "--processes", "2", "--concurrency", "1", "--max-messages", "1"):
        shop.store("Hold", {}, {})
        until(lambda: shop.words == ["holding", "holding"], "both have taken their last message")
        shop.store("Send", *({"user_id": number} for number in range(3)))
        until(lambda: sum("sent" in word for word in shop.words) == 3, "others work meanwhile")
        assert "released" not in shop.words
        shop.touch("release")
        until(lambda: shop.words.count("released") == 2, "both have come to their end")
        until(lambda: len(shop.processes()) == 2, "there are as many as configured")
    handled = Counter(process for process, word in shop.record if word != "holding")
    assert set(handled.values()) == {1}
    assert shop.counts() == {}


def test_a_successor_is_started_before_the_last_message_where_the_pace_foretells_it(shop: Shop) -> None:
    (shop.folder / "shop_jobs.py").write_text(JOBS + LEAK)
    shop.configure(CONFIG.replace("[queues.low]", "[queues.low]\nstall_seconds = 1"))
    shop.store("Alone", *({"number": number} for number in range(6)), queue="low")
    with serving(shop, "low", "--max-messages", "6"):
        until(lambda: len(shop.processes()) == 2, "a successor gets ready")
        assert len(shop.words) < 12
        until(lambda: len(shop.words) == 12, "all have run")
    assert len({process for process, _ in shop.record}) == 1


BINDS = """

from contextlib import asynccontextmanager
import socket


@asynccontextmanager
async def lifespan():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(Path("port").read_text())))
        yield
"""


def test_a_lifespan_that_cannot_begin_beside_the_old_process_is_told_and_that_one_stays(shop: Shop) -> None:
    (shop.folder / "port").write_text(str(free_port()))
    (shop.folder / "shop_jobs.py").write_text(JOBS + BINDS)
    shop.configure(f'lifespan = "shop_jobs:lifespan"\n{CONFIG}')
    with serving(shop, "mail") as worker:
        (old,) = shop.processes()
        worker.send_signal(signal.SIGHUP)
        until(lambda: "what is there goes on as it is" in shop.log, "the supervisor has told of it")
        assert re.search(r"the new process \d+ \(mail\) cannot work: OSError: .*in use", shop.log)
        until(lambda: shop.processes() == [old], "the one that could not is gone")
        shop.push("Send", user_id=1)
        until(lambda: shop.words == ["sent 1"], "the old one works")


def test_a_lifespan_that_fails_at_first_is_tried_again(shop: Shop) -> None:
    (shop.folder / "shop_jobs.py").write_text(JOBS + BINDS)
    shop.configure(f'lifespan = "shop_jobs:lifespan"\n{CONFIG}')
    worker = shop.start("worker", "mail")
    until(lambda: "cannot work: FileNotFoundError" in shop.log, "it has failed")
    (shop.folder / "port").write_text(str(free_port()))
    until(lambda: "started" in shop.log, "it works")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


NEVER_ENDS = """

import time
from contextlib import asynccontextmanager


class Deaf(Job, queue="low", handle_timeout=0.05):
    async def handle(self):
        note("overruns")
        while True:
            try:
                await asyncio.sleep(3600)
            except BaseException:
                pass


class Stuck(Job, queue="low", handle_timeout=0.05):
    def handle(self):
        note("overruns")
        time.sleep(3600)


@asynccontextmanager
async def lifespan():
    yield
    raise RuntimeError("the lifespan's exit failed")
"""


def test_a_handler_that_ignores_its_cancellation_for_ever_does_not_keep_its_process(shop: Shop) -> None:
    (shop.folder / "shop_jobs.py").write_text(JOBS + NEVER_ENDS)
    shop.configure(CONFIG.replace("shutdown_timeout = 5", "shutdown_timeout = 0.1"))
    with serving(shop, "low"):
        shop.store("Deaf", {}, queue="low")
        until(lambda: shop.words == ["overruns"], "it runs")
        shop.store("Send", {"user_id": 1}, queue="low")
        until(lambda: shop.words[-1] == "sent 1", "another process has the place")
        until(lambda: shop.processes() == [shop.record[-1][0]], "the first one is gone")
    assert shop.record[0][0] != shop.record[1][0]
    assert "ended with exit status" not in shop.log
    assert shop.counts("low") == {"timeout": 1}


def test_a_thread_that_never_ends_does_not_keep_a_process_whose_lifespan_raises_in_the_end(shop: Shop) -> None:
    (shop.folder / "shop_jobs.py").write_text(JOBS + NEVER_ENDS)
    shop.configure(
        'lifespan = "shop_jobs:lifespan"\n' + CONFIG.replace("shutdown_timeout = 5", "shutdown_timeout = 0.1")
    )
    with serving(shop, "low"):
        shop.store("Stuck", {}, queue="low")
        until(lambda: shop.words == ["overruns"], "it runs")
        shop.store("Send", {"user_id": 1}, queue="low")
        until(lambda: shop.words[-1] == "sent 1", "another process has the place")
    assert shop.record[0][0] != shop.record[1][0]
    assert f"process {shop.record[0][0]} (low) ended with exit status 1" in shop.log
    assert "the lifespan's exit failed" in shop.log
    assert shop.counts("low") == {"timeout": 1}


HANGS = """

from contextlib import asynccontextmanager


@asynccontextmanager
async def lifespan():
    if Path("hang").exists():
        note("hangs")
        await asyncio.sleep(3600)
    yield
"""


@asynccontextmanager
async def supervised(shop: Shop, monkeypatch: pytest.MonkeyPatch, text: str) -> AsyncIterator[Supervisor]:
    """A supervisor in this process, which looks often, for the queue ``low``; ``hang`` makes a lifespan hang."""
    (shop.folder / "shop_jobs.py").write_text(JOBS + HANGS)
    shop.configure(f'lifespan = "shop_jobs:lifespan"\n{text}')
    monkeypatch.chdir(shop.folder)
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.1)
    monkeypatch.setattr(place, "STOP_SECONDS", 0.5)
    monkeypatch.setattr(processes.Processes.dismiss, "__defaults__", (0.5,))
    config = Config.load(shop.folder / "headrace.toml")
    with (shop.folder / "stderr").open("w") as stderr:
        running = Supervisor([group_of([config.queue("low")])], config=config.source, stderr=stderr.fileno())
        task = asyncio.create_task(running.run())
        try:
            yield running
            running.stop()
            async with asyncio.timeout(30):
                await task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def eventually(condition: Callable[[], object], what: str) -> None:
    give_up_at = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < give_up_at, f"waited in vain until {what}"
        await asyncio.sleep(0.02)


async def first_child(running: Supervisor) -> Child:
    await eventually(lambda: running.children, "there is a process")
    (child,) = running.children
    return child


async def test_a_process_that_hangs_while_it_starts_is_told_of_once_and_stays_until_it_is_replaced(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shop.touch("hang")
    async with supervised(shop, monkeypatch, CONFIG) as running:
        child = await first_child(running)
        await eventually(lambda: "lifespan" in child.doing, "it has said where it is")
        await eventually(lambda: "hangs" in shop.words, "it hangs")
        monkeypatch.setattr(place, "READY_SECONDS", 0.1)
        await eventually(lambda: "is not ready" in caplog.text, "that is told")
        (shop.folder / "hang").unlink()
        await asyncio.to_thread(shop.store, "Send", {"user_id": 1}, queue="low")
        # Many looks later.
        await asyncio.sleep(1)
        assert (child.alive, child.state) == (True, "starting")
        running.reload()
        await eventually(lambda: "sent 1" in shop.words, "a fresh one has the place")
        await eventually(lambda: not child.alive, "the one that hangs is gone")
    (told,) = [each.getMessage() for each in caplog.records if "is not ready" in each.getMessage()]
    assert re.fullmatch(
        rf"process {child.pid} \(low\) is not ready after .* s: it is in the lifespan shop_jobs:lifespan", told
    )


@pytest.mark.parametrize("job", ["Send", "Hold"], ids=["that has ended", "that has a handler to end"])
async def test_a_successor_that_hangs_while_it_starts_does_not_keep_the_place_of_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, job: str
) -> None:
    text = CONFIG.replace("[queues.low]", "[queues.low]\nmax_messages = 1")
    async with supervised(shop, monkeypatch, text) as running:
        child = await first_child(running)
        await eventually(lambda: child.state == "working", "it works")
        shop.touch("hang")
        await asyncio.to_thread(shop.store, job, {"user_id": 1} if job == "Send" else {}, queue="low")
        hangs = "is in the lifespan shop_jobs:lifespan"
        await eventually(
            lambda: hangs in {each.doing for each in running.children - {child}}, "its successor has said where it is"
        )
        await eventually(lambda: "hangs" in shop.words, "it hangs")
        (shop.folder / "hang").unlink()
        monkeypatch.setattr(place, "READY_SECONDS", 0.1)
        await eventually(lambda: "it is in the lifespan" in caplog.text, "that is told")
        await asyncio.to_thread(shop.store, "Send", {"user_id": 2}, queue="low")
        shop.touch("release")
        await eventually(lambda: "sent 2" in shop.words, "another one has the place")
    hung = next(process for process, word in shop.record if word == "hangs")
    assert f"process {hung} (low) is not ready" in caplog.text
    assert hung not in [process for process, word in shop.record if word != "hangs"]
    assert await asyncio.to_thread(shop.counts, "low") == {}


async def test_a_process_that_waits_for_its_backend_is_not_late(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f'backend = "redis"\n{CONFIG}\n[backends.redis]\nurl = "redis://127.0.0.1:{free_port()}"\n'
    async with supervised(shop, monkeypatch, text) as running:
        child = await first_child(running)
        await eventually(lambda: child.doing == "waits for the backend 'redis'", "it has said so")
        seconds = time.monotonic() - child.started + 1
        await eventually(lambda: time.monotonic() - child.started > seconds, "it has waited")
        # What it waits is not counted.
        await eventually(lambda: child.starting_for is not None and child.starting_for < seconds - 0.5, "it says so")
        assert child.alive
