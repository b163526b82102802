"""Every command but ``worker`` and ``demo``, as a shell sees it: a pipe, an exit code, JSON."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from headrace.conformance.servers.process import free_port

from .conftest import Shop

COMMANDS = ("demo", "worker", "push", "info", "list", "show", "reload", "flush", "cancel", "check", "backends")

#: What a job may hold: an escape sequence, a newline, markup of ours, a character that turns text around.
HOSTILE = "\x1b[2J\x1b]0;title\x07[red]line\nsecond\u202e\x9b"


# Help and usage


def test_help_names_every_command(shop: Shop) -> None:
    text = shop.run("--help").stdout
    for command in COMMANDS:
        assert f"\n  {command} " in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(shop: Shop, command: str) -> None:
    text = shop.run(command, "-h").stdout
    assert f"Usage: headrace {command}" in text
    assert "Examples:\n    headrace " in text


def test_the_version_is_printed(shop: Shop) -> None:
    assert shop.run("--version").stdout.startswith("headrace 0.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "mail", "--channel", "nonsense"], "'nonsense' is not one of 'waiting', 'reserved'"),
        (["list", "mail", "--limit", "0"], "'0': it must be 1 or more."),
        (["worker", "--processes", "two"], "'two': it is no whole number."),
        (["push", "Send", "{}", "--delay", "soon"], "'soon': it is no number."),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_a_wrong_value_is_answered_in_words_for_people(shop: Shop, arguments: list[str], words: str) -> None:
    error = shop.run(*arguments, status=2).stderr.splitlines()[-1]
    assert words in error
    assert "Value error" not in error
    assert "Input should" not in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["info", "--nonsense"],
        ["push"],
        ["list"],
        ["list", "mail", "--channel", "nonsense"],
        ["list", "mail", "--limit", "0"],
        ["reload", "mail", "--channel", "waiting"],
        ["flush", "mail"],
        ["flush", "mail", "--channel", "reserved", "--yes"],
        ["push", "Send", '{"user_id": 1}', "--delay", "-1"],
        ["worker", "--processes", "0"],
        ["worker", "--log-level", "loud"],
        ["demo", "no-such-folder"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_says_why(shop: Shop, arguments: list[str]) -> None:
    done = shop.run(*arguments, status=2)
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["info", "list", "show", "reload", "flush", "cancel", "worker"])
def test_an_unknown_queue_is_refused_with_the_known_ones(shop: Shop, command: str) -> None:
    extra = {"show": ["x"], "cancel": ["x"], "flush": ["--channel", "failed", "--yes"]}.get(command, [])
    done = shop.run(command, "mial", *extra, status=2)
    assert done.stderr.startswith("error: ")
    assert '"mial"' in done.stderr
    assert "mail" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_broken_configuration_is_one_clear_block(shop: Shop) -> None:
    shop.configure("[queues.mail]\nmax_retrys = 3\n")
    done = shop.run("info", status=2)
    assert "max_retrys" in done.stderr
    assert "max_retries" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_where_an_error_was_raised(shop: Shop) -> None:
    assert "Traceback" in shop.run("--debug", "info", "mial", status=2).stderr
    assert "Traceback" in shop.run("info", "mial", status=2, HEADRACE_DEBUG="1").stderr


def test_config_is_read_from_where_it_is_said_to_be(shop: Shop) -> None:
    other = shop.folder / "other"
    other.mkdir()
    (other / "headrace.toml").write_text("[queues.elsewhere]\n")
    (line,) = json.loads(shop.run("--config", "other/headrace.toml", "info", "elsewhere", "--json").stdout)
    assert line["place"] == str(other / "headrace.db")


def test_a_module_that_does_not_import_is_named(shop: Shop) -> None:
    (shop.folder / "shop_jobs.py").write_text("import nowhere_to_be_found\n")
    done = shop.run("push", "Send", status=2)
    assert "shop_jobs" in done.stderr
    assert "nowhere_to_be_found" in done.stderr


# push


def test_push_prints_the_id_and_stores_the_job(shop: Shop) -> None:
    message_id = shop.push("Send", user_id=7)
    (listed,) = shop.json("list", "mail", "--channel", "waiting")
    assert listed["id"] == message_id
    assert listed["job"] == "Send"
    assert listed["arguments"]["user_id"] == 7


def test_push_reads_arguments_from_standard_input(shop: Shop) -> None:
    shop.run("push", "Send", "-", stdin='{"user_id": 8}')
    (listed,) = shop.json("list", "mail", "--channel", "waiting")
    assert listed["arguments"]["user_id"] == 8


def test_push_takes_queue_and_delay(shop: Shop) -> None:
    shop.push("Send", "--queue", "low", "--delay", "60", user_id=1)
    (listed,) = shop.json("list", "low", "--channel", "delayed")
    assert 50 < listed["delay"] <= 60
    assert shop.counts("mail") == {}


def test_push_with_unique_replaces_what_is_pending(shop: Shop) -> None:
    shop.push("Send", "--unique", "a", user_id=1)
    second = shop.push("Send", "--unique", "a", user_id=2)
    (listed,) = shop.json("list", "mail", "--channel", "waiting")
    assert listed["id"] == second
    assert listed["arguments"]["user_id"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Sent"], ["'Sent'", "did you mean 'Send'"]),
        (["Zzz"], ["'Zzz'", "Fail", "Hold", "Send"]),
        (["Send"], ["user_id"]),
        (["Send", '{"user_id": "seven"}'], ["user_id", "int"]),
        (["Send", '{"user_idd": 7}'], ["'user_idd'", "user_id, text"]),
        (["Send", "{"], ["not JSON"]),
        (["Send", "[1]"], ["JSON object", "[1]"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_push_refuses_what_is_not_the_job_s(shop: Shop, arguments: list[str], words: list[str]) -> None:
    done = shop.run("push", *arguments, status=2)
    for word in words:
        assert word in done.stderr
    assert done.stderr.count("\n") == 1
    assert shop.counts() == {}


def test_what_stays_in_one_process_is_refused_with_the_reason(shop: Shop) -> None:
    for arguments in (["push", "Send", '{"user_id": 1}'], ["worker", "mail"], ["list", "mail"], ["info", "mail"]):
        done = shop.run(*arguments, status=2, HEADRACE_BACKEND="memory")
        assert "'memory' does not offer 'shared'" in done.stderr
        assert "known only to the process that pushed it" in done.stderr


# info


def test_info_counts_all_queues_where_none_is_named(shop: Shop) -> None:
    shop.push("Send", user_id=1)
    shop.push("Send", "--delay", "60", user_id=2)
    head, *lines = shop.run("info").stdout.splitlines()
    assert head.split() == ["queue", "backend", "waiting", "reserved", "delayed", "failed", "timeout", "oldest"]
    assert {line.split()[0] for line in lines} == {"default", "mail", "low"}
    (mail,) = (line.split() for line in lines if line.startswith("mail"))
    assert mail[1:7] == ["sqlite", "1", "0", "1", "0", "0"]


def test_info_as_json_has_its_documented_keys(shop: Shop) -> None:
    shop.push("Send", user_id=1)
    (line,) = shop.json("info", "mail")
    age = line.pop("oldest_seconds")
    assert 0 <= age < 60
    assert line == {
        "queue": "mail",
        "backend": "sqlite",
        "place": str(shop.folder / "headrace.db"),
        "waiting": 1,
        "reserved": 0,
        "delayed": 0,
        "failed": 0,
        "timeout": 0,
        "counts": "exact",
        "error": None,
    }


def test_info_of_one_unusable_backend_still_shows_the_others(shop: Shop) -> None:
    (shop.folder / "broken.db").write_text("this is no database, and long enough to look like one " * 100)
    shop.configure(
        '[queues.mail]\n[queues.bad]\nbackend = "broken"\n[backends.broken]\nplugin = "sqlite"\npath = "broken.db"\n'
    )
    done = shop.run("info", status=1)
    assert "error: bad: " in done.stderr
    assert "broken.db" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["default", "mail", "bad"]
    bad = next(line for line in shop.json("info", status=1) if line["queue"] == "bad")
    assert bad["waiting"] is None
    assert "broken.db" in bad["error"]


def test_info_watch_prints_one_document_a_second_until_it_is_stopped(shop: Shop) -> None:
    process = shop.start("info", "mail", "--watch", "--json")
    give_up_at = time.monotonic() + 20
    while shop.output.count("\n") < 2 and time.monotonic() < give_up_at:
        time.sleep(0.01)
    process.send_signal(2)
    assert process.wait(10) == 0
    for line in shop.output.splitlines():
        assert json.loads(line)[0]["queue"] == "mail"
    assert shop.log == ""


def test_a_reader_that_leaves_early_is_no_error(shop: Shop) -> None:
    for command in (["info", "--watch"], ["list", "mail"], ["--help"]):
        with subprocess.Popen(
            shop.command(*command),
            cwd=shop.folder,
            env=shop.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read().decode().replace("mail: no message in failed\n", "") == ""
            assert process.wait(20) in (0, 1)


# list, show


def fail_once(shop: Shop, text: str = "it broke") -> str:
    """A message in ``failed``; its id."""
    message_id = shop.push("Fail", text=text)
    shop.run("worker", "mail", "--until-empty")
    return message_id


def test_list_shows_what_failed_and_why(shop: Shop) -> None:
    message_id = fail_once(shop)
    head, line = shop.run("list", "mail", "--channel", "failed").stdout.splitlines()
    assert head.split() == ["id", "channel", "job", "attempt", "due_in", "failed_at", "arguments", "why"]
    assert line.startswith(f"{message_id}  failed   Fail")
    assert line.endswith('text="it broke"  ValueError: it broke')


def test_list_and_show_as_json_have_their_documented_keys(shop: Shop) -> None:
    message_id = fail_once(shop)
    (listed,) = shop.json("list", "mail")
    note = listed.pop("note")
    assert listed == {
        "id": message_id,
        "channel": "failed",
        "job": "Fail",
        "arguments": {"text": "it broke"},
        "body_base64": None,
        "attempt": 0,
        "deaths": 0,
        "delay": 0.0,
        "unique_key": None,
        "headers": {},
    }
    assert (note["type"], note["message"]) == ("ValueError", "it broke")
    assert abs(note["time"] - time.time()) < 60
    assert note["traceback"].startswith("Traceback")
    assert shop.json("show", "mail", message_id) == {**listed, "note": note}


def test_list_filters_by_job_and_keeps_to_its_limit(shop: Shop) -> None:
    for number in range(3):
        shop.push("Send", user_id=number)
    shop.push("Once", key="k")
    listed = shop.json("list", "mail", "--channel", "waiting", "--job", "Send", "--limit", "2")
    assert [each["arguments"]["user_id"] for each in listed] == [0, 1]
    done = shop.run("list", "mail", "--channel", "waiting", "--limit", "2")
    assert len(done.stdout.splitlines()) == 3
    assert "there are more" in done.stderr


def test_an_empty_channel_lists_nothing_and_says_so_beside(shop: Shop) -> None:
    done = shop.run("list", "mail")
    assert done.stdout == ""
    assert done.stderr == "mail: no message in failed\n"
    assert shop.json("list", "mail") == []


def test_show_has_arguments_counters_and_traceback(shop: Shop) -> None:
    text = shop.run("show", "mail", fail_once(shop)).stdout
    assert '"text": "it broke"' in text
    assert "why         ValueError: it broke" in text
    assert "Traceback (most recent call last)" in text
    assert "shop_jobs.py" in text


def test_show_of_what_is_not_there_exits_with_1(shop: Shop) -> None:
    done = shop.run("show", "mail", "nothing", status=1)
    assert "no message has the id nothing" in done.stderr
    assert done.stdout == ""


def test_nothing_of_a_job_reaches_the_terminal_unescaped(shop: Shop) -> None:
    message_id = fail_once(shop, HOSTILE)
    for arguments in (["list", "mail"], ["show", "mail", message_id], ["reload", "mail", "--dry-run"]):
        text = shop.run(*arguments).stdout
        assert "[red]line" in text
        assert not [each for each in text if not each.isprintable() and each != "\n"], arguments
    assert len(shop.run("list", "mail").stdout.splitlines()) == 2
    # JSON escapes in its own way, and loses nothing.
    (listed,) = shop.json("list", "mail")
    assert listed["arguments"]["text"] == HOSTILE
    assert listed["note"]["message"] == HOSTILE


# reload, flush, cancel


def test_reload_lets_failed_messages_run_again(shop: Shop) -> None:
    fail_once(shop)
    shop.touch("mended")
    assert shop.run("reload", "mail").stdout == "mail: 1 message moved from failed to waiting\n"
    shop.run("worker", "mail", "--until-empty")
    assert shop.words == ["mended"]
    assert shop.counts() == {}


def test_reload_moves_what_timed_out(shop: Shop) -> None:
    shop.push("Overrun")
    shop.run("worker", "mail", "--until-empty")
    assert shop.counts() == {"timeout": 1}
    moved = shop.json("reload", "mail", "--channel", "timeout")
    assert moved == {"queue": "mail", "channel": "timeout", "moved": 1}
    assert shop.counts() == {"waiting": 1}


def test_reload_can_be_tried_dry(shop: Shop) -> None:
    message_id = fail_once(shop)
    done = shop.run("reload", "mail", "--dry-run")
    assert message_id in done.stdout
    assert "1 message would move" in done.stderr
    assert [each["id"] for each in shop.json("reload", "mail", "--dry-run", "--id", message_id)] == [message_id]
    assert shop.counts() == {"failed": 1}


def test_reload_moves_only_what_was_chosen(shop: Shop) -> None:
    ids = [shop.push("Fail", text=str(number)) for number in range(3)]
    shop.run("worker", "mail", "--until-empty")
    shop.run("reload", "mail", "--id", ids[1])
    assert [each["id"] for each in shop.json("list", "mail", "--channel", "waiting")] == [ids[1]]
    shop.run("reload", "mail", "--limit", "1")
    assert shop.counts() == {"waiting": 2, "failed": 1}
    assert shop.json("reload", "mail", "--job", "Send")["moved"] == 0


def test_reload_and_flush_of_ids_that_are_not_there_exit_with_1(shop: Shop) -> None:
    assert shop.json("reload", "mail", "--id", "nothing", status=1)["moved"] == 0
    shop.run("reload", "mail", "--id", "nothing", "--dry-run", status=1)
    shop.run("flush", "mail", "--channel", "failed", "--id", "nothing", "--yes", status=1)


def test_flush_wants_a_yes_where_nobody_can_be_asked(shop: Shop) -> None:
    shop.push("Send", user_id=1)
    done = shop.run("flush", "mail", "--channel", "waiting", status=2)
    assert "--yes" in done.stderr
    assert shop.counts() == {"waiting": 1}
    assert shop.json("flush", "mail", "--channel", "waiting", "--yes") == {
        "queue": "mail",
        "channel": "waiting",
        "deleted": 1,
    }
    assert shop.counts() == {}


def test_flush_deletes_only_what_was_chosen(shop: Shop) -> None:
    first = shop.push("Send", user_id=1)
    shop.push("Send", user_id=2)
    shop.push("Once", key="k")
    shop.run("flush", "mail", "--channel", "waiting", "--job", "Once", "--yes")
    shop.run("flush", "mail", "--channel", "waiting", "--id", first, "-y")
    assert [each["arguments"]["user_id"] for each in shop.json("list", "mail", "--channel", "waiting")] == [2]


def test_cancel_removes_a_message_that_has_not_started_and_only_once(shop: Shop) -> None:
    message_id = shop.push("Send", "--delay", "60", user_id=1)
    assert shop.json("cancel", "mail", message_id) == {"queue": "mail", "id": message_id, "cancelled": True}
    assert shop.counts() == {}
    done = shop.run("cancel", "mail", message_id, status=1)
    assert message_id in done.stderr


# backends, check


def test_backends_are_listed_with_versions_and_capabilities(shop: Shop) -> None:
    found = {each["name"]: each for each in shop.json("backends")}
    assert {"memory", "sqlite"} <= found.keys()
    assert found["sqlite"]["distribution"] == "headrace"
    assert found["sqlite"]["capabilities"]["durable"] is True
    # No limit is null: JSON has no infinity.
    assert found["memory"]["capabilities"]["max_delay"] is None
    text = shop.run("backends").stdout
    assert "headrace 0." in text
    assert "emulated" in text


def test_check_of_a_sound_configuration_finds_no_problem(shop: Shop) -> None:
    found = shop.json("check")
    assert found["ok"] is True
    assert found["problems"] == 0
    subjects = {each["subject"] for each in found["findings"]}
    assert {"configuration", "imports", "backend sqlite", "queue mail", "job Send"} <= subjects
    assert shop.run("check").stdout.splitlines()[0] == f"ok       configuration: {shop.folder / 'headrace.toml'}"


@pytest.mark.parametrize(
    ("declaration", "words"),
    [
        ("class Odd(Job, queue='mail', on_timeout='cancel'):\n    def handle(self): ...", ["Odd", "async def"]),
        ("class Odd(Job, queue='nowhere'):\n    def handle(self): ...", ["job Odd", "nowhere"]),
        (
            "class Odd(Job, queue='mail'):\n    what: dict[str, int] | dict[int, int]\n    def handle(self): ...",
            ["job Odd", "cannot be carried"],
        ),
        ("import nowhere_to_be_found", ["imports", "nowhere_to_be_found"]),
    ],
    ids=["cancel of a thread", "unknown queue", "field that cannot be carried", "broken import"],
)
def test_check_finds_jobs_that_could_not_run(shop: Shop, declaration: str, words: list[str]) -> None:
    with (shop.folder / "shop_jobs.py").open("a") as jobs:
        jobs.write(f"\n\n{declaration}\n")
    problems = [line for line in shop.run("check", status=2).stdout.splitlines() if line.startswith("problem")]
    assert len(problems) == 1
    for word in words:
        assert word in problems[0]


def test_check_finds_modules_and_places_that_cannot_be_used(shop: Shop) -> None:
    shop.configure(
        'imports = ["shop_jobs"]\nlisteners = ["no_listeners"]\nmiddleware = ["shop_jobs:nothing"]\n'
        'lifespan = "shop_jobs:nothing"\n[queues.mail]\n[backends.sqlite]\npath = "/nowhere/at/all/jobs.db"\n'
    )
    found = shop.json("check", status=2)
    problems = {each["subject"] for each in found["findings"] if each["level"] == "problem"}
    assert problems == {"listeners", "middleware", "lifespan", "backend sqlite"}


def test_check_and_info_exit_with_1_where_a_server_is_down_and_check_with_2_where_more_is_wrong(shop: Shop) -> None:
    down = f"[backends.redis]\nurl = 'redis://127.0.0.1:{free_port()}'\n"
    shop.configure(f"backend = 'redis'\n[queues.mail]\n{down}")
    assert "problem  backend redis" in shop.run("check", status=1).stdout
    shop.run("info", status=1)
    shop.configure(f"backend = 'redis'\nlisteners = ['no_listeners']\n[queues.mail]\n{down}")
    shop.run("check", status=2)


def test_a_backend_that_lacks_its_library_is_one_line_that_says_what_to_install(shop: Shop) -> None:
    information = shop.folder / "plugins" / "headrace_lean-1.0.dist-info"
    information.mkdir(parents=True)
    (shop.folder / "plugins" / "lean_plugin.py").write_text("import lean_client_library\n")
    (information / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: headrace-lean\nVersion: 1.0\nProvides-Extra: lean\n"
    )
    (information / "entry_points.txt").write_text("[headrace.backends]\nlean = lean_plugin\n")
    done = shop.run("backends", PYTHONPATH=str(shop.folder / "plugins"))
    assert done.stderr.splitlines() == [
        "lean cannot be used: the module \"lean_client_library\" is not installed: pip install 'headrace-lean[lean]'"
    ]


def test_check_never_shows_a_secret(shop: Shop) -> None:
    shop.configure('[queues.mail]\n[backends.sqlite]\npassword = "hunter2"\n')
    done = shop.run("check", status=2)
    assert "password" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_check_warns_of_a_backend_that_the_command_line_cannot_use(shop: Shop) -> None:
    done = shop.run("check", HEADRACE_BACKEND="memory")
    assert "warning  backend memory: its messages never leave the process" in done.stdout


def test_check_warns_of_a_backends_table_that_nothing_could_use(shop: Shop) -> None:
    shop.configure('imports = ["shop_jobs"]\n[queues.mail]\n[queues.low]\n[backends.sqlit]\npath = "other.db"\n')
    done = shop.run("check")
    said = "warning  backend sqlit: no queue uses it, and no backend 'sqlit' is installed; did you mean \"sqlite\"?"
    assert said in done.stdout


# Completion


def complete(shop: Shop, words: str) -> list[str]:
    """What bash would be offered for the last of these words."""
    done = shop.run(
        status=0,
        _HEADRACE_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split(" ")) - 1),
    )
    return done.stdout.split()


def test_queues_jobs_and_channels_complete_from_the_configuration(shop: Shop) -> None:
    assert complete(shop, "headrace info ma") == ["mail"]
    assert complete(shop, "headrace worker mail,l") == ["mail,low"]
    assert complete(shop, "headrace push S") == ["Send"]
    assert complete(shop, "headrace reload mail --channel ti") == ["timeout"]


def test_completion_with_a_broken_configuration_is_silent(shop: Shop) -> None:
    shop.configure("nonsense = 1\n")
    assert complete(shop, "headrace info ma") == []


def test_completion_prints_nothing_that_a_module_prints(shop: Shop) -> None:
    with (shop.folder / "shop_jobs.py").open("a") as jobs:
        jobs.write("print('hello')\n")
    assert complete(shop, "headrace push S") == ["Send"]


def test_nothing_but_the_database_is_left_behind(shop: Shop) -> None:
    before = {path.name for path in shop.folder.iterdir()}
    shop.run("info")
    left = {path.name for path in shop.folder.iterdir()} - before
    assert left <= {"headrace.db", "headrace.db-wal", "headrace.db-shm"}
    assert not list(Path(shop.environment["TMPDIR"]).iterdir())
