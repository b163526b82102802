"""A job that kills its worker while innocent ones are in flight beside it.

The short form has five of these, ``tox -e faults`` a hundred: each becomes a suspect, and is run in its own process.
"""

import os
from pathlib import Path

import pytest
from places import Place

from .works import Works

INNOCENTS = 100 if "HEADRACE_TEST_LONG" in os.environ else 5

#: Deaths after which a message is suspect.
MOST = 2


@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_poison_job_comes_to_rest_and_the_innocent_that_died_with_it_all_run(
    tmp_path: Path, place: Place
) -> None:
    settings = {"max_redeliveries": MOST, "concurrent.limit": INNOCENTS + 1}
    async with Works(tmp_path, place, **settings) as works:
        await works.push("Slow", range(INNOCENTS), seconds=0.5)
        await works.push("Poison", range(INNOCENTS, INNOCENTS + 1), innocents=INNOCENTS)
        worker = works.start_worker()
        info = await works.until_empty(500)
        (resting,) = await works.app.queue().list("failed")
        runs, deaths = works.runs(), works.runs("kills").total()
        print(
            f"\n{INNOCENTS} innocent jobs in flight beside a poison one: it killed {deaths} processes, the last one "
            f"its own; {len(runs)} innocent ones executed, {runs.total() - len(runs)} run twice, "
            f"{info.failed} in failed"
        )
        assert set(runs) == set(range(INNOCENTS))
        assert resting.arguments["number"] == INNOCENTS
        assert resting.message.note is not None
        assert "SIGKILL (-9)" in resting.message.note.message
        assert deaths == MOST + 1
        works.end(worker)
