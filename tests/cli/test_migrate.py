"""``headrace migrate``, as a shell runs it."""

import asyncio
import re

import pytest

from headrace import Headrace
from headrace.driver import Delivery, Message

from .conftest import Shop

CONFIG = """\
imports = ["shop_jobs"]
[backends.other]
plugin = "sqlite"
path = "other.db"
[queues.mail]
lease_seconds = 1
pop_timeout = 0.2
[queues.post]
backend = "other"
[queues.here]
backend = "memory"
[queues.broker]
backend = "modest"
[backends.redis]
url = "redis://127.0.0.1:1/0"
[queues.gone]
backend = "redis"
"""

#: As a broker is that honours no keys, and takes small messages only.
PLUGIN = """\
from headrace.conformance.wrapping import LimitedBackend
from headrace.plugin import hookimpl
from headrace_sqlite import plugin


@hookimpl
def headrace_backend(options):
    return LimitedBackend(plugin.headrace_backend(options), unique=False, max_body=50)
"""


@pytest.fixture
def shop(shop: Shop) -> Shop:
    """With a queue beside ``mail`` in another file, one in memory, and one on a backend that can do less."""
    plugins = shop.folder / "plugins"
    information = plugins / "headrace_modest-1.0.dist-info"
    information.mkdir(parents=True)
    (plugins / "modest_plugin.py").write_text(PLUGIN)
    (information / "METADATA").write_text("Metadata-Version: 2.4\nName: headrace-modest\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[headrace.backends]\nmodest = modest_plugin\n")
    shop.environment["PYTHONPATH"] = str(plugins)
    shop.configure(CONFIG)
    return shop


def fill(shop: Shop, count: int = 3) -> None:
    """Put messages into each channel of ``mail``."""

    def made(channel: str) -> list[Message]:
        delay = 600.0 if channel == "delayed" else 0.0
        return [Message(id=f"{channel}-{each}", name="Send", body=b"{}", delay=delay) for each in range(count)]

    async def work() -> None:
        async with Headrace.load(shop.folder / "headrace.toml") as app:
            queue = await app.queue("mail").driver()
            await queue.push(made("waiting"))
            await queue.delay(made("delayed"))
            await queue.store(made("failed"), "failed")
            await queue.store(made("timeout"), "timeout")

    asyncio.run(work())


def test_all_channels_are_moved_and_counted(shop: Shop) -> None:
    fill(shop)
    done = shop.run("migrate", "mail", "post")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[:5] == [["channel", "moved"], *([each, "3"] for each in ("waiting", "delayed", "failed", "timeout"))]
    assert re.fullmatch(r"mail: 12 messages moved to post in \d+\.\d s; post has all of them", " ".join(lines[5]))
    assert done.stderr == ""
    assert shop.counts("mail") == {}
    assert shop.counts("post") == {"waiting": 3, "delayed": 3, "failed": 3, "timeout": 3}


def test_another_run_finds_nothing_and_is_done(shop: Shop) -> None:
    fill(shop)
    shop.run("migrate", "mail", "post")
    done = shop.run("migrate", "mail", "post")
    assert re.fullmatch(r"mail: 0 messages moved to post in \d+\.\d s\n", done.stdout)


def test_the_outcome_as_json(shop: Shop) -> None:
    fill(shop, 2)
    found = shop.json("migrate", "mail", "post")
    assert found.pop("seconds") > 0
    assert found == {
        "from": "mail",
        "to": "post",
        "dry_run": False,
        "complete": True,
        "moved": {"waiting": 2, "delayed": 2, "failed": 2, "timeout": 2},
        "twice": 0,
        "stayed": [],
        "missing": [],
        "left": {},
    }


def test_what_is_not_looked_up_is_said_to_be_confirmed(shop: Shop) -> None:
    fill(shop)
    assert shop.run("migrate", "mail", "post", "--no-check").stdout.endswith("; each was confirmed\n")


