"""Migration between real brokers: from one to the next in a ring, killed on the way, and through SQS and back.

The long form, with ``HEADRACE_TEST_LONG``, moves 100,000 messages around the ring, and 500 of every channel through
SQS; it prints how long each leg takes.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from headrace import Headrace
from headrace.migration import Migration, Outcome

from .cargo import CHANNELS, cargo, config, drained, expect, ids, load, twice, unload

PROGRAM: Final = Path(__file__).with_name("program.py")

LONG: Final = "HEADRACE_TEST_LONG" in os.environ

#: Messages of each channel.
IN_THE_RING: Final = 25_000 if LONG else 250
THROUGH_SQS: Final = 500 if LONG else 15

#: Seconds until what is delayed in SQS is due: it hands out nothing before that. In the long form all of it must have
#: been sent by then.
SQS_DELAY: Final = 30.0 if LONG else 3.0

#: Messages of each channel, and of a batch, where migrations are killed; how often, and the last call at which.
KILLED, BATCH, KILLS, LAST_CALL = 60, 20, 3, 25

#: Seconds that moto takes for a thousand messages, and the brokers for a hundred thousand, on a slow machine.
pytestmark = pytest.mark.timeout(1800 if LONG else 120)


async def move(app: Headrace, source: str, target: str, **options: Any) -> Outcome:
    outcome = await Migration(app.queue(source), app.queue(target), **options).run()
    rate = outcome.total / outcome.seconds
    print(f"{source} -> {target}: {outcome.total:,} messages in {outcome.seconds:.1f} s, {rate:,.0f} a second")
    return outcome


@pytest.fixture
def ring(tmp_path: Path, redis: dict[str, Any], rabbitmq: dict[str, Any]) -> dict[str, Any]:
    return config(sqlite={"path": str(tmp_path / "jobs.db")}, redis=redis, rabbitmq=rabbitmq)


async def test_all_comes_back_unchanged_from_sqlite_by_redis_and_rabbitmq(ring: dict[str, Any]) -> None:
    sent = cargo(IN_THE_RING)
    async with Headrace(ring) as app:
        sqlite = await app.queue("sqlite").driver()
        since = time.monotonic()
        await load(sqlite, sent, 1000)
        for source, target in pairwise(("sqlite", "redis", "rabbitmq", "sqlite")):
            outcome = await move(app, source, target)
            assert outcome.is_complete
            assert outcome.moved == dict.fromkeys(CHANNELS, IN_THE_RING)
            assert outcome.twice == 0
        found = await unload(sqlite)
        assert await drained(app, "redis", "rabbitmq")
    assert not twice(found)
    expect(found, sent, since=since)


async def test_all_comes_back_from_sqs_with_what_was_delayed_when_it_is_due(
    tmp_path: Path, sqs: dict[str, Any]
) -> None:
    sent = cargo(THROUGH_SQS, delay=SQS_DELAY)
    async with Headrace(config(sqlite={"path": str(tmp_path / "jobs.db")}, sqs=sqs)) as app:
        sqlite = await app.queue("sqlite").driver()
        since = time.monotonic()
        await load(sqlite, sent, 1000)
        there = await move(app, "sqlite", "sqs")
        back = await move(app, "sqs", "sqlite")
        found = await unload(sqlite)
        assert await drained(app, "sqs")
    assert there.is_complete
    assert back.is_complete
    expect(found, sent, since=since, due=True)


@pytest.mark.parametrize(
    ("source", "target"),
    [("sqlite", "redis"), ("redis", "rabbitmq"), ("rabbitmq", "sqlite")],
    ids=["sqlite-redis", "redis-rabbitmq", "rabbitmq-sqlite"],
)
async def test_a_migration_that_is_killed_again_and_again_loses_nothing(
    ring: dict[str, Any], source: str, target: str
) -> None:
    sent, since, chance = cargo(KILLED), time.monotonic(), random.Random()
    async with Headrace(ring) as app:
        await load(await app.queue(source).driver(), sent, 1000)
    kills = 0
    while (status := await _run(ring, source, target, chance.randint(5, LAST_CALL) if kills < KILLS else 0)) != 0:
        assert status == -signal.SIGKILL
        kills += 1
    print(f"{source} -> {target}: killed {kills} times")
    async with Headrace(ring) as app:
        driver = await app.queue(target).driver()
        assert await drained(app, source)
        if target == "rabbitmq":  # which shows nothing of what waits: what has come there is moved once more
            await Migration(app.queue(target), app.queue("sqlite")).run()
            driver = await app.queue("sqlite").driver()
        found = await unload(driver)
        await driver.destroy()
    assert kills
    if target == "rabbitmq":
        assert {channel: ids(found[channel]) for channel in CHANNELS} == {
            channel: ids(sent[channel]) for channel in CHANNELS
        }
    else:
        expect(found, sent, since=since, deaths=kills)


async def _run(settings: dict[str, Any], source: str, target: str, call: int) -> int:
    """Migrate in another process, which is killed at that call; its exit status."""
    arguments = [json.dumps(settings), source, target, str(BATCH), str(call)]
    program = await asyncio.create_subprocess_exec(sys.executable, PROGRAM, *arguments)
    try:
        return await program.wait()
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
