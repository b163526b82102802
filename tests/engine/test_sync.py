"""Pushing from code that runs on no event loop."""

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, Job, context, job, listen
from headrace.errors import BackendError, BackendUnavailable, UnknownQueue, WrongContext
from headrace.events import JobPushed

from .conftest import MakeApp

ran: list[Any] = []


class Greet(Job):
    name: str

    async def handle(self) -> None:
        ran.append(self.name)


class GreetFromHandler(Job):
    def handle(self) -> None:
        Greet(name="pushed by a sync handler").push_sync()


@job
async def greet(name: str) -> None:
    ran.append(name)


@pytest.fixture(autouse=True)
def fresh() -> None:
    ran.clear()


async def drain(app: Headrace) -> None:
    async with app:
        await app.worker().run(until_empty=True)


def threads() -> set[str]:
    return {each.name for each in threading.enumerate()}


def test_a_bare_push_goes_to_the_app_that_was_made(make_app: MakeApp, tmp_path: Path) -> None:
    other = Headrace({"backends": {"sqlite": {"path": str(tmp_path / "other.db")}}})
    app = make_app()
    Greet(name="a").push_sync()
    greet.push_sync("b")
    assert app.sync().queue("default").info().waiting == 2
    assert other.sync().queue("default").info().waiting == 0
    app.sync().close()
    other.sync().close()


def test_every_verb_has_a_blocking_twin(make_app: MakeApp) -> None:
    app = make_app()
    queue = app.sync().queue("default")
    pushed = queue.push(Greet(name="a"), delay=60)
    assert queue.info().delayed == 1
    assert queue.cancel(pushed)
    ids = queue.push_many([Greet(name="b"), Greet(name="c")])
    assert [each.message.id for each in queue.list("waiting")] == ids
    found = queue.find(ids[0])
    assert found is not None
    assert found.arguments == {"name": "b"}
    assert queue.flush("waiting", ids=[ids[0]]) == 1
    assert queue.reload("failed") == 0
    asyncio.run(drain(app))
    assert ran == ["c"]
    app.sync().close()
    assert "headrace-sync" not in threads()


def test_jobs_and_functions_push_to_the_app_entered(make_app: MakeApp) -> None:
    app = make_app()
    context.enter(app)
    try:
        Greet(name="a").push_sync()
        greet.push_sync("b")
        app.queue().push_sync(Greet(name="c"))
        asyncio.run(drain(app))
    finally:
        context.leave(app)
        app.sync().close()
    assert sorted(ran) == ["a", "b", "c"]


def test_a_sync_handler_can_push(make_app: MakeApp) -> None:
    app = make_app()

    async def main() -> None:
        async with app:
            await app.queue().push(GreetFromHandler())
            await app.worker().run(until_empty=True)

    asyncio.run(main())
    app.sync().close()
    assert ran == ["pushed by a sync handler"]


def test_many_threads_share_one_connection_and_lose_nothing(make_app: MakeApp) -> None:
    app = make_app()
    queue = app.sync().queue("default")

    def push(thread: int) -> None:
        for number in range(50):
            queue.push(Greet(name=f"{thread}-{number}"))

    pushers = [threading.Thread(target=push, args=(n,)) for n in range(8)]
    for each in pushers:
        each.start()
    assert len([each for each in threading.enumerate() if each.name == "headrace-sync"]) == 1
    for each in pushers:
        each.join()
    asyncio.run(drain(app))
    app.sync().close()
    assert len(ran) == len(set(ran)) == 400


def test_a_forked_child_pushes_over_a_connection_of_its_own(tmp_path: Path) -> None:
    app = Headrace({"backend": "sqlite", "backends": {"sqlite": {"path": str(tmp_path / "jobs.db")}}})
    queue = app.sync().queue("default")
    queue.push(Greet(name="parent"))
    child = os.fork()
    if not child:
        # In the child nothing of pytest may run on.
        try:
            queue.push(Greet(name="child"))
            app.sync().close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    queue.push(Greet(name="parent again"))
    asyncio.run(drain(app))
    app.sync().close()
    assert sorted(ran) == ["child", "parent", "parent again"]


