"""``headrace demo``: it shows what it says, its totals are checked, and it leaves nothing behind."""

import os
import re
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.application import app
from headrace.demo import stage
from headrace.demo.counting import Count, Totals, find_files
from headrace.demo.stage import Progress
from headrace.driver import Info

from .conftest import Shop, until


@pytest.fixture
def files(shop: Shop) -> Path:
    """A folder of thirty files that can be counted, and some that the demo leaves alone."""
    folder = shop.folder / "files"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.txt").write_text("one two\nthree\n" * number)
    (folder / "link").symlink_to(folder / "1.txt")
    (folder / "large").write_bytes(b"x" * 1_000_001)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "file").write_text("not ours")
    return folder


def scratch(shop: Shop) -> list[Path]:
    return list(Path(shop.environment["TMPDIR"]).iterdir())


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def processes_named(text: str) -> set[int]:
    """The processes whose log the demo shows."""
    return {int(found) for found in re.findall(r"worker \S+:(\d+) started", text)}


def test_the_demo_ends_with_totals_that_agree_and_leaves_nothing(shop: Shop, files: Path) -> None:
    done = shop.run("demo", str(files))
    assert "30 files of" in done.stdout
    assert "35 jobs stored" in done.stdout
    assert done.stderr == ""
    assert "The totals agree." in done.stdout
    # What failed, and why; the two workers, the killed one, and its successor.
    assert re.search(r"failed +FailsForGood +ValueError", done.stdout)
    assert re.search(r"failed +KillsItsWorker +WorkerDied: .*SIGKILL", done.stdout)
    assert re.search(r"timeout +RunsTooLong +JobTimeout", done.stdout)
    assert "was ended by SIGKILL" in done.stdout
    assert "3 messages moved back to waiting" in done.stdout
    started = processes_named(done.stdout)
    assert len(started) >= 3
    assert not any(map(alive, started))
    assert scratch(shop) == []
    assert not (shop.folder / "headrace.db").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_demo_cleans_up_when_it_is_interrupted(shop: Shop, files: Path, number: signal.Signals) -> None:
    demo = shop.start("demo", str(files))
    until(lambda: processes_named(shop.output), "a worker has started")
    demo.send_signal(number)
    assert demo.wait(20) == 130
    assert "Interrupted" in shop.log
    assert "Traceback" not in shop.log
    until(lambda: not any(map(alive, processes_named(shop.output))), "the workers are gone")
    assert scratch(shop) == []


def test_workers_of_a_demo_that_is_killed_end_by_themselves(shop: Shop, files: Path) -> None:
    demo = shop.start("demo", str(files))
    until(lambda: processes_named(shop.output), "a worker has started")
    demo.kill()
    demo.wait()
    until(lambda: not any(map(alive, processes_named(shop.output))), "the workers are gone")


def test_the_demo_exits_with_1_where_the_totals_differ(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = stage.plain_counts

    async def wrong_counts(paths: list[str]) -> dict[str, Count]:
        counts = await counted(paths)
        return {**counts, paths[3]: Count(0, 0, 0, "")}

    monkeypatch.setattr(stage, "plain_counts", wrong_counts)
    result = CliRunner().invoke(app, ["demo", str(files)])
    assert result.exit_code == 1, result.output
    assert "the totals differ, by 1 file" in result.stderr
    assert str(find_files(files).paths[3]) in result.stderr
    assert "The totals agree" not in result.stdout


def test_the_demo_refuses_a_folder_without_files_and_a_backend_of_one_process(shop: Shop, files: Path) -> None:
    empty = shop.folder / "empty"
    empty.mkdir()
    assert "holds no file" in shop.run("demo", str(empty), status=2).stderr
    done = shop.run("demo", str(files), status=2, HEADRACE_BACKEND="memory")
    assert "'memory' does not offer 'shared'" in done.stderr
    assert scratch(shop) == []


def test_the_demo_takes_regular_files_within_its_limits(files: Path) -> None:
    found = find_files(files)
    assert sorted(Path(path).name for path in found.paths) == sorted(f"{number}.txt" for number in range(30))
    assert found.left_out == 2


def test_totals_do_not_depend_on_the_order_of_the_files() -> None:
    counts = [("a", Count(1, 2, 3, "x")), ("b", Count(4, 5, 6, "y"))]
    assert Totals.of(counts) == Totals.of(reversed(counts))
    assert Totals.of(counts) != Totals.of([("a", counts[1][1]), ("b", counts[0][1])])


def test_the_demo_s_jobs_are_known_to_no_other_command(shop: Shop) -> None:
    assert "CountFile" not in shop.run("push", "CountFile", status=2).stderr.partition(";")[2]


def test_progress_never_adds_up_to_more_than_there_is() -> None:
    # What an approximate count still has among the waiting has run; one of the failed is not to be hidden by that.
    late = Progress(done=90, total=100, info=Info(40, None, 3, 1, 0, None))
    assert late.channels == {"waiting": 6, "delayed": 3, "failed": 1, "timeout": 0}
    timed_out = Progress(done=100, total=100, info=Info(1, 0, 0, 0, 1, None))
    assert timed_out.channels == {"waiting": 0, "reserved": 0, "delayed": 0, "failed": 0, "timeout": 1}
