"""Where the log of a supervisor and its workers goes: plain lines on stderr.

Only ``headrace worker`` sets this up. An application that runs a worker in its own loop
keeps its own logging.
"""

import logging
import sys
import time
from typing import Final

from headrace.printing import printable_block

#: What ``--log-level`` and ``HEADRACE_LOG_LEVEL`` may say.
LEVELS: Final = ("debug", "info", "warning", "error", "critical")

#: Local time, as the terminal's owner reads clocks; the offset makes it exact for whoever collects logs.
_TIME: Final = "%Y-%m-%d %H:%M:%S%z"


class Formatter(logging.Formatter):
    """``time level [process] message``; what a job wrote into it cannot leave its line."""

    converter = staticmethod(time.localtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s [%(process)d] %(message)s", _TIME)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        # The message alone, made one line; a traceback is added below it afterwards.
        return super().formatMessage(record).replace("\n", "\\n")

    def format(self, record: logging.LogRecord) -> str:
        # Indented, so that no line of a traceback can pass for a line of the log.
        return printable_block(super().format(record)).replace("\n", "\n    ")


def log_to_stderr(level: str) -> None:
    """Send all logging of this process to stderr, from ``level`` upwards."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
