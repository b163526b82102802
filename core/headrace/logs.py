"""Where the log of a supervisor and its workers goes, and how its lines look: plain or JSON, on stderr.

Only ``headrace worker`` sets this up. An application that runs a worker in its own loop
keeps its own logging, and can have the fields by `headrace.log_fields.JobFields`.
"""

import json
import logging
import sys
import threading
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

from headrace.log_fields import ATTRIBUTE, JobFields, LogFields
from headrace.printing import printable_block

logger = logging.getLogger("headrace")

#: What a line looks like, and what ``--log-format`` may say.
LogFormat = Literal["plain", "json"]
LogFormatChoice = Literal["auto", "plain", "json"]

#: Local time, as the terminal's owner reads clocks; the offset makes it exact for whoever collects logs.
_TIME: Final = "%Y-%m-%d %H:%M:%S%z"

#: Our own logger. What it says names queue, job and message in words, so that plain lines need not say it twice.
_OURS: Final = "headrace"


class PlainFormatter(logging.Formatter):
    """``time level [process] message``, and for lines of others ``logger: message (queue=... job=...)``.

    What a job wrote into a line cannot leave it, nor pass for another one.
    """

    converter = staticmethod(time.localtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s [%(process)d] %(message)s", _TIME)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        # The worker is left out: its process stands at the front.
        fields = replace(getattr(record, ATTRIBUTE, LogFields()), worker=None)
        if record.name != _OURS:
            record.message = f"{record.name}: {record.message}" + (f" ({fields})" if str(fields) else "")
        elif fields.attempt:
            record.message = f"{record.message} (attempt {fields.attempt})"
        # The message alone, made one line; a traceback is added below it afterwards.
        return super().formatMessage(record).replace("\n", "\\n")

    def format(self, record: logging.LogRecord) -> str:
        # Indented, so that no line of a traceback can pass for a line of the log.
        return printable_block(super().format(record)).replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """One JSON object on each line: time, level, logger, process and message, the fields that apply, and errors.

    ASCII alone: a line separator of Unicode in a job's argument is the end of a line to some readers.
    """

    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": _message_of(record),
        }
        fields = asdict(getattr(record, ATTRIBUTE, LogFields()))
        values |= {name: value for name, value in fields.items() if value is not None}
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            values["stack"] = record.stack_info
        return json.dumps(values)


def format_for(choice: LogFormatChoice, stream: TextIO) -> LogFormat:
    """What a choice comes to: ``auto`` is plain on a terminal, for people, and JSON elsewhere, for programs."""
    if choice != "auto":
        return choice
    return "plain" if stream.isatty() else "json"


def log_to_stderr(level: str, form: LogFormat = "plain", *, worker: str | None = None) -> None:
    """Send all logging of this process to stderr, from ``level`` upwards. ``worker``: which one this is, if one."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else PlainFormatter())
    handler.addFilter(JobFields(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def log_what_nobody_catches() -> None:
    """Log what Python prints by itself, and as it is: errors that end threads or come from finalizers, and warnings.

    For processes that run jobs, whose errors have texts of any kind.
    """

    def of_thread(found: threading.ExceptHookArgs) -> None:
        # A thread that raises SystemExit ends in silence, as it would without us.
        if found.exc_type is not SystemExit and found.exc_value is not None:
            name = "a thread" if found.thread is None else f"the thread {found.thread.name}"
            error = (found.exc_type, found.exc_value, found.exc_traceback)
            logger.error("%s ended with an error", name, exc_info=error)

    def unraisable(found: "sys.UnraisableHookArgs") -> None:
        if found.exc_value is not None:
            error = (found.exc_type, found.exc_value, found.exc_traceback)
            logger.error("%s %r", found.err_msg or "an error was ignored in", found.object, exc_info=error)

    threading.excepthook = of_thread
    sys.unraisablehook = unraisable
    logging.captureWarnings(True)


def format_in_use() -> LogFormat:
    """What `log_to_stderr` was told last; plain where somebody else has set up the logging."""
    formatters = (each.formatter for each in logging.getLogger().handlers)
    return "json" if any(isinstance(each, JsonFormatter) for each in formatters) else "plain"


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        # A handler's mistake. `logging` would print it between the lines, and nobody could parse that.
        return f"{record.msg!r} % {record.args!r}: {error!r}"
