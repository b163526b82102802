"""Workers killed with ``kill -9`` at random moments lose nothing.

The short form runs with the other tests; ``tox -e faults`` runs the long one: 100 kills over 20,000 jobs.
"""

import os
from pathlib import Path

import pytest
from load import Load

LONG = "HEADRACE_TEST_LONG" in os.environ
JOBS, KILLS = (20_000, 100) if LONG else (2_000, 10)


@pytest.mark.timeout(1800 if LONG else 120)
async def test_no_job_is_lost_when_workers_are_killed_at_random(tmp_path: Path) -> None:
    async with Load(tmp_path, "sqlite") as load:
        await load.kill_workers(KILLS, JOBS)
        assert await load.lost(f"{KILLS} workers killed") == 0
