"""``headrace worker`` and processes that are stuck: told of, and replaced where the configuration says so."""

import asyncio
import contextlib
import os
import signal

import pytest

from headrace import place, supervisor
from headrace.config import Config
from headrace.groups import group_of
from headrace.supervisor import Supervisor

from .conftest import CONFIG, JOBS, Shop, until

BLOCK = '''

class Block(Job, queue="mail"):
    """Blocks the event loop until the file ``mended`` is there."""

    async def handle(self):
        import time

        note("blocking")
        while not Path("mended").exists():
            time.sleep(0.01)
        note("mended")
'''

STALLS = """\
stall_seconds = 0.6
on_stall = "{on_stall}"
max_redeliveries = 1
"""


def configure(shop: Shop, on_stall: str) -> None:
    (shop.folder / "shop_jobs.py").write_text(JOBS + BLOCK)
    text = CONFIG.replace("shutdown_timeout = 5", "shutdown_timeout = 0.5", 1)
    shop.configure(text.replace("[queues.mail]", "[queues.mail]\n" + STALLS.format(on_stall=on_stall)))


def test_a_stalled_process_is_replaced_and_killed_and_its_job_counts_as_one_that_ended_its_worker(shop: Shop) -> None:
    configure(shop, "replace")
    (message_id,) = shop.store("Block", {})
    worker = shop.start("worker", "mail")
    until(lambda: shop.words == ["blocking"], "the job blocks its worker")
    ((stalled, _),) = shop.record
    until(lambda: "has been blocked" in shop.log, "that is told")
    until(lambda: shop.log.count("started") == 2, "a successor works")
    until(lambda: "it is killed" in shop.log, "the stalled one did not come round")
    shop.touch("mended")
    until(lambda: shop.words[-1] == "mended", "the job has run")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert f"process {stalled} (mail) is stalled, and did not end within 0.5 s" in shop.log
    assert f"Block {message_id} on mail runs in a process of its own: 1 of its deliveries ended" in shop.log
    assert "in handle" in shop.log
    assert shop.log.count("has been blocked") == 1
    assert shop.counts() == {}
    assert shop.processes() == []


def test_a_stalled_process_is_told_of_and_goes_on_by_default(shop: Shop) -> None:
    configure(shop, "report")
    shop.store("Block", {})
    worker = shop.start("worker", "mail")
    until(lambda: "has been blocked" in shop.log, "the stall is told")
    shop.touch("mended")
    until(lambda: "turns again" in shop.log, "its end is told")
    shop.store("Send", {"user_id": 1})
    until(lambda: "sent 1" in shop.words, "the same process works on")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert shop.log.count("worker ") == shop.log.count("started") + shop.log.count("stopped after") == 2


async def test_a_process_that_shows_no_sign_of_life_is_replaced(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(shop.folder)
    monkeypatch.setattr(place, "SILENCE_MARGIN", 0.5)
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.2)
    configure(shop, "replace")
    config = Config.load(shop.folder / "headrace.toml")
    with (shop.folder / "stderr").open("w") as stderr:
        running = Supervisor([group_of([config.queue("mail")])], config=config.source, stderr=stderr.fileno())
        task = asyncio.create_task(running.run())
        try:
            await eventually(lambda: running.health().ready)
            (first,) = running.children
            await eventually(lambda: first.state == "working")
            os.kill(first.pid, signal.SIGSTOP)
            await eventually(lambda: not running.health().live or first not in running.children)
            await eventually(lambda: first not in running.children and running.health().ready)
            assert running.health().live
            running.stop()
            assert await task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    assert f"process {first.pid} (mail) is stalled: it has shown no sign of life" in caplog.text


async def eventually(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)