def test_the_first_threads_of_a_forked_child_share_one_loop(tmp_path: Path) -> None:
    app = Headrace({"backend": "sqlite", "backends": {"sqlite": {"path": str(tmp_path / "jobs.db")}}})
    queue = app.sync().queue("default")
    queue.push(Greet(name="parent"))
    child = os.fork()
    if not child:
        # In the child nothing of pytest may run on.
        try:
            gate = threading.Barrier(8)

            def push() -> None:
                gate.wait()
                queue.push(Greet(name="child"))

            pushers = [threading.Thread(target=push) for _ in range(8)]
            for each in pushers:
                each.start()
            for each in pushers:
                each.join()
            loops = [each for each in threading.enumerate() if each.name == "headrace-sync"]
            app.sync().close()
            os._exit(0 if len(loops) == 1 else 2)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert queue.info().waiting == 9
    app.sync().close()


def test_threads_that_push_first_load_one_app(monkeypatch: pytest.MonkeyPatch, make_app: MakeApp) -> None:
    made: list[Headrace] = []

    def load() -> Headrace:
        time.sleep(0.05)
        made.append(make_app())
        return made[-1]

    monkeypatch.setattr(Headrace, "load", load)
    monkeypatch.setattr(context, "last_made", lambda: None)  # other tests' apps may still be there
    pushers = [threading.Thread(target=Greet(name=str(n)).push_sync) for n in range(8)]
    for each in pushers:
        each.start()
    for each in pushers:
        each.join()
    (app,) = made
    try:
        assert app.sync().queue().info().waiting == 8
    finally:
        context.leave(app)
        app.sync().close()


@pytest.mark.parametrize("configured", [True, False])
def test_a_script_that_only_pushes_says_no_word_unless_no_configuration_is_found(
    tmp_path: Path, configured: bool
) -> None:
    (tmp_path / "script.py").write_text(
        "from headrace import Job\n\nclass Quiet(Job):\n    def handle(self): ...\n\nQuiet().push_sync()\n"
    )
    if configured:
        (tmp_path / "headrace.toml").touch()
    done = subprocess.run(
        [sys.executable, "-W", "always", "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", 0)
    assert done.stderr == "" if configured else "there is no headrace.toml from" in done.stderr


def test_what_a_forgotten_app_has_open_is_closed_at_exit(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import gc\nfrom headrace import Headrace, Job\n\nclass Quiet(Job):\n    def handle(self): ...\n\n"
        "Headrace({'backends': {'sqlite': {'path': 'jobs.db'}}}).sync().queue().push(Quiet())\ngc.collect()\n"
    )
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, timeout=60, check=True)
    # SQLite leaves its log beside the file unless the last connection is closed.
    assert {each.name for each in tmp_path.glob("jobs.db*")} == {"jobs.db"}


