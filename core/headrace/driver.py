"""The contract between headrace and a backend: all that a plugin's author implements.

A *backend* holds the connections to one place; a *driver* carries the messages of one
queue there, under the queue's prefix. Core does everything that can be done once:
serialization, retry policy, splitting of batches, timeouts, logging, events. A driver
moves messages between channels and never loses one.

Duties that hold for every verb below
-------------------------------------
* **Atomicity.** A move between channels is one atomic step where the backend can do
  that, and otherwise *write first, remove second*. A process that ends between any two
  lines of a driver leaves a duplicate at worst.
* **Batches.** A batch verb returns one result per item, in the order of the items. Core
  never passes an empty batch, nor more items than `Capabilities.max_batch`.
* **Errors.** What concerns the whole call is raised, as a `headrace.errors.BackendError`;
  out of reach, or unknown whether it took effect, is `BackendUnavailable`. Client
  libraries' exceptions never leave a driver. What concerns one item is that item's result.
* **Connections.** A driver reconnects by itself: a call made after the backend has come back
  works. A call ends by itself, too: one that gets no answer raises `BackendUnavailable` within
  some seconds beyond what it was asked to wait. An `open` that failed left nothing open.
* **Concurrency.** All verbs of one backend are called on the event loop that opened it,
  and may overlap. Different processes and loops use a queue at once, each by its own
  opened backend.
* **Cancellation.** A cancelled call has taken effect or has not; nothing is left between.
* **A busy loop.** Handlers may block the event loop for minutes. Leases that a clone can extend
  outlive that; a connection whose loss ends deliveries, or that needs heartbeats, must live in
  a thread of the backend's own.
* **Numbers.** `Driver.reload`, `Driver.flush` and `Driver.forget` return how many messages this call itself
  moved or deleted: exactly where `Capabilities.counts` is ``"exact"``, else as far as the backend tells.
* **Time.** Leases and delays follow the server's clock, or, on one machine, its monotonic
  clock; never a worker's wall clock. All durations are seconds, as floats.
* **Telemetry.** A driver logs nothing of jobs and emits no events; core does.

The batch-first shape and the result per item follow go-cloud's ``pubsub/driver``.
"""

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

import msgspec

from headrace.errors import BackendError, CapabilityError

#: The version of this contract. A backend states the one that it was written for, and
#: core refuses one that it does not know. It grows when a driver's duties change.
CONTRACT: Final = 1

#: The states that a message can be in.
Channel = Literal["waiting", "reserved", "delayed", "failed", "timeout"]

#: The channels where messages rest until somebody moves them.
RestingChannel = Literal["failed", "timeout"]

#: Every channel: what a backend declares that can do something with each of them.
ALL_CHANNELS: Final[frozenset[Channel]] = frozenset(get_args(Channel))

#: Shared by all messages without headers, so that they cost nothing.
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Note(msgspec.Struct, frozen=True, gc=False):
    """Why a message failed. Kept beside the message; at most 16 KiB, which core sees to."""

    type: str
    message: str
    traceback: str
    time: float  #: seconds since the epoch, by the worker's wall clock: for people only


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job in transit. Core makes every id; ids are unique within a queue."""

    id: str
    #: The job's wire name. A driver that finds a message which it cannot read, be it damaged or somebody else's, hands
    #: it out all the same, with no name (`""`) and what there is of its body: core moves it to ``failed``.
    name: str
    body: bytes  #: immutable and opaque: any bytes, returned as they came
    attempt: int = 0  #: retries spent so far: 0 on the first run
    deaths: int = 0  #: deliveries, before the last write, that ended with their worker
    delay: float = 0.0  #: seconds until due, counted from when the driver stores it
    unique_key: str | None = None  #: with capability ``unique`` only
    on_duplicate: Literal["replace", "keep"] = "replace"  #: with ``unique_key`` only
    headers: Mapping[str, str] = NO_HEADERS
    note: Note | None = None


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One handing-out of a message to a worker."""

    message: Message
    receipt: Any  #: opaque to core; proof of this one delivery
    count: int  #: how often the message was handed out since it was last written, this time included: 1 is normal