def test_a_dry_run_moves_nothing_and_tells_how(shop: Shop) -> None:
    fill(shop)
    done = shop.run("migrate", "mail", "post", "--dry-run")
    lines = [re.split(r"\s{2,}", line.strip()) for line in done.stdout.splitlines()]
    assert lines == [
        ["channel", "messages", "how"],
        ["waiting", "3", "taken as a worker does, stored, then acked"],
        ["reserved", "0", "waited for until its worker, or its lease, ends"],
        ["delayed", "3", "looked at, stored, then deleted"],
        ["failed", "3", "looked at, stored, then deleted"],
        ["timeout", "3", "looked at, stored, then deleted"],
    ]
    assert done.stderr == "nothing was moved from mail to post\n"
    assert shop.counts("mail") == {"waiting": 3, "delayed": 3, "failed": 3, "timeout": 3}
    assert shop.counts("post") == {}
    found = shop.json("migrate", "mail", "post", "--dry-run")
    assert (found["from"], found["to"], found["dry_run"]) == ("mail", "post", True)
    assert found["channels"]["waiting"] == {"messages": 3, "how": "taken as a worker does, stored, then acked"}


def test_what_cannot_be_moved_stays_and_the_exit_code_says_so(shop: Shop) -> None:
    shop.push("Send", user_id=1)
    large = shop.push("Send", user_id=2, text="x" * 50)
    done = shop.run("migrate", "mail", "broker", "--wait", "0", status=1)
    assert "1 message could not be moved, and stayed on mail:\n" in done.stderr
    assert f"  {large} (waiting): a message of 73 bytes is over the 50 bytes that 'modest' takes" in done.stderr
    assert shop.counts("mail") == {"waiting": 1}
    found = shop.json("migrate", "mail", "broker", "--wait", "0", status=1)
    assert [each["id"] for each in found["stayed"]] == [large]
    assert (found["complete"], found["left"]) == (False, {"waiting": 1})


def test_what_a_worker_has_is_waited_for_and_then_told(shop: Shop) -> None:
    fill(shop, 1)

    async def pop() -> Delivery:
        async with Headrace.load(shop.folder / "headrace.toml") as app:
            backend = await app.opened("sqlite")
            (delivery,) = await backend.driver("{mail}", lease_seconds=600).pop(1, 0)
            return delivery

    delivery = asyncio.run(pop())
    done = shop.run("migrate", "mail", "post", "--wait", "0.5", status=1)
    assert "3 of 4 moved; waiting for 1 reserved\n" in done.stderr
    assert "mail has 1 reserved: a worker has them; run this again when it has stopped" in done.stderr

    async def give_back() -> None:
        async with Headrace.load(shop.folder / "headrace.toml") as app:
            await (await app.queue("mail").driver()).retry([(delivery.receipt, delivery.message)])

    asyncio.run(give_back())
    assert shop.json("migrate", "mail", "post")["complete"]
    assert shop.counts("post") == {"waiting": 1, "delayed": 1, "failed": 1, "timeout": 1}


def test_a_backend_that_is_out_of_reach_is_told_with_what_to_do(shop: Shop) -> None:
    shop.push("Send", user_id=1)
    told = shop.run("migrate", "mail", "gone", status=1).stderr
    assert "redis at 127.0.0.1:1, database 0 is out of reach" in told
    assert told.endswith("\nWhat was moved by then is moved: run this again for the rest.\n")
    assert shop.counts("mail") == {"waiting": 1}


def test_unique_keys_are_not_dropped_unless_asked_for(shop: Shop) -> None:
    shop.push("Once", key="a")
    refused = shop.run("migrate", "mail", "broker", status=2)
    assert "the backend 'modest' does not offer 'unique'" in refused.stderr
    assert "--drop-unique moves them without it" in refused.stderr
    assert shop.counts("mail") == {"waiting": 1}
    assert shop.json("migrate", "mail", "broker", "--drop-unique")["complete"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mail", "mail"), "'mail' and 'mail' are one queue: {mail} at "),
        (("mail", "pots"), 'there is no queue "pots"; did you mean "post"?'),
        (("mial", "post"), 'there is no queue "mial"; did you mean "mail"?'),
        (("mail", "here"), "does not offer 'shared'"),
        (("here", "mail"), "does not offer 'shared'"),
        (("mail",), "Missing argument"),
        (("mail", "post", "--wait", "-1"), "must be 0 or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_refused_with_the_exit_code_2(
    shop: Shop, arguments: tuple[str, ...], words: str
) -> None:
    assert words in shop.run("migrate", *arguments, status=2).stderr
