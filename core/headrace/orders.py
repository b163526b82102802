"""What a supervisor and its worker processes say to each other.

They are tied by a socket pair, the *line*, of which each holds one end. When the parent is
gone, by ``kill -9`` too, its end closes, and the child stops as if told to. Down the line go
single bytes, `GO`, `DRAIN` and `HURRY`; up go JSON lines: `Starting` every second, one `Ready`, a `Sign` of
life every few seconds, and in the end one `Farewell`.
"""

import enum
from typing import Final

import msgspec

from headrace.logs import LogFormat

#: Begin to take messages. Sent at any time: a process that is not ready yet hears it when it is.
GO: Final = b"g"
#: Take no more, and end when the handlers that run have, however long that takes.
DRAIN: Final = b"d"
#: Stop at once. A word, since a second SIGTERM that comes before the first was heard is the same one to a process.
HURRY: Final = b"h"

#: Seconds beyond its ``shutdown_timeout`` in which a worker cancels handlers, sends its last
#: moves and closes. A process that is not gone after that is ended, whatever holds it.
STOP_SECONDS: Final = 15.0


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one process is to do. Stands on its command line, so that ``ps`` shows what it is for."""

    queues: list[str]
    config: str | None = None
    concurrency: int | None = None
    max_messages: int | None = None
    until_empty: bool = False
    log_level: str = "info"
    log_format: LogFormat = "plain"


class Starting(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The process gets ready. It may be lost where nobody reads, and come late: after `Ready` it says nothing."""

    doing: str  #: what, in words that follow "it"
    waits: bool = False  #: for its backend, which may be out of reach for as long as it likes


class Ready(msgspec.Struct, frozen=True, tag=True):
    """All that the process needs is imported, checked and open. It takes nothing before `GO`."""


class Sign(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The process lives. It may be lost where nobody reads: the next one says the same."""

    silent: float  #: seconds since its event loop last turned
    problem: str = ""  #: what is wrong, if it is stalled
    nearly_done: bool = False  #: it will soon have taken the last of its ``max_messages``


class LastTaken(msgspec.Struct, frozen=True, tag=True):
    """The last of its ``max_messages`` has been started; it takes no more, and ends when its handlers have.

    Where nobody reads, it is lost: its end says as much.
    """


class Ending(enum.Enum):
    """How a worker process ends in good order."""

    EMPTY = "empty"  #: with ``until_empty``: nothing was left to do
    REPLACE = "replace"  #: it has done its share, and there may be more to do
    WRONG = "wrong"  #: it cannot work with this configuration, or on a backend of this kind
    FAILED = "failed"  #: its backend refuses it, or with ``until_empty`` stayed out of reach
    BROKEN = "broken"  #: what the application does at its start failed, and may not the next time


class Farewell(msgspec.Struct, frozen=True, tag=True):
    """The last thing that a process says. One that does not say it has crashed.

    The exit status says nothing: a handler can end its process with any.
    """

    ending: Ending
    problem: str = ""  #: with `Ending.WRONG`, `Ending.FAILED` and `Ending.BROKEN`: what it is
