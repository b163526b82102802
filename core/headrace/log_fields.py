"""What a line of the log is about: queue, job, message, attempt and worker.

Owns the fields that go with a line, and where they are found: in the run that logs, or in what
headrace says of itself. How lines look stands in `headrace.logs`.
"""

import contextlib
import contextvars
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final

from headrace.context import Current, current
from headrace.errors import WrongContext
from headrace.printing import printable

if TYPE_CHECKING:
    from headrace.execution import Execution

#: The attribute of a log record that holds its `LogFields`.
ATTRIBUTE: Final = "headrace"

#: A value that needs no quotes to be told from what follows it.
_BARE: Final = re.compile(r"[\w.,:{}@+-]+")


@dataclass(frozen=True, slots=True)
class LogFields:
    """The fields of one line; ``None`` where one does not apply."""

    queue: str | None = None  #: or the queues of a group, with commas
    job: str | None = None  #: its name on the wire
    message_id: str | None = None
    attempt: int | None = None  #: retries spent so far, as `current` counts them
    worker: str | None = None  #: ``host:pid``

    def __str__(self) -> str:
        """``queue=mail job=Send ...``: on one line, values that could be taken for more than one in quotes."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return " ".join(f"{name}={_shown(str(value))}" for name, value in values if value is not None)


class JobFields(logging.Filter):
    """Gives each record an attribute ``headrace``: the `LogFields` of the job that logs.

    For the handlers of an application that keeps its own logging; ``headrace worker`` has it in
    place. A format can say ``%(headrace)s``, or with ``style="{"`` for example
    ``{headrace.message_id}``. It lets every record pass.
    """

    def __init__(self, worker: str | None = None) -> None:
        """``worker``: whose lines these are where no job says it."""
        super().__init__()
        self._worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        found = getattr(record, ATTRIBUTE, None)
        if not isinstance(found, LogFields):
            found = _told.get(None) or _of_run()
        if found.worker is None and self._worker is not None:
            found = replace(found, worker=self._worker)
        setattr(record, ATTRIBUTE, found)
        return True


def about_queue(name: str | None) -> dict[str, LogFields]:
    """As ``extra=`` of a logging call: a line about a queue, or a group of them."""
    return {ATTRIBUTE: LogFields(queue=name)}


def about(execution: "Execution") -> dict[str, LogFields]:
    """As ``extra=`` of a logging call: a line about a delivery."""
    return {ATTRIBUTE: fields_of(execution)}


def fields_of(execution: "Execution") -> LogFields:
    """The fields of a delivery, whether or not its job could be decoded."""
    message = execution.message
    return LogFields(execution.queue, message.name, message.id, message.attempt, execution.consumer.worker.name)


@contextlib.contextmanager
def telling_of(execution: "Execution") -> Iterator[None]:
    """All that is logged within is about this delivery, whoever logs it: listeners, say."""
    token = _told.set(fields_of(execution))
    try:
        yield
    finally:
        _told.reset(token)


_told: contextvars.ContextVar[LogFields] = contextvars.ContextVar("headrace_told")


def _of_run() -> LogFields:
    try:
        run: Current = current()
    except WrongContext:
        return LogFields()
    return LogFields(run.queue, run.job.job_options.name, run.id, run.attempt)


def _shown(value: str) -> str:
    return value if _BARE.fullmatch(value) else printable(json.dumps(value, ensure_ascii=False))