def test_the_pushes_of_a_thread_that_outlives_the_main_one_are_done(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import threading\nfrom headrace import Headrace, Job\n\nclass Quiet(Job):\n    def handle(self): ...\n\n"
        "app = Headrace({'backends': {'sqlite': {'path': 'jobs.db'}}})\nbegun = threading.Event()\n\n"
        "def push():\n    for _ in range(200):\n        app.sync().queue().push(Quiet())\n        begun.set()\n\n"
        "threading.Thread(target=push).start()\nbegun.wait()\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stderr, done.returncode) == ("", 0)
    app = Headrace({"backends": {"sqlite": {"path": str(tmp_path / "jobs.db")}}})
    assert app.sync().queue().info().waiting == 200
    app.sync().close()


def test_a_listeners_module_may_push_while_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text("from headrace import Job\n\nclass Quiet(Job):\n    def handle(self): ...\n")
    (tmp_path / "audit.py").write_text(
        "from headrace import listen\nfrom headrace.events import FailedHandle\nfrom jobs import Quiet\n\n"
        "@listen(FailedHandle)\ndef audit(event): ...\n\nQuiet().push_sync()\n"
    )
    (tmp_path / "headrace.toml").write_text('imports = ["jobs"]\nlisteners = ["audit"]\n')
    (tmp_path / "script.py").write_text(
        "from headrace import Headrace\nfrom jobs import Quiet\n\napp = Headrace.load()\nQuiet().push_sync()\n"
        "print(app.sync().queue().info().waiting)\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("2\n", "", 0)


def test_no_call_waits_for_ever_when_the_app_is_closed(make_app: MakeApp) -> None:
    app = make_app()
    queue = app.sync().queue()
    ended: list[str] = []

    def push() -> None:
        for number in range(100):
            try:
                queue.push(Greet(name=str(number)))
                ended.append("pushed")
            except BackendUnavailable as error:
                assert "the app was closed" in str(error)
                ended.append("cancelled")

    pushers = [threading.Thread(target=push, daemon=True) for _ in range(4)]
    for each in pushers:
        each.start()
    while len(ended) < 400 and any(each.is_alive() for each in pushers):
        app.sync().close()
    for each in pushers:
        each.join(10)
    assert len(ended) == 400
    app.sync().close()
    assert "headrace-sync" not in threads()


def test_closing_does_not_wait_for_a_call_that_ignores_its_cancellation(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("headrace.sync.GRACE_SECONDS", 0.1)
    app = make_app()
    began, may_end, told = (threading.Event() for _ in range(3))

    async def deaf(_: Headrace) -> None:
        began.set()
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    def call() -> None:
        with pytest.raises(BackendUnavailable, match="the app was closed"):
            app.portal.call(deaf, "deaf()")
        told.set()

    threading.Thread(target=call, daemon=True).start()
    assert began.wait(10)
    closing = threading.Thread(target=app.sync().close, daemon=True)
    closing.start()
    closing.join(10)
    ended = not closing.is_alive()
    may_end.set()
    assert ended
    assert told.wait(10)
    assert "is left behind" in caplog.text


def test_forking_while_threads_push_loses_and_damages_nothing(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    app = Headrace({"backend": "sqlite", "backends": {"sqlite": {"path": str(path)}}})
    queue = app.sync().queue("default")
    stop, pushed = threading.Event(), [0]

    def push() -> None:
        while not stop.is_set():
            queue.push(Greet(name="thread"))
            pushed[0] += 1

    thread = threading.Thread(target=push)
    thread.start()
    children = []
    for _ in range(5):
        child = os.fork()
        if not child:
            try:
                for _ in range(20):
                    queue.push(Greet(name="child"))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(each, 0)[1] for each in children] == [0] * 5
    stop.set()
    thread.join()
    assert queue.info().waiting == pushed[0] + 100
    app.sync().close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_fork_of_a_process_that_has_the_file_open_for_itself_is_refused_it(tmp_path: Path) -> None:
    app = Headrace({"backend": "sqlite", "backends": {"sqlite": {"path": str(tmp_path / "jobs.db")}}})
    async with app:
        await app.queue().push(Greet(name="parent"))
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                app.sync().queue("default").push(Greet(name="child"))
            except BackendError as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        os.close(writing)
        said = os.read(reading, 4096).decode()
        os.close(reading)
        assert "start the child by spawn" in said
        assert (await app.queue().info()).waiting == 1


async def test_blocking_on_an_event_loops_own_thread_is_refused(make_app: MakeApp) -> None:
    app = make_app()
    with pytest.raises(WrongContext, match=r"await push\(\) instead"):
        app.queue().push_sync(Greet(name="a"))
    with pytest.raises(WrongContext, match=r"await queue\.info\(\) instead"):
        app.sync().queue().info()


def test_the_listeners_of_one_loop_do_not_hold_up_another(make_app: MakeApp) -> None:
    app = make_app()
    heard: list[str] = []

    @listen(JobPushed)
    async def slow(event: JobPushed) -> None:
        await asyncio.sleep(0.2)
        heard.append(event.message.name)

    async def main() -> None:
        async with app:
            app.events.add(slow)
            await app.queue().push(GreetFromHandler())
            await app.worker().run(until_empty=True)

    asyncio.run(main())
    assert "GreetFromHandler" in heard
    app.sync().close()
    assert sorted(heard) == ["Greet", "GreetFromHandler"]
    assert ran == ["pushed by a sync handler"]


def test_a_bare_push_without_an_event_loop_names_its_twin() -> None:
    with pytest.raises(WrongContext, match=r"call push_sync\(\)"):
        Greet(name="a").push()
    with pytest.raises(WrongContext, match=r"call push_sync\(\)"):
        greet.push("a")


async def test_a_bare_push_without_an_app_says_how_to_enter_one() -> None:
    with pytest.raises(WrongContext, match="async with Headrace"):
        Greet(name="a").push()


def test_an_error_of_the_call_is_raised_to_the_caller(make_app: MakeApp) -> None:
    app = make_app()
    with pytest.raises(UnknownQueue, match="default"):
        app.sync().queue("defualt").info()
    app.sync().close()
