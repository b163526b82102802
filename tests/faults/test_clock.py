"""A worker whose wall clock jumps by days, forth and back, while it works.

By libfaketime, which is put before the one worker: the machine's clock, and the server's, stay. Elapsed time is not
touched, as on a machine whose clock is set.
"""

import asyncio
import os
import time
from pathlib import Path

import pytest
from places import Place

from headrace.conformance.servers.programs import find_program

from .works import Works

LONG = "HEADRACE_TEST_LONG" in os.environ

#: Jobs of each kind.
JOBS = 10

#: Seconds that delayed ones are, and that slow ones take: more than a lease.
DELAY = 3.0


def library() -> Path:
    """Where libfaketime is. Raises `ServerNotFound` as for a server that is not here."""
    program = Path(find_program("HEADRACE_TEST_FAKETIME", ("faketime",), "faketime")).resolve()
    (found,) = program.parent.parent.glob("lib/*/faketime/libfaketimeMT.so.1")
    return found


@pytest.mark.parametrize("place", ["sqlite", *(["redis", "rabbitmq", "sqs"] if LONG else [])], indirect=True)
async def test_a_wall_clock_that_jumps_makes_no_job_early_late_or_twice(tmp_path: Path, place: Place) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    async with Works(tmp_path, place, max_retries=1, retry_seconds=1) as works:
        worker = works.start_worker(environment=environment)
        await works.push("Slow", range(1), seconds=0.0)
        await works.until("it to work", works.runs)
        await works.push("Slow", range(1, JOBS), seconds=DELAY)
        due = time.monotonic() + DELAY
        await works.push("Slow", range(JOBS, 2 * JOBS), seconds=0.0, delay=DELAY)
        await works.push("Slow", range(2 * JOBS, 2 * JOBS + 1), seconds=0.0, failures=1)
        for jump in ("+2d", "-2d", "+1h", "+0"):
            clock.write_text(jump)
            await asyncio.sleep(1)
        await works.until_empty()
        runs = works.runs()
        early = [entry for entry in works.ledger.entries("ran") if JOBS <= int(entry.key) < 2 * JOBS]
        lateness = [entry.time - due for entry in early]
        print(
            f"\n{place.name}: the worker's clock jumped by days: {len(works.confirmed)} pushed, {len(runs)} executed, "
            f"{runs.total() - len(runs)} run twice; delayed ones {min(lateness):.2f} to {max(lateness):.2f} s after "
            f"they were due"
        )
        assert runs == dict.fromkeys(works.confirmed, 1)
        assert min(lateness) > -0.05
        await asyncio.to_thread(works.end, worker)
