"""The commands on a backend that can look into two channels only, and cannot hold a delivery for long."""

import re

import pytest

from .conftest import Shop

PLUGIN = '''\
from headrace.conformance.wrapping import LimitedBackend
from headrace.plugin import hookimpl
from headrace_sqlite import plugin

RESTING = frozenset({"failed", "timeout"})


class Modest(LimitedBackend):
    """Learns from its server, as it were, how long it can hold a delivery."""

    async def open(self):
        await super().open()
        self._changes |= {"max_run": 1800.0, "max_run_hint": "raise consumer_timeout of the server"}


@hookimpl
def headrace_backend(options):
    return Modest(plugin.headrace_backend(options), peek=RESTING, selective=frozenset({"failed"}))
'''

CONFIG = """\
imports = ["shop_jobs"]
[queues.mail]
backend = "modest"
pop_timeout = 0.2
handle_timeout = 60
"""


@pytest.fixture
def modest(shop: Shop) -> Shop:
    """The shop with that backend."""
    plugins = shop.folder / "plugins"
    information = plugins / "headrace_modest-1.0.dist-info"
    information.mkdir(parents=True)
    (plugins / "modest_plugin.py").write_text(PLUGIN)
    (information / "METADATA").write_text("Metadata-Version: 2.4\nName: headrace-modest\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[headrace.backends]\nmodest = modest_plugin\n")
    shop.environment["PYTHONPATH"] = str(plugins)
    shop.configure(CONFIG)
    return shop


def test_backends_name_the_channels_where_not_all_can_be_shown(modest: Shop) -> None:
    claimed = {each["name"]: each["capabilities"] for each in modest.json("backends")}
    assert claimed["modest"]["peek"] == ["failed", "timeout"]
    assert claimed["sqlite"]["peek"] == ["waiting", "reserved", "delayed", "failed", "timeout"]
    assert claimed["sqlite"]["max_run"] is None
    lines = [re.split(r"\s{2,}|\t", line.strip()) for line in modest.run("backends").stdout.splitlines()]
    names = next(line for line in lines if "modest" in line)
    rows = {title: dict(zip(names, cells, strict=False)) for title, *cells in lines if title not in names}
    assert (rows["list, show"]["sqlite"], rows["list, show"]["modest"]) == ("all", "failed, timeout")
    assert rows["reload, flush by job or id"]["sqlite"] == "all"
    assert rows["reload, flush by job or id"]["modest"] == "failed"
    assert rows["longest run"]["modest"] == "no limit"


def test_a_conformance_report_names_the_channels_that_were_proved(modest: Shop) -> None:
    report = modest.folder / "report.md"
    cases = ("an_empty_channel_is_an_empty_page", "chosen_messages_are_forgotten")
    named = [word for case in cases for word in ("--case", case)]
    printed = modest.run("conform", "modest", *named, "--markdown", str(report)).stdout
    assert re.search(r"^peek \(failed, timeout\)\s+proved$", printed, re.MULTILINE)
    assert "| peek | failed, timeout | proved |" in report.read_text()
    assert "| selective | failed | proved |" in report.read_text()


def test_a_channel_that_cannot_be_shown_is_refused_by_name(modest: Shop) -> None:
    asked = {
        "list mail --channel waiting": "'peek' for 'waiting': only for failed, timeout",
        "reload mail --channel timeout --id a": "'selective' for 'timeout': only for failed",
        "flush mail --channel delayed --job Send --yes": "'selective' for 'delayed': only for failed",
    }
    for command, words in asked.items():
        assert f"the backend 'modest' does not offer {words}" in modest.run(*command.split(), status=2).stderr


def test_show_says_which_channels_it_could_not_look_into(modest: Shop) -> None:
    waiting = modest.push("Send", user_id=1)
    told = modest.run("show", "mail", waiting, status=1).stderr
    assert "it may be done, or in waiting or reserved or delayed, which the backend cannot show" in told


def test_what_rests_is_listed_shown_and_reloaded_as_ever(modest: Shop) -> None:
    failed = modest.push("Fail")
    modest.run("worker", "mail", "--until-empty")
    assert [each["id"] for each in modest.json("list", "mail")] == [failed]
    assert modest.json("show", "mail", failed)["channel"] == "failed"
    assert [each["id"] for each in modest.json("reload", "mail", "--id", failed, "--dry-run")] == [failed]
    assert modest.json("reload", "mail", "--id", failed)["moved"] == 1


TOO_LONG = (
    "is 7200 s, and the backend 'modest' can hold a delivery for 1800 s at most: raise consumer_timeout of the server"
)


def test_a_queues_timeout_beyond_what_a_delivery_can_be_held_is_refused_by_check_and_worker(modest: Shop) -> None:
    modest.configure(CONFIG.replace("handle_timeout = 60", "handle_timeout = 7200"))
    problem = f"the handle_timeout of queue mail {TOO_LONG}"
    problems = [line for line in modest.run("check", status=2).stdout.splitlines() if line.startswith("problem")]
    assert problems == [f"problem  queue mail: {problem}"]
    assert problem in modest.run("worker", "mail", "--until-empty", status=2).stderr


def test_a_jobs_timeout_beyond_what_a_delivery_can_be_held_is_refused_by_check_and_worker(modest: Shop) -> None:
    with (modest.folder / "shop_jobs.py").open("a") as jobs:
        jobs.write("\n\nclass Long(Job, queue='mail', handle_timeout=7200):\n    def handle(self): ...\n")
    problem = f"the handle_timeout of job Long {TOO_LONG}"
    problems = [line for line in modest.run("check", status=2).stdout.splitlines() if line.startswith("problem")]
    assert problems == [f"problem  job Long: {problem}"]
    assert problem in modest.run("worker", "mail", "--until-empty", status=2).stderr


def test_check_only_warns_where_there_is_no_timeout(modest: Shop) -> None:
    with (modest.folder / "shop_jobs.py").open("a") as jobs:
        jobs.write("\n\nclass Endless(Job, queue='mail', handle_timeout=0):\n    def handle(self): ...\n")
    modest.configure(CONFIG.replace("handle_timeout = 60", ""))
    warnings = [line for line in modest.run("check").stdout.splitlines() if "handle_timeout" in line]
    assert [line.split(":")[0] for line in warnings] == ["warning  queue mail", "warning  job Endless"]
    for line in warnings:
        assert "longer than the 1800 s that the backend 'modest' can hold a delivery" in line
        assert line.endswith("raise consumer_timeout of the server")
    modest.run("worker", "mail", "--until-empty")
