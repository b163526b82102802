"""``headrace worker``: real processes, real signals."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from headrace.conformance.servers.process import free_port

from .conftest import CONFIG, JOBS, Shop, until


def test_until_empty_runs_what_is_there_and_ends(shop: Shop) -> None:
    shop.store("Send", *({"user_id": number} for number in range(8)))
    shop.push("Send", "--delay", "0.3", user_id=8)
    shop.run("worker", "mail", "--until-empty", "--processes", "2")
    assert sorted(shop.words) == sorted(f"sent {number}" for number in range(9))
    assert shop.counts() == {}
    assert shop.processes() == []


def test_the_first_lines_tell_configuration_backend_and_place(shop: Shop) -> None:
    first, second, *_ = shop.run("worker", "mail,low", "--until-empty").stderr.splitlines()
    assert first.endswith(f"configured by {shop.folder / 'headrace.toml'}")
    assert f"queue mail: sqlite at {shop.folder / 'headrace.db'}; 1 process, 4 at once in each" in second
    assert second.endswith("together with mail,low")


def test_each_enabled_queue_has_processes_of_its_own(shop: Shop) -> None:
    shop.push("Send", user_id=1)
    shop.push("Send", "--queue", "low", user_id=2)
    log = shop.run("worker", "--until-empty").stderr
    assert "queue default" not in log
    assert sorted(shop.words) == ["sent 1", "sent 2"]
    assert len({process for process, _ in shop.record}) == 2


def test_where_no_queue_is_enabled_there_is_nothing_to_do(shop: Shop) -> None:
    shop.configure("[queues.default]\nenabled = false\n")
    assert "no queue is enabled" in shop.run("worker", status=2).stderr


def test_a_group_serves_its_queues_in_strict_order(shop: Shop) -> None:
    for number in range(3):
        shop.push("Send", "--queue", "low", user_id=number)
        shop.push("Send", user_id=10 + number)
    shop.run("worker", "mail,low", "--until-empty", "--concurrency", "1")
    assert shop.words == ["sent 10", "sent 11", "sent 12", "sent 0", "sent 1", "sent 2"]
    assert len({process for process, _ in shop.record}) == 1


def test_a_process_is_replaced_after_exactly_max_messages(shop: Shop) -> None:
    shop.store("Send", *({"user_id": number} for number in range(5)))
    shop.run("worker", "mail", "--until-empty", "--max-messages", "2")
    assert sorted(Counter(process for process, _ in shop.record).values()) == [1, 2, 2]


def test_sigterm_lets_a_running_handler_end(shop: Shop) -> None:
    shop.push("Hold")
    worker = shop.start("worker", "mail")
    until(lambda: shop.words == ["holding"], "the handler runs")
    worker.send_signal(signal.SIGTERM)
    until(lambda: "stopping" in shop.log, "the supervisor has heard")
    shop.push("Send", user_id=1)
    shop.touch("release")
    assert worker.wait(20) == 0
    assert shop.words == ["holding", "released"]
    # What came meanwhile was not taken any more.
    assert shop.counts() == {"waiting": 1}
    assert shop.processes() == []


def test_a_second_signal_ends_at_once_and_gives_back_at_no_cost(shop: Shop) -> None:
    message_id = shop.push("Hold")
    worker = shop.start("worker", "mail")
    until(lambda: shop.words == ["holding"], "the handler runs")
    worker.send_signal(signal.SIGTERM)
    until(lambda: "stopping" in shop.log, "the supervisor has heard")
    started = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    # Well below the shutdown_timeout of 5 s.
    assert time.monotonic() - started < 4
    (listed,) = shop.json("list", "mail", "--channel", "waiting")
    assert (listed["id"], listed["attempt"], listed["deaths"]) == (message_id, 0, 0)


def test_two_signals_that_a_busy_process_hears_as_one_are_two(shop: Shop) -> None:
    message_id = shop.push("Hold")
    worker = shop.start("worker", "mail")
    until(lambda: shop.words == ["holding"], "the handler runs")
    (process,) = shop.processes()
    os.kill(process, signal.SIGSTOP)
    worker.send_signal(signal.SIGTERM)
    until(lambda: "stopping" in shop.log, "the supervisor has heard")
    worker.send_signal(signal.SIGTERM)
    until(lambda: "a second time" in shop.log, "the supervisor has heard again")
    os.kill(process, signal.SIGCONT)
    assert worker.wait(20) == 0
    (listed,) = shop.json("list", "mail", "--channel", "waiting")
    assert (listed["id"], listed["attempt"], listed["deaths"]) == (message_id, 0, 0)


def test_ctrl_c_is_passed_on_once(shop: Shop) -> None:
    shop.push("Hold")
    worker = shop.start("worker", "mail")
    until(lambda: shop.words == ["holding"], "the handler runs")
    # As a terminal does: to every process of the group in the foreground.
    os.killpg(worker.pid, signal.SIGINT)
    until(lambda: "stopping" in shop.log, "the supervisor has heard")
    shop.touch("release")
    assert worker.wait(20) == 0
    assert shop.words == ["holding", "released"]


def test_a_process_that_is_killed_is_replaced_and_its_job_runs_again(shop: Shop) -> None:
    shop.push("Hold")
    worker = shop.start("worker", "mail")
    until(lambda: shop.words == ["holding"], "the handler runs")
    (first, _), *_ = shop.record
    os.kill(first, signal.SIGKILL)
    until(lambda: len(shop.record) == 2, "another process runs the job")
    shop.touch("release")
    until(lambda: shop.words[-1] == "released", "the job ends")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert shop.record[1][0] != first
    assert f"process {first} (mail) was ended by SIGKILL" in shop.log
    assert shop.counts() == {}


def test_when_the_supervisor_is_killed_no_process_goes_on_for_long(shop: Shop) -> None:
    shop.push("Hold")
    worker = shop.start("worker", "mail", "low", "--processes", "2")
    until(lambda: shop.words == ["holding"] and len(shop.processes()) == 4, "all processes are there")
    worker.kill()
    worker.wait()
    # They stop as by SIGTERM: the idle ones now, the one with a handler once that has ended.
    until(lambda: len(shop.processes()) == 1, "the idle processes are gone")
    shop.touch("release")
    until(lambda: not shop.processes(), "the last process is gone")
    assert shop.words == ["holding", "released"]
    assert shop.counts() == {}


def test_a_process_that_crashes_at_once_is_started_ever_more_rarely(shop: Shop) -> None:
    (shop.folder / "shop_jobs.py").write_text("import os\nos._exit(9)\n")
    worker = shop.start("worker", "mail")
    until(lambda: shop.log.count("ended with exit status 9") == 4, "it has crashed four times")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    delays = [float(line.split()[-2]) for line in shop.log.splitlines() if "the next process" in line]
    assert delays[:3] == sorted(delays[:3])
    assert delays[2] > 2 * delays[0]


@pytest.mark.timeout(120)
def test_a_job_that_ends_its_process_cannot_pass_for_a_worker_that_ended_well(shop: Shop) -> None:
    statuses = (0, 2, 3)  # done, refused, replaced: what a process' exit could be taken for
    for status in statuses:
        shop.push("Quit", status=status)
    shop.push("Send", user_id=1)
    shop.push("Send", "--queue", "low", user_id=2)
    log = shop.run("worker", "mail", "low", "--until-empty").stderr
    assert sorted(shop.words) == ["sent 1", "sent 2"]
    assert shop.counts() == {"failed": len(statuses)}
    for status in statuses:
        assert f"ended with exit status {status}" in log


def test_a_job_that_ends_its_program_from_a_task_takes_no_other_along(shop: Shop) -> None:
    shop.configure(CONFIG.replace("[queues.mail]", "[queues.mail]\nmax_redeliveries = 1"))
    shop.push("ExitsBeside")
    for _ in range(3):
        shop.push("Hold")
    worker = shop.start("worker", "mail", "--until-empty")
    until(lambda: "runs in a process of its own" in shop.log, "there are suspects")
    shop.touch("release")
    until(lambda: worker.poll() is not None, "the worker ends")
    assert shop.words.count("released") == 3
    assert shop.counts() == {"failed": 1}
    (failed,) = shop.json("list", "mail")
    assert failed["job"] == "ExitsBeside"


def test_a_backend_that_cannot_be_used_ends_the_worker_with_one_line(shop: Shop) -> None:
    (shop.folder / "headrace.db").write_bytes(b"no database at all" * 1000)
    # The work failed, as for `headrace info`: no configuration is wrong.
    done = shop.run("worker", "mail", "low", "--until-empty", status=1)
    assert done.stderr.count("is not an SQLite database") == 1
    assert "Traceback" not in done.stderr
    shop.run("info", status=1)
    shop.run("check", status=1)


def test_until_empty_ends_with_1_where_a_backend_stays_out_of_reach(shop: Shop) -> None:
    shop.configure(
        f"{CONFIG}[queues.far]\nbackend = 'redis'\n[backends.redis]\nurl = 'redis://127.0.0.1:{free_port()}'\n"
    )
    # As long as it waits anyhow, but for a minute.
    (shop.folder / "shop_jobs.py").write_text(f"{JOBS}\nfrom headrace import worker\nworker._PATIENCE = 0.5\n")
    shop.push("Send", user_id=1)
    done = shop.run("worker", "far", "mail", "--until-empty", status=1)
    assert "the backend of far is out of reach; trying until it answers" in done.stderr
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "the backend 'redis' at 127.0.0.1" in error
    assert "was out of reach for" in error
    # The other queue has been emptied all the same.
    assert shop.words == ["sent 1"]


def test_a_suspect_is_told_of_when_it_runs_in_a_process_of_its_own(shop: Shop) -> None:
    message_id = shop.push("Quit", status=7)
    log = shop.run("worker", "mail", "--until-empty").stderr
    (told,) = (line for line in log.splitlines() if "in a process of its own" in line)
    assert told.endswith(
        f"Quit {message_id} on mail runs in a process of its own: 3 of its deliveries ended with their worker"
    )


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("raise RuntimeError('half written')", ["shop_jobs", "half written"]),
        (
            "from headrace import Job\nclass Odd(Job, queue='mail', on_timeout='cancel'):\n    def handle(self): ...\n",
            ["Odd", "async def"],
        ),
    ],
    ids=["a module that does not import", "a thread that is to be cancelled"],
)
def test_what_no_process_can_run_stops_them_all_and_is_told_once(shop: Shop, module: str, words: list[str]) -> None:
    (shop.folder / "shop_jobs.py").write_text(module)
    done = shop.run("worker", "mail", "low", "--processes", "2", status=2)
    (error,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    for word in words:
        assert word in error
    assert "Traceback" not in done.stderr
    assert shop.processes() == []


def test_what_a_job_raised_cannot_forge_a_line_of_the_log(shop: Shop) -> None:
    shop.push("Fail", text="\x1b[2J\n2026-01-01 00:00:00+0000 INFO [1] all is well")
    lines = shop.run("worker", "mail", "--until-empty").stderr.split("\n")
    assert any("failed and rests in 'failed'" in line for line in lines)
    assert any(line.lstrip().startswith("2026-01-01 00:00:00+0000") for line in lines)
    assert not any(line.startswith("2026-01-01 00:00:00+0000") for line in lines)
    assert "\x1b" not in "".join(lines)


def test_the_log_level_is_an_option_and_an_environment_variable(shop: Shop) -> None:
    assert shop.run("worker", "mail", "--until-empty", "--log-level", "error").stderr == ""
    assert shop.run("worker", "mail", "--until-empty", HEADRACE_LOG_LEVEL="error").stderr == ""


def test_a_worker_without_a_configuration_serves_the_default_queue(shop: Shop) -> None:
    (shop.folder / "headrace.toml").unlink()
    first, second, *_ = shop.run("worker", "--until-empty").stderr.splitlines()
    assert "built-in defaults" in first
    assert f"queue default: sqlite at {Path(shop.folder, 'headrace.db')}" in second
