"""Workers that are stopped for longer than their lease, and then go on."""

import os
import signal
from pathlib import Path

import pytest
from places import Place

from .works import Works

#: Where leases have an end; RabbitMQ's are connections, which a stopped process keeps until its heartbeat is missed.
TIMED = ["sqlite", *(["redis", "sqs"] if "HEADRACE_TEST_LONG" in os.environ else [])]

#: As many as one worker has in its hands.
JOBS = 10


@pytest.mark.parametrize("place", TIMED, indirect=True)
async def test_the_late_acks_of_a_stopped_worker_take_nothing_from_who_has_its_jobs_now(
    tmp_path: Path, place: Place
) -> None:
    async with Works(tmp_path, place) as works:
        await works.push("Slow", range(JOBS), seconds=1.5)
        zombie = works.start_worker()
        await works.until("all to begin", lambda: len(works.runs("began")) == JOBS)
        works.signal_processes(zombie, signal.SIGSTOP)
        holder = works.start_worker()
        await works.until("all to begin again", lambda: works.runs("began").total() == 2 * JOBS)
        works.signal_processes(zombie, signal.SIGCONT)
        await works.until("the stopped worker's runs to end", lambda: works.runs().total() >= JOBS)
        await works.until("it to be told of each", lambda: works.log().count("no longer ours") >= JOBS)
        works.kill(holder)
        info = await works.until_empty()
        runs = works.runs()
        print(
            f"\n{place.name}: a worker stopped past its lease with {JOBS} jobs in its hands: {len(works.confirmed)} "
            f"pushed, {len(runs)} executed, {runs.total() - len(runs)} run twice, {info.failed} failed, "
            f"{len(works.confirmed - set(runs))} lost"
        )
        # The second run is that of what came back when its holder was killed: no late ack had removed it.
        assert runs == dict.fromkeys(range(JOBS), 2)
