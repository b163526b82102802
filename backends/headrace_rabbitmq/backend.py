"""The RabbitMQ backend: what it can do, its connections while open, and what may go wrong later.

Limits that are the broker's, and that no client can lift:

* What is in a queue goes when somebody deletes the queue. It is declared anew when it is needed. RabbitMQ 3.10 may
  then refuse each declaration with ``cluster_not_formed`` (seen once, as a pop and a push declared it in that moment).
* RabbitMQ 3.10 notes every half second which quorum queues it has: killed before that, it has lost a queue that
  was just declared, with all that was pushed to it.
* All of a message but its body travels in one frame, by default of 128 KiB. Three quarters of that are for headers, id
  and name, whatever a message has of them; the rest is for the note of a failure, of which a part is kept if need be.
* A delayed message whose next queue has no leader at the moment when it is due is sent on again after the broker's
  ``dead_letter_worker_publisher_confirm_timeout``, by default 180 s: late, and not lost.
* A queue whose node is killed in the moment when it makes it, members first and then their first election, is left
  without a leader for good (seen in a cluster on 3.10 and 4.0). For headrace that is mostly one of those that delays
  pass, as they are made when a delay first needs them: what is delayed then waits in the one before it, and is not
  counted. ``rabbitmq-queues quorum_status`` shows one by members that all are followers. Nothing was ever confirmed
  there, so it can be deleted; the next process that delays makes it anew, and what waits goes on.
* A message that somebody pushes in the very moment when an idle worker stops fetching may be counted as delivered
  once more than it was (seen on 3.10).
* Whoever asks for counts is told of delays by asking for queues that may not be there: with no delay ever used in a
  queue that is one line at level error in the broker's log, at most every five seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Final

from headrace.driver import CONTRACT, Backend, Capabilities, RestingChannel
from headrace.errors import BackendError, BackendUnavailable
from headrace_rabbitmq.connections.place import Place
from headrace_rabbitmq.driver import MAX_BATCH, RabbitDriver
from headrace_rabbitmq.lending import LENT
from headrace_rabbitmq.management import Management
from headrace_rabbitmq.opened import Opened
from headrace_rabbitmq.prefixes import Register
from headrace_rabbitmq.settings import RabbitSettings
from headrace_rabbitmq.topology import MAX_DELAY, SHORTEST

#: What can be looked at without counting a delivery that somebody might be blamed for.
_SHOWN: Final[frozenset[RestingChannel]] = frozenset({"failed", "timeout"})

CAPABILITIES: Final = Capabilities(
    contract=CONTRACT,
    durable=True,
    shared=True,
    ordered=False,
    leases="connection",
    counts="approximate",
    max_batch=MAX_BATCH,
    max_delay=MAX_DELAY,
    granularity=SHORTEST,
    max_body=16 * 2**20,  # the default of RabbitMQ 4
    peek=_SHOWN,
    selective=_SHOWN,
    wait_ready=True,
    store=True,
    lend=LENT,
)

#: Quorum queues keep a time to live, and dead-letter at least once, from this version on.
_OLDEST: Final = (3, 10)

#: From this version on a queue says itself how long its deliveries may be held: ours do, in `Topology`.
_HOLDS_LONG: Final = (3, 12)


class RabbitBackend(Backend):
    """Queues on the broker that ``place`` means."""

    def __init__(self, place: Place, settings: RabbitSettings, management: Management | None) -> None:
        self._place = place
        self._settings = settings
        self._management = management
        self._register = Register()
        self._open: Opened | None = None
        self._server_version = ""
        self._capabilities = _capabilities("", settings.consumer_timeout)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def place(self) -> str:
        return self._place.where

    @property
    def versions(self) -> Mapping[str, str]:
        found = {name: metadata.version(name) for name in ("aiormq", "pamqp")}
        if self._server_version:
            found["server"] = f"rabbitmq {self._server_version}"
        return found

    def clone(self) -> "RabbitBackend":
        return RabbitBackend(self._place, self._settings, self._management)

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> RabbitDriver:
        """Leases last as long as the connection: ``lease_seconds`` has no meaning here."""
        topology = self._register.enter(prefix)

        def opened() -> Opened:
            if self._open is None:
                raise BackendUnavailable(f"{self._place} is not open")
            return self._open

        return RabbitDriver(topology, opened)

    async def open(self) -> None:
        opened = Opened(self._place, self._settings, self._management)
        try:
            self._server_version = await opened.connect()
            if _numbers(self._server_version) < _OLDEST:
                oldest = ".".join(map(str, _OLDEST))
                raise BackendError(
                    f"{self._place} is rabbitmq {self._server_version}; headrace needs {oldest} or later"
                )
        except BaseException:
            await opened.close()
            raise
        self._capabilities = _capabilities(self._server_version, self._settings.consumer_timeout)
        self._open = opened

    async def close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            await opened.close()

    async def check(self) -> Sequence[str]:
        return await self._management.check() if self._management is not None else ()


def _capabilities(version: str, consumer_timeout: float) -> Capabilities:
    """Those of a broker; of one that nobody has asked for its version yet, if that is empty."""
    if not version:
        hint = f"before RabbitMQ 3.12 its consumer_timeout, {consumer_timeout / 60:g} min"
        return replace(CAPABILITIES, max_run_hint=hint)
    if _numbers(version) >= _HOLDS_LONG:
        return CAPABILITIES
    return replace(
        CAPABILITIES,
        max_run=consumer_timeout,
        max_run_hint=f"RabbitMQ {version} ends what is held longer than its consumer_timeout: raise "
        "that in rabbitmq.conf, and say so here with the option consumer_timeout, or use RabbitMQ 3.12 or later",
    )


def _numbers(text: str) -> tuple[int, ...]:
    """A version's first two numbers."""
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
