"""Old and new code on one queue, as while a deployment goes on."""

import asyncio
import importlib
import os
from collections import Counter
from pathlib import Path

import pytest
from places import Place

from .works import Works

LONG = "HEADRACE_TEST_LONG" in os.environ

#: Jobs of each kind: those with a field that only the new code knows, and those that it alone knows.
JOBS = 30


@pytest.mark.parametrize("place", ["sqlite", *(["redis", "rabbitmq", "sqs"] if LONG else [])], indirect=True)
async def test_jobs_that_an_old_worker_does_not_know_reach_the_new_one(tmp_path: Path, place: Place) -> None:
    importlib.import_module("new_jobs")
    async with Works(tmp_path, place) as works:
        works.configure("old.toml", "old_jobs")
        works.configure("new.toml", "new_jobs")
        old = works.start_worker("old.toml")
        await works.push("Invoice", range(JOBS), currency="USD")
        await works.push("Reminder", range(JOBS, 2 * JOBS))
        await asyncio.sleep(2)
        assert not works.runs("ran by the old", "ran by the new")
        new = works.start_worker("new.toml")
        await works.until("some to run", lambda: works.runs("ran by the new"))
        await asyncio.to_thread(works.end, old)
        info = await works.until_empty()
        runs = works.runs("ran by the old", "ran by the new")
        attempts = Counter(entry.attempt for entry in works.ledger.entries())
        print(
            f"\n{place.name}: {len(works.confirmed)} jobs that an old worker does not know: {len(runs)} executed by "
            f"the new one, {runs.total() - len(runs)} run twice, {info.failed} failed, "
            f"{attempts.total() - attempts[0]} of the runs with an attempt spent"
        )
        assert runs == dict.fromkeys(works.confirmed, 1)
        assert not works.runs("ran by the old")
        assert not info.failed
        assert attempts.keys() == {0}
        await asyncio.to_thread(works.end, new)
