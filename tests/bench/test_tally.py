"""The count of what ran: across processes, and past their end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace_bench.tally import Tallies, Tally


def test_jobs_that_never_ran_are_counted_and_named(tmp_path: Path) -> None:
    with Tally(tmp_path, 5) as tally:
        for number in (0, 1, 1, 4):
            tally.ran(number)
        assert tally.distinct == 3
    found = Tallies(tmp_path, 5)
    assert (found.ran, found.lost, found.duplicates, found.missing) == (3, 2, 1, [2, 3])


def test_processes_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for process, ran in ((1, (0, 1)), (2, (1, 2))):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        with Tally(tmp_path, 4) as tally:
            for number in ran:
                tally.ran(number)
    found = Tallies(tmp_path, 4)
    assert (found.ran, found.lost, found.duplicates, found.missing) == (3, 1, 1, [3])


def test_nothing_is_counted_where_nothing_runs(tmp_path: Path) -> None:
    found = Tallies(tmp_path, 3)
    assert (found.ran, found.lost, found.duplicates) == (0, 3, 0)


def test_the_first_start_of_a_job_is_the_one_that_is_timed(tmp_path: Path) -> None:
    with Tally(tmp_path, 2) as tally:
        tally.started(0)
        first = Tallies(tmp_path, 2).times()[0]
        tally.started(0)
    found = Tallies(tmp_path, 2)
    assert found.times() == [first, 0.0]
    assert found.duplicates == 1


def test_what_a_process_counted_outlives_its_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from headrace_bench.tally import Tally\n"
        "tally = Tally(Path(sys.argv[1]), 3); tally.ran(2); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path)], check=False)
    assert Tallies(tmp_path, 3).missing == [0, 1]
