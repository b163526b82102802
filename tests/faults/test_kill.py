"""Workers killed with ``kill -9`` at random moments lose nothing.

The short form runs with the other tests; ``tox -e faults`` runs the long one: 100 kills over 20,000 jobs.
"""

import asyncio
import os
import random
from pathlib import Path

import pytest
from load import Load

LONG = "HEADRACE_TEST_LONG" in os.environ
JOBS, KILLS = (20_000, 100) if LONG else (2_000, 10)


@pytest.mark.timeout(1800 if LONG else 120)
async def test_no_job_is_lost_when_workers_are_killed_at_random(tmp_path: Path) -> None:
    async with Load(tmp_path, "sqlite") as load:
        await load.push(range(JOBS))
        for each in range(KILLS):
            worker = load.start_worker()
            # From before its first line to the midst of its work.
            if each % 2:
                await load.until_more_runs()
            await asyncio.sleep(random.uniform(0, 1.0))
            load.kill_worker(worker)
        killed = load.runs().total()
        load.start_worker()
        await load.until_done(600)
        assert await load.lost(f"{KILLS} workers killed, after {killed:,} runs") == 0
        assert killed > 0