class Settled(enum.Enum):
    """What became of one receipt."""

    DONE = "done"  #: it was valid, and the verb took effect
    STALE = "stale"  #: its delivery is over (lease expired, or settled before); nothing was changed


#: The result for one receipt of a batch.
Result = Settled | BackendError


@dataclass(frozen=True, slots=True)
class Info:
    """How many messages each channel holds; ``None`` where the backend truly cannot know."""

    waiting: int | None
    reserved: int | None
    delayed: int | None
    failed: int | None
    timeout: int | None
    oldest_seconds: float | None  #: how long the oldest waiting message has been due; ``None`` when none waits


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a channel's messages, as `Driver.peek` shows them."""

    messages: Sequence[Message]
    cursor: str | None  #: pass it to the next call; ``None`` when there is no more


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do: frozen data, and the one source for engine, kit, ``check`` and docs."""

    contract: int  #: the `CONTRACT` that the backend was written for
    durable: bool  #: what was pushed outlives every process of ours
    shared: bool  #: several processes can use one queue
    ordered: bool  #: with one consumer and ``limit=1``: exactly first pushed, first delivered
    leases: Literal["timed", "connection"]  #: a delivery ends by a deadline, or with its connection
    counts: Literal["exact", "approximate", "unknown"]  #: what `Driver.info` gives
    max_batch: int  #: largest number of items in one call of a batch verb; the driver may split it further
    max_delay: float = math.inf  #: seconds; core emulates longer ones by further hops
    granularity: float = 0.0  #: seconds; leases and delays are rounded up to multiples of it
    max_run: float = math.inf  #: longest seconds that a delivery can be held; core refuses a longer ``handle_timeout``
    #: For people: how to raise ``max_run``, the server's setting, say; or what it depends on, while that is not known.
    max_run_hint: str = ""
    #: Seconds that the pop of an idle worker waits where the configuration does not say. More is for a server that
    #: bills each; nothing comes later by it, as a message wakes a pop, and whoever stops cancels it. 2 is hyperf's.
    pop_timeout: float = 2.0
    max_body: int = 2**31 - 1  #: bytes of `Message.body`; core refuses larger ones before sending
    idempotent: bool = False  #: a push repeated with an id that the queue still holds stores nothing new
    unique: bool = False  #: honours `Message.unique_key`
    peek: frozenset[Channel] = frozenset()  #: the channels that `Driver.peek` shows
    cancel: bool = False  #: `Driver.cancel`
    selective: frozenset[Channel] = frozenset()  #: the channels of which `forget` and `reload` take chosen ids
    flush: frozenset[Channel] = ALL_CHANNELS - {"reserved"}  #: the channels that `Driver.flush` empties
    wait_ready: bool = False  #: `Driver.wait_ready`
    store: bool = False  #: `Driver.store`
    lend: frozenset[Channel] = frozenset()  #: the channels that `Driver.lend` hands out from

    def as_object(self) -> dict[str, Any]:
        """The fields by name, for JSON: what has no limit is ``None``, channels are a list."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: in_order(value) if isinstance(value, frozenset) else None if value == math.inf else value
            for name, value in values.items()
        }

    def require(
        self,
        backend: str,
        capability: Literal[
            "durable",
            "shared",
            "ordered",
            "idempotent",
            "unique",
            "peek",
            "cancel",
            "selective",
            "flush",
            "wait_ready",
            "store",
            "lend",
        ],
        hint: str = "",
        *,
        channel: Channel | None = None,
    ) -> None:
        """Raise `CapabilityError` naming backend, capability and channel, unless it is declared.

        Without ``channel``, those that are for some channels are there if they are for any. One
        check serves both the question and the refusal, as psycopg's capabilities do.
        """
        declared = getattr(self, capability)
        if not (declared if channel is None else channel in declared):
            others = "" if channel is None else ", ".join(in_order(declared))
            raise CapabilityError(backend, capability, hint or (f"only for {others}" if others else ""), channel)


def in_order(channels: Collection[Channel]) -> list[Channel]:
    """Channels in the order in which people read them: that of `Channel`."""
    return [channel for channel in get_args(Channel) if channel in channels]


