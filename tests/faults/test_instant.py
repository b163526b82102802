"""Ten thousand jobs that fall due in one instant."""

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from places import Place

from .works import Works, job

LONG = "HEADRACE_TEST_LONG" in os.environ

#: Moto takes 10 messages in a request, and milliseconds for each.
JOBS = {"sqlite": 10_000, "redis": 10_000, "rabbitmq": 10_000, "sqs": 1_000}

#: Jobs of one push, which is when what is left of the delay is reckoned.
PORTION = 500

#: Seconds until they are due: enough to push them all, on a slow machine too.
AHEAD = {"sqlite": 10, "redis": 10, "rabbitmq": 20, "sqs": 20}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("place", [*JOBS] if LONG else ["sqlite"], indirect=True)
async def test_jobs_that_fall_due_in_one_instant_all_run_and_none_early(tmp_path: Path, place: Place) -> None:
    count = JOBS[place.name]
    async with Works(tmp_path, place) as works:
        due = time.monotonic() + AHEAD[place.name]
        moment = datetime.now(UTC) + timedelta(seconds=AHEAD[place.name])
        for start in range(0, count, PORTION):
            jobs = [job("Slow", number, seconds=0) for number in range(start, start + PORTION)]
            await works.app.queue().push_many(jobs, delay=moment)
        pushed = time.monotonic()
        assert pushed < due, "they were due before all were pushed"
        worker = works.start_worker()
        await works.until("all to run", lambda: works.runs().total() >= count, 200)
        times = [entry.time - due for entry in works.ledger.entries("ran")]
        runs = works.runs()
        print(
            f"\n{place.name}: {count:,} jobs pushed in {AHEAD[place.name] - due + pushed:.1f} s, all due in one "
            f"instant: the first ran after {min(times):.2f} s, the last after {max(times):.1f} s; "
            f"{len(runs):,} executed, {runs.total() - len(runs)} run twice"
        )
        assert set(runs) == set(range(count))
        assert min(times) > -0.05  # the delay was reckoned a moment before
        await works.until_empty()
        await asyncio.to_thread(works.end, worker)
