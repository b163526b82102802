"""What a line of the log says of the job that it is about."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from headrace import Headrace, Job, listen
from headrace.events import FailedHandle, RetryHandle
from headrace.log_fields import JobFields, LogFields, about_queue

logger = logging.getLogger("shop")


class LogsOnTheLoop(Job):
    async def handle(self) -> None:
        logger.info("on the loop")
        await asyncio.gather(self.part())

    async def part(self) -> None:
        logger.info("in a task of its own")


class LogsInThread(Job):
    def handle(self) -> None:
        logger.info("in thread %s", threading.current_thread().name)


class LogsInFailed(Job, max_retries=1, retry_seconds=0):
    async def handle(self) -> None:
        raise ValueError("it broke")

    async def failed(self, error: Exception) -> None:
        logger.info("in failed()")


@listen(RetryHandle, FailedHandle)
def audit(event: Any) -> None:
    logger.info("heard %s", type(event).__name__)


class Lines(logging.Handler):
    """An application's own handler."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(JobFields())
        self.setFormatter(logging.Formatter("%(message)s | %(headrace)s"))
        self.lines: list[str] = []
        self.fields: list[LogFields] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        self.fields.append(record.__dict__["headrace"])


@pytest.fixture
def lines() -> Any:
    handler = Lines()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


async def run(job: Job) -> str:
    async with Headrace({"backend": "memory", "listeners": ["log"]}) as app:
        app.events.add(audit)
        message_id = await app.queue().push(job)
        await app.worker().run(until_empty=True)
    return message_id


@pytest.mark.parametrize("job", [LogsOnTheLoop(), LogsInThread()], ids=["async def", "def"])
async def test_what_a_handler_logs_says_which_job_it_is(lines: Lines, job: Job) -> None:
    message_id = await run(job)
    assert set(lines.fields) == {LogFields("default", type(job).__name__, message_id, 0)}
    assert lines.lines[0].endswith(f" | queue=default job={type(job).__name__} message_id={message_id} attempt=0")


async def test_what_listeners_and_failed_log_says_which_job_and_attempt_it_is(lines: Lines) -> None:
    message_id = await run(LogsInFailed())
    said = [
        (line.partition(" |")[0], each.message_id, each.attempt)
        for line, each in zip(lines.lines, lines.fields, strict=True)
    ]
    assert said == [
        ("heard RetryHandle", message_id, 0),
        ("heard FailedHandle", message_id, 1),
        ("in failed()", message_id, 1),
    ]


def test_what_is_no_job_s_has_no_fields_but_those_it_is_given(lines: Lines) -> None:
    logger.info("nobody's")
    logger.info("a queue's", extra=about_queue("mail"))
    assert lines.lines == ["nobody's | ", "a queue's | queue=mail"]


def test_a_value_cannot_pass_for_another_field() -> None:
    assert str(LogFields("mail", "Send attempt=7\n", "01a", 0)) == (
        'queue=mail job="Send attempt=7\\n" message_id=01a attempt=0'
    )
