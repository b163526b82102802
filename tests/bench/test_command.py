"""``headrace bench``: what it measures, what it leaves, and how it ends."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from headrace_bench.results import Measurement, to_json

from .conftest import Bench, measured, report_of, run, wait_for

ONE = ("--quick", "--runs", "1", "--scenario", "push_many")


def of(measurements: Sequence[Measurement], participant: str) -> list[Measurement]:
    return [each for each in measurements if each.participant == participant]


def test_backends_are_measured_beside_their_bare_clients_and_a_report_is_left(bench: Bench) -> None:
    said = bench.run("memory", "sqlite", "--quick", "--runs", "1", "--scenario", "push_many")
    report = bench.report
    assert report.complete
    assert [each.name for each in report.participants] == ["memory", "memory, bare", "sqlite", "sqlite, bare"]
    assert all(run.figures["rate"] > 0 and not run.lost for each in report.measurements for run in each.runs)
    assert {path.name for path in (bench.folder / "headrace-bench").iterdir()} == {
        *("charts", "report.html", "report.json", "report.md", "report.schema.json")
    }
    assert "of bare" in said
    bench.expect_clean()


def test_a_third_partys_backend_stands_beside_the_built_in_ones(bench: Bench) -> None:
    bench.run("repeating", "memory", *ONE)
    assert {each.participant for each in bench.report.measurements} == {"memory", "memory, bare", "repeating"}


def test_what_loses_a_job_shows_lost_in_place_of_a_figure(bench: Bench) -> None:
    said = bench.run("losing", *ONE, status=1)
    assert "LOST 1" in said
    assert all(run.lost == 1 and not run.figures for each in bench.report.measurements for run in each.runs)


def test_jobs_that_ran_twice_are_counted(bench: Bench) -> None:
    said = bench.run("repeating", *ONE)
    assert "run twice" in said
    assert all(run.duplicates and run.figures for each in bench.report.measurements for run in each.runs)


def test_a_duplicate_that_is_left_over_is_counted_and_is_no_loss(bench: Bench) -> None:
    bench.run("trailing", *ONE)
    assert all(run.duplicates and not run.lost for each in bench.report.measurements for run in each.runs)


@pytest.mark.parametrize(
    ("misfit", "words"), [("raising", "a mistake of the plugin's"), ("dying", "its process ended by SIGKILL")]
)
def test_a_plugin_that_breaks_spoils_its_own_runs_and_no_others(bench: Bench, misfit: str, words: str) -> None:
    said = bench.run(misfit, "memory", *ONE, status=1)
    assert words in said
    report = bench.report
    assert report.complete
    assert all(words in run.error for each in of(report.measurements, misfit) for run in each.runs)
    assert all(run.figures for each in of(report.measurements, "memory") for run in each.runs)
    bench.expect_clean()


def test_a_plugin_that_fails_again_and_again_is_left_out(bench: Bench) -> None:
    bench.run("raising", "--quick", "--runs", "5", "--scenario", "push", status=1)
    assert any("given up after 4 runs" in each.reason for each in bench.report.skipped)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_session_saves_what_it_has_and_cleans_up(bench: Bench, number: signal.Signals) -> None:
    process = bench.start("memory", "hanging", "--quick", "--runs", "1", "--scenario", "push", "--scenario", "kill")
    wait_for(process, "push, one by one, 100 B: memory, bare")
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    report = bench.report
    assert (report.complete, report.ended) == (False, "interrupted")
    assert of(report.measurements, "memory")
    assert "Incomplete: interrupted" in (bench.folder / "headrace-bench" / "report.html").read_text()
    bench.expect_clean()


def is_server(process: psutil.Process) -> bool:
    """Not the process that is measuring Redis just now, which has the word among its arguments, and may end."""
    try:
        return str(process.name()).startswith("redis-server")
    except psutil.NoSuchProcess:
        return False


def test_a_server_that_dies_costs_its_backends_figures_and_no_others(bench: Bench) -> None:
    process = bench.start("redis", "memory", "--start-servers", "--quick", "--runs", "3", "--scenario", "push_many")
    wait_for(process, "redis: at least once")
    (server,) = (each for each in psutil.Process(process.pid).children() if is_server(each))
    server.kill()
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 1, said
    report = bench.report
    assert report.complete
    assert any(each.participant == "redis" and "its server died" in each.reason for each in report.skipped)
    assert all(run.figures for each in of(report.measurements, "memory") for run in each.runs)
    bench.expect_clean()


def test_what_needs_a_server_is_not_looked_for_unless_somebody_says_where(bench: Bench) -> None:
    process = bench.start("--quick", "--runs", "1", "--scenario", "reload")
    said = wait_for(process, "sqs: not measured: ")
    assert "redis: not measured: name it, configure it, or --start-servers" in said


def test_a_backend_that_was_named_and_cannot_be_reached_is_a_failure(bench: Bench) -> None:
    said = bench.run("redis", "--option", "url=redis://127.0.0.1:1/0", "--quick", status=1)
    assert "redis: not measured: " in said
    assert "There is nothing to measure." in said


def test_a_rate_and_a_size_are_answered_with_a_row_for_each_backend(bench: Bench) -> None:
    said = bench.run("sqlite", "--quick", "--runs", "1", "--rate", "50", "--body", "1kB")
    assert "Which backend?" in said
    assert "50 jobs a second of 1 kB" in said
    (question, after_kill) = bench.report.question, bench.report.participants[0].after_kill
    assert question is not None
    assert (question.rate, question.body) == (50, 1000)
    assert after_kill.startswith("none lost")


def test_json_on_stdout_is_the_report_alone(bench: Bench) -> None:
    process = bench.start("memory", "--quick", "--runs", "1", "--scenario", "reload", "--json")
    assert process.stdout is not None
    said = process.communicate(timeout=60)[0]
    document = said[said.index("\n{") :]
    assert json.loads(document)["complete"] is True


def test_the_scenarios_are_listed(bench: Bench) -> None:
    said = bench.run("--list")
    assert {"push", "consume", "latency", "kill"} <= {line.split(" ")[0] for line in said.splitlines()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("squlite",), 'did you mean "sqlite"?'),
        (("--scenario", "latecny"), 'did you mean "latency"?'),
        (("--option", "path=x"), "it belongs to one backend"),
        (("--body", "10kB"), "it goes with --rate"),
        (("--rate", "10", "--body", "large"), "is no size"),
        (("--rate", "10", "--scenario", "push"), "says itself what is measured"),
        (("compare", "one.json"), "takes two reports"),
        (("compare", "one.json", "two.json"), "No such file"),
    ],
)
def test_wrong_usage_is_refused_in_words(bench: Bench, arguments: Sequence[str], words: str) -> None:
    said = bench.run(*arguments, status=2)
    assert words in " ".join(said.replace("│", " ").split())


def test_two_reports_are_compared_and_a_loss_shows_in_the_status(bench: Bench) -> None:
    def write(name: str, *rates: float) -> str:
        runs = [run(rate, number) for number, rate in enumerate(rates)]
        path = bench.folder / name
        path.write_bytes(to_json(report_of(measured("river", *runs, body=100))))
        return str(path)

    old, new, same = write("old.json", 100, 101, 102), write("new.json", 50, 51, 52), write("same.json", 99, 101, 103)
    assert "rate: 101 to 51.0 jobs/s (-50%)" in bench.run("compare", old, new, status=1)
    assert "Nothing changed beyond the noise." in bench.run("compare", old, same)
    assert "better" in bench.run("compare", new, old)


def test_what_is_no_report_cannot_be_compared(bench: Bench) -> None:
    Path(bench.folder, "no.json").write_text("{}")
    assert "it is no report" in bench.run("compare", "no.json", "no.json", status=2)
