"""What can be set: names, types, ranges and defaults.

Owns the settings as data. The words of other systems for them are in `headrace.vocabulary`,
reading tables into them is `headrace.tables`, finding the configuration `headrace.config`.
Nothing here is checked when built in code: what a file, a declaration or a push says is
validated once, where it is read.
"""

import sys
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from msgspec import Meta

from headrace.tables import LEAST_BUT_ZERO

#: Any number but infinity, which neither JSON nor a timer takes.
LONGEST: Final = sys.float_info.max

Seconds = Annotated[float, Meta(ge=0, le=LONGEST, description="a number of seconds, 0 or more")]
PositiveSeconds = Annotated[float, Meta(gt=0, le=LONGEST, description="a number of seconds above 0")]
#: Seconds. Leases and stalls are looked at several times within them, by a thread and by calls to the backend: below
#: this they would do little else, and a value this small is a mistake in the unit.
SHORTEST: Final = 0.1

WatchedSeconds = Annotated[float, Meta(ge=SHORTEST, le=LONGEST, description=f"a number of seconds, {SHORTEST} or more")]
PeriodSeconds = Annotated[
    float,
    Meta(
        ge=0,
        le=LONGEST,
        description=f"0, or a number of seconds, {SHORTEST} or more",
        extra={LEAST_BUT_ZERO: SHORTEST},
    ),
]
CountFromZero = Annotated[int, Meta(ge=0)]
CountFromOne = Annotated[int, Meta(ge=1)]
ModuleName = Annotated[
    str, Meta(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*\Z", description='the name of a module, such as "shop.jobs"')
]
ObjectName = Annotated[
    str,
    Meta(
        pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*\Z",
        description='a module and a name in it, such as "shop.worker:lifespan"',
    ),
]
ListenerName = Annotated[
    str,
    Meta(
        pattern=r"^(log|queue-length|reload-timeouts|[^\W\d]\w*(\.[^\W\d]\w*)*)\Z",
        description='"log", "queue-length", "reload-timeouts" or the name of a module, such as "shop.audit"',
    ),
]

#: What a queue's or a backend's name may consist of: it goes into keys, commands (``worker high,low``)
#: and environment variables, so no spaces, commas, quotes or braces.
NAME_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.:-]*\Z"
NAME_WORDS: Final = "letters, digits and _ . : - only, beginning with none of . : -"

BackendName = Annotated[
    str,
    Meta(
        pattern=NAME_PATTERN,
        description='the name of a backend, such as "redis"; where that is goes into a table [backends.redis]',
    ),
]

#: As many as a random key of 128 bits has in hexadecimal digits: who can guess a key can sign.
SigningKey = Annotated[str, Meta(min_length=32, description="a secret of 32 characters or more")]

#: The delay where ``retry_seconds`` is an empty list: hyperf's.
EMPTY_RETRY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Concurrent:
    """How much one worker process runs at once."""

    limit: CountFromOne = 10  #: handlers; 10 is hyperf's


@dataclass(frozen=True, slots=True)
class Backoff:
    """Growing delays: ``base * factor ** attempt`` seconds, at most ``max``."""

    base: Seconds
    factor: Annotated[float, Meta(ge=1, le=LONGEST, description="a number, 1 or more")] = 2.0
    #: An hour: long enough to sit out a deployment or a restart, short enough that the job still makes sense.
    max: Seconds = 3600.0
    #: The share of a delay that is drawn at random: at 0.1 between 90 and 100 % of it, at 1 any part.
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.0


RetrySeconds = Annotated[
    Seconds | tuple[Seconds, ...] | Backoff,
    Meta(
        description="a number of seconds, 0 or more; a list of them, one for each attempt; "
        "or a table such as { base = 1, factor = 2, max = 60, jitter = 0.1 }"
    ),
]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a job, or one push of it, may say of its runs; ``None`` leaves the word to job or queue."""

    max_retries: CountFromZero | None = None
    retry_seconds: RetrySeconds | None = None
    handle_timeout: Seconds | None = None
    on_timeout: Literal["continue", "cancel"] | None = None

    def __post_init__(self) -> None:
        if self.retry_seconds == ():
            object.__setattr__(self, "retry_seconds", EMPTY_RETRY_SECONDS)


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """One queue: where its messages go, and how workers treat them. Durations are seconds."""

    name: str
    backend: BackendName  #: an entry of ``[backends.*]``, or simply an installed backend
    #: What the queue's keys or queues are called in the backend; by default its name in braces.
    prefix: Annotated[str, Meta(pattern=r"^\S+\Z", description="a string without spaces")] = ""
    #: How long one pop may wait in the server; ``None``: as long as suits the backend.
    pop_timeout: PositiveSeconds | None = None
    retry_seconds: RetrySeconds = 5.0  #: the delay before a retry
    max_retries: CountFromZero = 0  #: a job's own wins; N means N + 1 runs
    handle_timeout: Seconds = 0.0  #: from a handler's start; 0: none
    on_timeout: Literal["continue", "cancel"] = "continue"
    lease_seconds: WatchedSeconds = 30.0  #: how long a delivery outlives its worker
    max_redeliveries: CountFromOne = 3  #: deliveries that end with their worker, until a message is suspect
    processes: CountFromOne = 1
    concurrent: Annotated[Concurrent, Meta(description="a table such as { limit = 10 }")] = field(
        default_factory=Concurrent
    )
    max_messages: CountFromZero = 0  #: a worker is replaced after so many; 0: never
    max_memory: CountFromZero = 0  #: and above so many MiB of resident memory; 0: never
    max_seconds: Seconds = 0.0  #: and at that age; 0: never
    shutdown_timeout: Seconds = 25.0  #: below the 30 s that Kubernetes grants
    enabled: bool = True
    push_timeout: PositiveSeconds = 5.0  #: a push returns or raises within it
    stall_seconds: WatchedSeconds = 300.0  #: how long a handler that blocks the event loop keeps its lease
    on_stall: Literal["report", "replace"] = "report"  #: what becomes of a worker that is stuck for longer
    unknown_job_seconds: Seconds = 600.0  #: how long a job that no worker knows is handed on, before it fails
    queue_length_seconds: PeriodSeconds = 10.0  #: between two `QueueLength` events; 0: never

    def __post_init__(self) -> None:
        if not self.prefix:
            object.__setattr__(self, "prefix", f"{{{self.name}}}")
        if self.retry_seconds == ():
            object.__setattr__(self, "retry_seconds", EMPTY_RETRY_SECONDS)


@dataclass(frozen=True, slots=True)
class TopSettings:
    """What stands outside ``[backends.*]`` and ``[queues.*]``."""

    backend: BackendName = "sqlite"  #: every queue's default; sqlite needs neither a server nor a table
    imports: tuple[ModuleName, ...] = ()
    listeners: tuple[ListenerName, ...] = ("log",)
    middleware: tuple[ObjectName, ...] = ()
    lifespan: ObjectName | None = None
    #: What messages are signed with, by the first, and verified with, by any. None: they are not.
    signing_keys: tuple[SigningKey, ...] = field(default=(), repr=False)
