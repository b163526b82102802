"""What the command line's tests share: a small shop with a configuration, jobs, and real processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace
from headrace.driver import Info, Message
from headrace.ids import new_id

CONFIG = """\
imports = ["shop_jobs"]

[queues.mail]
lease_seconds = 1
pop_timeout = 0.2
shutdown_timeout = 5
retry_seconds = 0.05
concurrent = { limit = 4 }

[queues.low]
concurrent = { limit = 1 }
pop_timeout = 0.2
shutdown_timeout = 5

[queues.default]
enabled = false
"""

JOBS = '''\
import asyncio
import os
import signal
import sys
from pathlib import Path

from headrace import Job


def note(word):
    """Add a line to the record; one write of so few bytes is never torn."""
    descriptor = os.open("record", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{os.getpid()} {word}\\n".encode())
    os.close(descriptor)


class Send(Job, queue="mail"):
    """Writes down who ran it."""

    user_id: int
    text: str = ""

    async def handle(self):
        note(f"sent {self.user_id}")


class Once(Job, queue="mail", unique="key"):
    key: str

    async def handle(self):
        note(f"once {self.key}")


class Fail(Job, queue="mail"):
    text: str = "it broke"

    async def handle(self):
        if not Path("mended").exists():
            raise ValueError(self.text)
        note("mended")


class Hold(Job, queue="mail"):
    """Runs until the file ``release`` is there."""

    async def handle(self):
        note("holding")
        while not Path("release").exists():
            await asyncio.sleep(0.01)
        note("released")


class Quit(Job, queue="mail"):
    """Ends the process that runs it."""

    status: int

    async def handle(self):
        os._exit(self.status)


class ExitsBeside(Job, queue="mail"):
    """Ends the program from a task of its own, which all others hear as their cancellation."""

    async def handle(self):
        beside = asyncio.create_task(self.exit())
        await asyncio.sleep(60)
        del beside

    async def exit(self):
        sys.exit(3)


class Overrun(Job, queue="mail", handle_timeout=0.05):
    async def handle(self):
        note("overrunning")
        await asyncio.sleep(0.3)
'''


class Shop:
    """A folder with a configuration and jobs, and the ``headrace`` command in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")},
            "PYTHONWARNINGS": "error",
            "TMPDIR": str(folder / "tmp"),
            # So that no test depends on the width of whoever runs it.
            "COLUMNS": "100",
            # As on a terminal; what is not asked for by a test is read by one.
            "HEADRACE_LOG_FORMAT": "plain",
        }
        (folder / "tmp").mkdir()
        self.configure(CONFIG)
        (folder / "shop_jobs.py").write_text(JOBS)

    def configure(self, text: str) -> None:
        (self.folder / "headrace.toml").write_text(text)

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "headrace.cli", *arguments]

    def run(
        self, *arguments: str, status: int = 0, stdin: str | None = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, and check its exit code."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env={**self.environment, **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, status: int = 0) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.run(*arguments, "--json", status=status).stdout)

    def push(self, job: str, *options: str, **arguments: Any) -> str:
        """Push a job; the message's id."""
        return self.run("push", job, json.dumps(arguments), *options).stdout.strip()

    def store(self, job: str, *jobs: dict[str, Any], queue: str = "mail") -> list[str]:
        """Push many jobs at once, from this process; the messages' ids."""
        messages = [Message(id=new_id(), name=job, body=json.dumps(arguments).encode()) for arguments in jobs]

        async def push() -> None:
            async with Headrace.load(self.folder / "headrace.toml") as app:
                await (await app.queue(queue).driver()).push(messages)

        asyncio.run(push())
        return [message.id for message in messages]

    def counts(self, queue: str = "mail") -> dict[str, int]:
        """The channels that are not empty."""

        async def ask() -> Info:
            async with Headrace.load(self.folder / "headrace.toml") as app:
                return await app.queue(queue).info()

        info = asyncio.run(ask())
        channels = ("waiting", "reserved", "delayed", "failed", "timeout")
        return {channel: count for channel in channels if (count := getattr(info, channel))}

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start a command, as from a shell: in a process group of its own. It is ended after the test."""
        with (self.folder / "stderr").open("w") as stderr, (self.folder / "stdout").open("w") as stdout:
            process = subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    @property
    def log(self) -> str:
        """What the command that was started last has written to stderr."""
        return (self.folder / "stderr").read_text()

    @property
    def output(self) -> str:
        """The same of stdout."""
        return (self.folder / "stdout").read_text()

    @property
    def record(self) -> list[tuple[int, str]]:
        """What jobs wrote down: the process, and what it did."""
        try:
            lines = (self.folder / "record").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(int(process), word) for process, _, word in (line.partition(" ") for line in lines)]

    @property
    def words(self) -> list[str]:
        return [word for _, word in self.record]

    def processes(self) -> list[int]:
        """The worker processes of this folder that are alive, as the system sees them."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if (
                    entry.name.isdigit()
                    and b"headrace.worker_process" in (entry / "cmdline").read_bytes()
                    and (entry / "cwd").readlink() == self.folder
                ):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def touch(self, name: str) -> None:
        (self.folder / name).touch()


def until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> None:
    """Wait for something that other processes do."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, f"waited {seconds} s in vain until {what}"
        time.sleep(0.01)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path.resolve())
    yield shop
    for process in shop.started:
        if process.poll() is None:
            process.kill()
        process.wait()
    for left in shop.processes():
        os.kill(left, signal.SIGKILL)