class Driver(ABC):
    """Carries one queue's messages. Made by `Backend.driver`, and usable once that backend is open."""

    @abstractmethod
    async def push(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        """Store messages whose ``delay`` is 0 in ``waiting``; `pop` of any process wakes at once.

        Returns, per message, the id that survives: the message's own; with ``unique_key``
        and ``on_duplicate="keep"``, that of the pending message which was kept. Replacing
        and storing are one atomic step. A message in ``waiting`` or ``delayed`` owns its
        key from push until it is first popped, and never again after that.

        Durable, as far as the backend promises that, when the call returns. Where
        `Capabilities.idempotent`, an id that the queue holds in any channel is left alone
        and counts as stored.
        """

    @abstractmethod
    async def delay(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        """As `push`, into ``delayed``: each message falls due its own ``delay`` seconds after the call.

        Where `Capabilities.ordered`, due messages are popped oldest due time first, whatever
        their number. ``delay`` is above 0 and at most `Capabilities.max_delay`.
        """

    @abstractmethod
    async def pop(self, limit: int, wait: float) -> Sequence[Delivery]:
        """Reserve at most ``limit`` due messages, oldest first, and hand them out.

        Returns at once with what there is, be it fewer than ``limit``. When there is
        nothing, waits, in the server, at most ``wait`` seconds for a push, a delay falling
        due or a lease expiring, and returns an empty sequence after that. ``wait=0`` never waits.
        An idle caller costs the backend about one command a second at most, and no more than
        some thousandths of a processor on either side.

        A delivery is reserved for the driver's lease, or as long as the connection lives.
        When that ends unsettled the message is due again, and its next delivery's ``count``
        is one higher; from then on it counts as waiting, and its old receipt is stale, whether or
        not anybody has popped it. A message is handed out with ``delay`` 0. No delivery is handed to
        two callers. Cancelled, a pop takes nothing or gives back what it took, with nothing counted
        where the backend can do that; else what it took comes back by its lease.
        """

    @abstractmethod
    async def ack(self, receipts: Sequence[Any]) -> Sequence[Result]:
        """Remove the delivered messages for good.

        A stale receipt changes nothing, and so does one of another queue; one given twice is stale once.
        Where leases are ``"connection"``, done may mean sent: if the connection breaks in that moment the
        message comes once more.
        """

    @abstractmethod
    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> Sequence[Result]:
        """Give back deliveries, each message as it stands in the pair (body and id are unchanged).

        Counts of deliveries start again from nothing: core has folded them into ``deaths``.
        With ``delay`` 0 the message is due at once, in its old place where the backend is
        `Capabilities.ordered`; otherwise it goes to ``delayed``. A stale receipt changes nothing.
        """

    @abstractmethod
    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> Sequence[Result]:
        """Move deliveries to ``failed`` or ``timeout``, each message as it stands in the pair."""

    @abstractmethod
    async def extend(self, receipts: Sequence[Any], seconds: float) -> Sequence[Result]:
        """Let the leases of these deliveries end ``seconds`` from now.

        Called on a clone of the backend, with receipts of the original: a receipt must
        not depend on the connection. Never called where leases are ``"connection"``.
        """

    @abstractmethod
    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        """Move messages to ``waiting``, oldest first, and return how many.

        ``attempt`` and ``deaths`` become 0, the note is cleared, and they queue behind what
        waits. At most ``limit``. Where capability ``selective`` has the channel, only those of
        ``ids``; elsewhere these are a `NotImplementedError`, and nothing is moved. What comes in
        during the call may stay: a call ends.
        """

    @abstractmethod
    async def flush(self, channel: Channel) -> int:
        """Delete what a channel holds and return how many. ``reserved`` is a `ValueError`: workers run it.

        A channel that capability ``flush`` does not have is a `NotImplementedError`.
        """

    @abstractmethod
    async def info(self) -> Info:
        """Count every channel. `Capabilities.counts` says how far to trust it."""

    @abstractmethod
    async def destroy(self) -> None:
        """Remove the queue and all that it holds, whatever channel it is in: nothing of it is left in the backend.

        What was handed out is gone too, and its receipts are stale. For queues that nobody
        uses any more, and for the conformance kit, which cleans up after itself; a push
        that comes later makes the queue anew.
        """

    # By capability. The defaults are for backends that do not declare it; core asks first.

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        """Show at most ``limit`` messages of a channel, oldest first, and change nothing.

        ``delay`` of a delayed message is what remains of it. ``cursor`` goes on where the last
        page ended; ``ids`` shows only these. Capability ``peek``; a channel that it does not have
        is a `NotImplementedError`.
        """
        raise NotImplementedError

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the field's own word
        """Remove a ``waiting`` or ``delayed`` message; false if there is none of that id. Capability ``cancel``."""
        raise NotImplementedError

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        """Delete chosen messages of a channel and return how many.

        Capability ``selective``, which never has ``reserved``; a channel that it does not have
        is a `NotImplementedError`, or a `ValueError` if it is ``reserved``.
        """
        raise NotImplementedError

    async def wait_ready(self, seconds: float) -> bool:
        """Wait until `pop` would find something, reserving nothing; false after ``seconds``.

        Lets one worker serve many queues in strict order. May say true once too often.
        Capability ``wait_ready``.
        """
        raise NotImplementedError

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> Sequence[str | BackendError]:
        """Store messages in ``failed`` or ``timeout`` as they stand: ``attempt``, ``deaths`` and note are kept.

        For what comes from another queue, where it rested. Durable and idempotent as `push` is, with a result
        for each message as there; but a ``unique_key`` is only kept, and replaces nothing: a message that rests
        owns none. Their ``delay`` is not looked at. Capability ``store``.
        """
        raise NotImplementedError

    async def lend(self, channel: Channel, limit: int) -> Sequence[Delivery]:
        """Hand out at most ``limit`` messages of a channel, so that they can be moved to another queue.

        For backends that show a message only to whoever takes it. Returns at once: fewer than there are, or none,
        where the server has them not at hand, or hands out nothing that is delayed before it is due. ``delay`` is
        what remains of it. `ack` removes a lent message for good, and `extend` prolongs a timed lease. What is not
        acked is in its channel again when the driver's lease, or the connection, ends. That counts no delivery, and
        ``count`` is 1; but what waits is counted, and can be given back by `retry`, as what was popped.

        One that falls due meanwhile comes with ``delay`` 0. Where ``waiting`` and ``delayed`` are one place, asking
        for either hands out of both, and the delay tells which it is. Capability ``lend``, which never has
        ``reserved``; a channel that it does not have is a `NotImplementedError`.
        """
        raise NotImplementedError


class Backend(ABC):
    """Holds the connections to one place. Building one touches nothing: no file, no socket."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this backend can do, as configured.

        Known before `open`. One that is open may know better how long a delivery can be held
        (``max_run`` and its hint), where that is the server's to say; all else stays as it was.
        """

    @property
    @abstractmethod
    def place(self) -> str:
        """Where messages go, in a few words for people, without any secret: a path, a host."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, and create what must exist. Called once, on the loop that will use it.

        Raises `BackendUnavailable` if trying again may help, and another `BackendError` if not.
        """

    @abstractmethod
    async def close(self) -> None:
        """Disconnect, end threads and tasks; called after an `open` that failed, too.

        Deliveries still held come back by their lease.
        """

    @abstractmethod
    def clone(self) -> "Backend":
        """Another backend for the same place, unopened: for another event loop or thread."""

    @abstractmethod
    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> Driver:
        """The driver for one queue. Cheap; touches nothing. ``lease_seconds``: how long a delivery stays reserved.

        ``prefix`` is any text of one character or more without white space; no two queues of a place
        share one. By default it is the queue's name in braces. A backend whose names allow less
        translates it, so that different prefixes stay different; one that it cannot use is a
        `ConfigError` that says why.
        """

    async def check(self) -> Sequence[str]:
        """Look for what may go wrong later: versions, settings. One line for people each.

        Called when open, and when drivers were made for the queues that are to be looked at.
        """
        return ()

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of client libraries and, when open, of the server: for reports."""
        return {}
