"""Who takes part, at which settings, and what those settings guarantee.

Each library takes part at the settings that make it fastest and are sensible, and, where those are others,
at settings whose guarantee equals headrace's: a push that returned is stored, and a job is
removed only after it ran, in steps that a ``kill -9`` between any two of them does not turn into a
loss. ``benchmarks/PEERS.md`` gives the reasons. Settings that are not named are the library's defaults.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

Broker = Literal["redis", "rabbitmq", "sqlite"]

#: Seconds after which a dead worker's jobs are due again in the kill trial, where a library lets one choose. Most
#: have longer ones by default, up to an hour, which nobody would wait for.
SOON: Final = 10


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One library at one set of settings on one broker."""

    name: str  #: unique
    library: str  #: whose installation it uses; "headrace" for our own
    adapter: str  #: a module of `peers.adapters` and a class in it, or a file for Node
    broker: Broker
    concurrency: int  #: jobs that a worker runs at once
    equal: bool  #: whether its guarantee is headrace's, by its documentation and code
    guarantee: str  #: in a few words, for what is equal; else what it lacks
    settings: str  #: what is set, for people
    about: float  #: jobs a second of one worker, roughly: by it the first runs get their numbers of jobs
    quick: bool = True  #: takes part in quick sessions
    uvloop: bool = False  #: its documentation recommends it
    options: dict[str, Any] = field(default_factory=dict)  #: as the adapter understands them
    environment: dict[str, str] = field(default_factory=dict)
    short: dict[str, Any] = field(default_factory=dict)  #: options of the kill trial that replace or join the others
    recovery: float = SOON  #: seconds in which a dead worker's jobs should run again there
    shortened: str = ""  #: what ``short`` does, for people

    @property
    def ours(self) -> bool:
        """Whether it is headrace."""
        return self.library == "headrace"


#: What headrace promises, and those that do the same.
AT_LEAST_ONCE: Final = "at least once"

#: Those that remove a job before it runs.
AT_MOST_ONCE: Final = "at most once"

_CELERY: Final[dict[str, Any]] = {"library": "celery", "adapter": "with_celery:Celery", "concurrency": 1}
_CELERY_REDIS: Final[dict[str, Any]] = {
    **_CELERY,
    "broker": "redis",
    "about": 800,
    "equal": False,
    "short": {"transport": {"visibility_timeout": SOON, "unacked_restore_throttle": 1}},
    "recovery": 3 * SOON,
    "shortened": f"visibility timeout {SOON} s instead of an hour, looked at every 10 s instead of 100",
}
_DRAMATIQ: Final[dict[str, Any]] = {
    "library": "dramatiq",
    "adapter": "with_dramatiq:Dramatiq",
    "concurrency": 1,
}
_TASKIQ: Final[dict[str, Any]] = {
    "library": "taskiq",
    "adapter": "with_taskiq:Taskiq",
    "concurrency": 100,
    "uvloop": True,
}
_HUEY: Final[dict[str, Any]] = {
    "library": "huey",
    "adapter": "with_huey:HueyAdapter",
    "concurrency": 1,
    "equal": False,
    "guarantee": AT_MOST_ONCE,
}

_RQ: Final[dict[str, Any]] = {
    "library": "rq",
    "adapter": "with_rq:Rq",
    "broker": "redis",
    "concurrency": 1,
    "about": 160,
    "equal": False,
    "short": {"timeout": 1, "worker": {"maintenance_interval": 5}},
    "recovery": 70,
    "shortened": "job timeout 1 s instead of 180, to which RQ adds 60; maintenance every 5 s instead of 600",
}
_SAQ: Final[dict[str, Any]] = {
    "library": "saq",
    "adapter": "with_saq:Saq",
    "broker": "redis",
    "concurrency": 10,
    "about": 950,
    "uvloop": True,
    # A sweep takes a job off every list, waits for five seconds, and only then puts it back.
    "equal": False,
    "short": {"worker": {"timers": {"sweep": 5}}},
    "recovery": 80,
    "shortened": "sweeps every 5 s instead of 60, of jobs past their timeout of 10 s, each of which takes it 5 s",
}


