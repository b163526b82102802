"""Workers killed with ``kill -9`` at random moments lose nothing.

The short form runs with the other tests; ``tox -e faults`` runs the long one, whose counts
stand in the issue: 100 kills over 20,000 jobs.
"""

import asyncio
import collections
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace import Headrace
from headrace.driver import Info

LONG = "HEADRACE_TEST_LONG" in os.environ
JOBS, KILLS = (20_000, 100) if LONG else (2_000, 10)

MODULE = """
import asyncio, os, random
from headrace import Job

ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

class Entry(Job, max_retries=3, retry_seconds=0.05):
    number: int

    async def handle(self) -> None:
        await asyncio.sleep(random.uniform(0, 0.03))
        if random.random() < 0.05:
            raise ValueError("one in twenty fails and is tried again")
        # One short append is one write: a kill leaves a whole line or none.
        os.write(ledger, b"%d\\n" % self.number)
"""

CONFIG = """
imports = ["ledger_jobs"]
listeners = []
[queues.default]
lease_seconds = 1
concurrent = { limit = 10 }
"""


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "LEDGER": str(folder / "ledger"), "HEADRACE_CONFIG": str(folder / "headrace.toml")}


def worker(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "headrace.cli", "worker", "default", *arguments]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=log, stderr=log)


def children(process: int) -> list[int]:
    """The worker processes of a supervisor, as Linux knows them: each is killed, not only its parent."""
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def lines(folder: Path) -> list[str]:
    ledger = folder / "ledger"
    return ledger.read_text().splitlines() if ledger.exists() else []


@pytest.mark.timeout(1800 if LONG else 120)
def test_no_job_is_lost_when_workers_are_killed_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ledger_jobs.py").write_text(MODULE)
    (tmp_path / "headrace.toml").write_text(CONFIG)
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    app = Headrace.load(tmp_path / "headrace.toml")
    app.load_jobs()
    entry = sys.modules["ledger_jobs"].Entry
    asyncio.run(push(app, [entry(number=number) for number in range(JOBS)]))
    del sys.modules["ledger_jobs"]
    began = time.monotonic()
    for _ in range(KILLS):
        victim = worker(tmp_path)
        # From before its first line to the midst of its work.
        time.sleep(random.uniform(0.2, 2.0))
        for process in children(victim.pid):
            os.kill(process, signal.SIGKILL)
        victim.kill()
        victim.wait()
    killed = time.monotonic() - began
    done_by_victims = len(lines(tmp_path))
    last = worker(tmp_path, "--until-empty")
    assert last.wait(600) == 0, (tmp_path / "log").read_text()[-2000:]
    recovered = time.monotonic() - began - killed

    runs = collections.Counter(lines(tmp_path))
    info, failed = asyncio.run(look(app))
    lost = JOBS - len(set(runs) | failed)
    print(
        f"\n{JOBS:,} jobs, {KILLS} workers killed within {killed:.0f} s, the rest done in {recovered:.0f} s: "
        f"{done_by_victims:,} runs by those killed, {len(runs):,} jobs executed, {len(failed)} rest in failed, "
        f"{sum(runs.values()) - len(runs)} executed twice or more, {lost} lost"
    )
    assert info.waiting == info.reserved == info.delayed == info.timeout == 0
    assert lost == 0
    assert done_by_victims > 0


async def push(app: Headrace, jobs: list[object]) -> None:
    async with app:
        await app.queue().push_many(jobs)  # type: ignore[arg-type]


async def look(app: Headrace) -> tuple[Info, set[str]]:
    async with app:
        failed = await app.queue().list("failed", limit=JOBS)
        return await app.queue().info(), {str(each.arguments["number"]) for each in failed}
