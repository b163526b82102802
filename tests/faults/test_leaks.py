"""Handlers that leak files, threads and tasks."""

import asyncio
import os
import resource
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from places import Place

from .works import Works

#: Jobs, each of which leaks one of each kind.
JOBS = 60

#: What a process may have open: less than all the jobs together would leave open.
FILES = 50


@pytest.mark.skipif("HEADRACE_TEST_LONG" not in os.environ, reason="left to the long form, tox -e faults")
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_worker_that_is_replaced_in_time_takes_what_its_handlers_leaked_with_it(
    tmp_path: Path, place: Place
) -> None:
    async with Works(tmp_path, place, max_messages=JOBS // 3) as works:
        await works.push("Leaking", range(JOBS))
        worker = works.start_worker()
        await works.until("all to run", lambda: works.runs().total() >= JOBS)
        await works.until_empty()
        processes = {entry.pid for entry in works.ledger.entries("ran")}
        await works.until("the old ones to be gone", lambda: sum(map(psutil.pid_exists, processes)) <= 1)
        runs = works.runs()
        print(
            f"\nhandlers that leak, processes replaced after {JOBS // 3} of them: {len(runs)} executed in "
            f"{len(processes)} processes, {runs.total() - len(runs)} run twice"
        )
        assert runs == dict.fromkeys(range(JOBS), 1)
        assert len(processes) == 3
        works.end(worker)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_worker_whose_handlers_have_used_up_its_files_loses_nothing_and_ends_when_told(
    tmp_path: Path, place: Place
) -> None:
    async with Works(tmp_path, place) as works:
        worker = works.start_worker()
        await works.push("Slow", range(1), seconds=0.0)
        await works.until("it to work", works.runs)
        (process,) = psutil.Process(worker.pid).children()
        process.rlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
        await works.push("Leaking", range(1, JOBS))
        info = await works.until_empty()
        failed = {each.arguments["number"] for each in await works.app.queue().list("failed", limit=JOBS)}
        seconds = await asyncio.to_thread(works.end, worker)
        ran = set(works.runs())
        print(
            f"\nhandlers that leak, {FILES} files allowed: {len(works.confirmed)} pushed, {len(ran)} executed, "
            f"{info.failed} failed for want of files, {len(works.confirmed - ran - failed)} lost; "
            f"the worker ended {seconds:.1f} s after it was told to"
        )
        assert failed
        assert ran | failed == works.confirmed
        assert not ran & failed
