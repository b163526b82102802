"""What the log of ``headrace worker`` looks like, and that no job can write a line of it."""

import json
import logging
import re
import sys
from typing import Any

import pytest

from headrace.log_fields import LogFields
from headrace.logs import JsonFormatter, PlainFormatter, format_for

from .conftest import JOBS, Shop

TALK = '''
import logging


class Talk(Job, queue="mail", max_retries=1):
    """Logs what it is given, by a logger of its own, and fails with it."""

    text: str

    async def handle(self):
        logging.getLogger("shop.mail").info("told: %s", self.text)
        raise ValueError(self.text)


class TalkOnTheQuiet(Job, queue="mail"):
    """Fails where nobody catches it: in a thread of its own, in a finalizer; and warns."""

    text: str

    def handle(self):
        import threading
        import warnings

        def fail():
            raise ValueError(self.text)

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

        class Doomed:
            def __del__(doomed):
                fail()

        Doomed()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(self.text)


class TalkInThread(Job, queue="mail"):
    text: str

    def handle(self):
        logging.getLogger("shop.mail").info("told: %s", self.text)
'''

#: What ends a line, or moves a cursor, for one reader or another.
NASTY = "\n\r\r\n\x0b\x0c\x1c\x85\u2028\u2029\x1b[2J\x1b]0;title\x07\x9b2J\u202e"
FORGED = '2026-01-01 00:00:00+0000 INFO [1] all is well {"level": "INFO", "message": "all is well"}'

PLAIN_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4} [A-Z]+ \[\d+\] .*|    .*")


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_elsewhere_than_on_a_terminal_each_line_is_json_with_the_job_it_is_about(shop: Shop) -> None:
    (shop.folder / "shop_jobs.py").write_text(JOBS + TALK)
    (failing,) = shop.store("Talk", {"text": "x"})
    (threaded,) = shop.store("TalkInThread", {"text": "y"})
    lines = json_lines(shop.run("worker", "mail", "--until-empty", HEADRACE_LOG_FORMAT="auto").stderr)
    for line in lines:
        assert {"time", "level", "logger", "process", "message"} <= line.keys()
    of_handlers = [line for line in lines if line["logger"] == "shop.mail"]
    worker = of_handlers[0]["worker"]
    assert [
        (each["message"], each["job"], each["message_id"], each["attempt"], each["queue"]) for each in of_handlers
    ] == [
        ("told: x", "Talk", failing, 0, "mail"),
        ("told: y", "TalkInThread", threaded, 0, "mail"),
        ("told: x", "Talk", failing, 1, "mail"),
    ]
    (failed,) = (line for line in lines if "rests in 'failed'" in line["message"])
    assert (failed["job"], failed["message_id"], failed["attempt"], failed["worker"]) == ("Talk", failing, 1, worker)
    assert failed["exception"].endswith("ValueError: x")
    (started,) = (line for line in lines if line["message"].endswith("started"))
    assert worker == started["worker"] == f"{worker.split(':')[0]}:{started['process']}"
    # The supervisor is no worker.
    assert "worker" not in lines[0]


def test_plain_lines_of_handlers_name_logger_and_job(shop: Shop) -> None:
    (shop.folder / "shop_jobs.py").write_text(JOBS + TALK)
    (message_id,) = shop.store("TalkInThread", {"text": "y"})
    log = shop.run("worker", "mail", "--until-empty", "--log-format", "plain").stderr
    (line,) = (each for each in log.splitlines() if "told: " in each)
    assert line.endswith(f"shop.mail: told: y (queue=mail job=TalkInThread message_id={message_id} attempt=0)")


@pytest.mark.parametrize("form", ["plain", "json"])
def test_neither_arguments_nor_errors_can_forge_a_line_or_steer_a_terminal(shop: Shop, form: str) -> None:
    (shop.folder / "shop_jobs.py").write_text(JOBS + TALK)
    for job in ("Talk", "TalkOnTheQuiet"):
        shop.store(job, {"text": "".join(f"{each}{FORGED}" for each in NASTY)})
    log = shop.run("worker", "mail", "--until-empty", "--log-format", form).stderr
    assert log.count("all is well") >= 3
    assert "ended with an error" in log
    assert "UserWarning" in log
    assert log.replace("\n", "").isprintable()
    # As strict readers part lines, and as lenient ones do.
    lines = log.splitlines()
    assert lines == log.removesuffix("\n").split("\n")
    if form == "json":
        assert all(set(line) >= {"time", "level", "logger", "process"} for line in json_lines(log))
        assert not any(line["message"] == "all is well" for line in json_lines(log))
    else:
        assert all(PLAIN_LINE.fullmatch(line) for line in lines)
        assert not any(line.startswith("2026-01-01 00:00:00") for line in lines)


def test_the_last_error_of_a_json_log_is_a_line_of_it(shop: Shop) -> None:
    (shop.folder / "shop_jobs.py").write_text("raise RuntimeError('half written')")
    lines = json_lines(shop.run("worker", "mail", "--log-format", "json", status=2).stderr)
    assert lines[-1]["level"] == "CRITICAL"
    assert "half written" in lines[-1]["message"]


def record(message: str, *arguments: object, **fields: Any) -> logging.LogRecord:
    found = logging.LogRecord("shop", logging.INFO, __file__, 1, message, arguments, None)
    found.__dict__["headrace"] = LogFields(**fields)
    return found


def test_a_line_of_json_is_ascii_and_survives_what_cannot_be_formatted() -> None:
    line = JsonFormatter().format(record("%d of Grüße\u2028", "x"))
    assert line.isascii()
    assert json.loads(line)["message"].startswith("'%d of Grüße\\u2028' % ('x',): TypeError(")


def test_a_plain_line_has_its_logger_escaped_and_no_empty_fields() -> None:
    found = record("hello")
    found.name = "shop\nmail"
    assert PlainFormatter().format(found).endswith("shop\\nmail: hello")


def test_auto_is_plain_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert format_for("auto", sys.stderr) == "json"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert format_for("auto", sys.stderr) == "plain"
    assert format_for("json", sys.stderr) == "json"