def _headrace(broker: Broker, place: str, about: float, settings: str = "", **backend: Any) -> Contender:
    name = f"headrace {broker}" + (f" ({settings})" if settings else "")
    options = {"backend": broker, "place": place, "backend_options": backend}
    return Contender(
        name=name,
        library="headrace",
        adapter="with_headrace:HeadraceAdapter",
        broker=broker,
        concurrency=10,
        equal=True,
        guarantee=AT_LEAST_ONCE,
        settings=settings or "defaults",
        about=about,
        quick=not settings,
        options=options,
        short={"lease": SOON},
        shortened=f"lease {SOON} s instead of 30",
    )


REDIS: Final = (
    _headrace("redis", "url", 50_000),
    Contender(
        name="celery redis",
        guarantee=AT_MOST_ONCE,
        settings="solo pool, early acks, prefetch 100",
        options={"prefetch": 100},
        **_CELERY_REDIS,
    ),
    Contender(
        name="celery redis (late acks)",
        guarantee="at least once, but for a kill between its pop and its note",
        settings="solo pool, late acks, prefetch 100",
        options={"prefetch": 100, "late": True},
        **_CELERY_REDIS,
    ),
    Contender(
        name="dramatiq redis",
        about=3000,
        broker="redis",
        equal=True,
        guarantee=AT_LEAST_ONCE,
        settings="one thread, prefetch 1000",
        environment={"dramatiq_queue_prefetch": "1000"},
        short={"broker": {"heartbeat_timeout": 1000 * SOON, "maintenance_chance": 1_000_000}},
        recovery=2 * SOON,
        shortened=f"heartbeat timeout {SOON} s instead of 60, maintenance at each command instead of one in a thousand",
        **_DRAMATIQ,
    ),
    Contender(
        name="taskiq list",
        about=2000,
        broker="redis",
        equal=False,
        guarantee=AT_MOST_ONCE,
        settings="uvloop, 100 at once",
        options={"kind": "list"},
        **_TASKIQ,
    ),
    Contender(
        name="taskiq stream",
        about=2500,
        broker="redis",
        equal=True,
        guarantee=AT_LEAST_ONCE,
        settings="uvloop, 100 at once",
        options={"kind": "stream"},
        short={"broker": {"idle_timeout": 1000 * SOON, "unacknowledged_lock_timeout": SOON}},
        recovery=3 * SOON,
        shortened=f"idle timeout {SOON} s instead of 600",
        **_TASKIQ,
    ),
    Contender(
        name="rq",
        quick=False,
        guarantee="at most once: a dead worker's job is failed",
        settings="SimpleWorker, no results",
        **_RQ,
    ),
    Contender(
        name="rq (retries)",
        guarantee="at least once, but for a kill between its pop and its note",
        settings="SimpleWorker, no results, Retry(3)",
        options={"retries": 3},
        **_RQ,
    ),
    Contender(name="huey redis", about=2500, broker="redis", settings="one thread, no results", **_HUEY),
    Contender(
        name="arq",
        about=950,
        library="arq",
        adapter="with_arq:Arq",
        broker="redis",
        concurrency=100,
        equal=True,
        guarantee=AT_LEAST_ONCE,
        settings="uvloop, 100 at once, polls every 10 ms, no results",
        uvloop=True,
        options={"worker": {"poll_delay": 0.01}},
        short={"worker": {"poll_delay": 0.01, "job_timeout": 5}},
        recovery=2 * SOON,
        shortened="job timeout 5 s instead of 300, to which arq adds 10",
    ),
    Contender(
        name="saq",
        quick=False,
        guarantee="at most once: a dead worker's job is aborted",
        settings="uvloop, 10 at once, no results",
        **_SAQ,
    ),
    Contender(
        name="saq (retries)",
        guarantee="at least once, but for a kill while it sweeps",
        settings="uvloop, 10 at once, no results, retries 10",
        options={"job": {"retries": 10}},
        **_SAQ,
    ),
    Contender(
        name="streaq",
        about=850,
        library="streaq",
        adapter="with_streaq:Streaq",
        broker="redis",
        concurrency=100,
        equal=True,
        guarantee=AT_LEAST_ONCE,
        settings="uvloop, 100 at once, no results, 10 tries",
        uvloop=True,
        options={"task": {"max_tries": 10}},
        short={"worker": {"idle_timeout": SOON}},
        recovery=2 * SOON,
        shortened=f"idle timeout {SOON} s instead of 60",
    ),
    Contender(
        name="bullmq",
        about=12000,
        library="bullmq",
        adapter="with_bullmq.mjs",
        broker="redis",
        concurrency=50,
        equal=True,
        guarantee=AT_LEAST_ONCE,
        settings="50 at once, no results, may stall 10 times",
        options={"worker": {"maxStalledCount": 10}},
        short={"worker": {"maxStalledCount": 10, "lockDuration": 1000 * SOON, "stalledInterval": 500 * SOON}},
        recovery=2 * SOON,
        shortened=f"lock {SOON} s instead of 30, looked at every {SOON // 2} s",
    ),
)

RABBITMQ: Final = (
    _headrace("rabbitmq", "url", 8_000),
    Contender(
        name="celery rabbitmq",
        about=3500,
        broker="rabbitmq",
        equal=False,
        guarantee=f"{AT_MOST_ONCE}, pushes not confirmed",
        settings="solo pool, early acks, prefetch 100",
        options={"prefetch": 100},
        **_CELERY,
    ),
    Contender(
        name="celery rabbitmq (late acks, confirms)",
        about=3500,
        broker="rabbitmq",
        equal=True,
        guarantee=AT_LEAST_ONCE,
        settings="solo pool, late acks, prefetch 100, publisher confirms",
        options={"prefetch": 100, "late": True, "transport": {"confirm_publish": True}},
        **_CELERY,
    ),
    Contender(
        name="dramatiq rabbitmq",
        about=4500,
        broker="rabbitmq",
        equal=False,
        guarantee=f"{AT_LEAST_ONCE}, pushes not confirmed",
        settings="one thread, prefetch 100",
        environment={"dramatiq_queue_prefetch": "100"},
        **_DRAMATIQ,
    ),
    Contender(
        name="dramatiq rabbitmq (confirms)",
        about=4500,
        broker="rabbitmq",
        equal=True,
        guarantee=AT_LEAST_ONCE,
        settings="one thread, prefetch 100, publisher confirms",
        options={"broker": {"confirm_delivery": True}},
        environment={"dramatiq_queue_prefetch": "100"},
        **_DRAMATIQ,
    ),
    Contender(
        name="taskiq rabbitmq",
        about=2700,
        broker="rabbitmq",
        equal=True,
        guarantee=AT_LEAST_ONCE,
        settings="uvloop, 100 at once, prefetch 100",
        options={"kind": "rabbitmq", "broker": {"qos": 100}},
        **_TASKIQ,
    ),
    Contender(
        name="faststream rabbitmq",
        about=4500,
        library="faststream",
        adapter="with_faststream:FastStreamAdapter",
        broker="rabbitmq",
        concurrency=100,
        equal=True,
        guarantee=AT_LEAST_ONCE,
        settings="uvloop, prefetch 100, durable queue, persistent messages",
        uvloop=True,
        options={"prefetch": 100},
    ),
)

SQLITE: Final = (
    _headrace("sqlite", "path", 50_000),
    _headrace("sqlite", "path", 50_000, settings="normal", synchronous="normal"),
    Contender(
        name="huey sqlite",
        about=3000,
        broker="sqlite",
        settings="one thread, polls every 10 to 50 ms, no results",
        options={"consumer": {"initial_delay": 0.01, "max_delay": 0.05}},
        **_HUEY,
    ),
    Contender(
        name="huey sqlite (no fsync)",
        quick=False,
        about=9000,
        broker="sqlite",
        settings="one thread, polls every 10 to 50 ms, no results, synchronous off",
        options={"consumer": {"initial_delay": 0.01, "max_delay": 0.05}, "storage": {"fsync": False}},
        **_HUEY,
    ),
)

CONTENDERS: Final = (*REDIS, *RABBITMQ, *SQLITE)
