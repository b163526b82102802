"""The queue that is emptied: how its messages are taken, held, and removed when they are elsewhere.

What the backend can do decides how a channel is emptied:

* What waits is popped, as by a worker, so that no worker runs what is moved.
* What can be lent is lent, by `Driver.lend`.
* What can be shown and deleted by id is shown, stored and deleted.
* Of what is delayed, and can be had in none of these ways, each message is popped when it is due.

What is reserved is in the hands of a worker: it comes when that gives it back, or has died and its lease ends.
"""

import asyncio
import contextlib
import enum
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from headrace.driver import ALL_CHANNELS, Channel, Delivery, Driver, Info, Settled, in_order
from headrace.errors import BackendError
from headrace.queue import Queue

#: The channels in the order in which they are emptied. What waits is last: what falls due meanwhile, or is given back,
#: comes to be there.
ORDER: Final[tuple[Channel, ...]] = ("delayed", "failed", "timeout", "waiting")

#: Bytes of bodies in one batch, as far as the batch before tells, and messages in the first one.
_BATCH_BYTES: Final = 8 * 2**20
_FIRST: Final = 100

#: Seconds that a pop waits for messages which are on their way to us.
_POP: Final = 0.1

#: Part of a lease after which it is extended: so that one call that fails leaves time for another.
_EXTEND_AFTER: Final = 1 / 3


class Way(enum.Enum):
    """How the messages of a channel are taken."""

    POPPED = "popped"
    LENT = "lent"
    SHOWN = "shown"  #: and deleted by id
    DUE = "when due"  #: popped, as soon as that is possible
    NONE = "not at all"


def way_of(queue: Queue, channel: Channel) -> Way:
    """How a channel of a queue can be emptied."""
    can = queue.capabilities
    if channel in can.lend:
        return Way.LENT
    if channel == "waiting":
        return Way.POPPED
    if channel in can.peek & can.selective:
        return Way.SHOWN
    return Way.DUE if channel == "delayed" else Way.NONE


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages that were taken together; their delays are what was left at ``read``, on `time.monotonic`."""

    channel: Channel  #: that was asked for them
    deliveries: Sequence[Delivery]  #: each with the deliveries that ended with their worker among its deaths
    read: float
    is_reserved: bool  #: else they were only shown, and their receipts mean nothing


class Source:
    """A queue that is emptied, in batches of at most ``most`` messages."""

    def __init__(self, queue: Queue, driver: Driver, most: int) -> None:
        self._queue = queue
        self._driver = driver
        self._most = most
        self._mean_body = _BATCH_BYTES / _FIRST
        self._reserved: dict[int, Delivery] = {}  #: by `id`: what was popped or lent, and is not removed yet
        self._waited: set[int] = set()  #: those of them that can be given back

    @property
    def size(self) -> int:
        """How many messages to take at a time."""
        return max(1, min(self._most, int(_BATCH_BYTES / self._mean_body)))

    async def counts(self) -> Info:
        return await self._driver.info()

    def batches(self, channel: Channel) -> AsyncGenerator[Batch]:
        """What can be had of a channel now. The next batch may be asked for before the last one was removed."""
        match way_of(self._queue, channel):
            case Way.SHOWN:
                return self._shown(channel)
            case Way.LENT:
                return self._handed_out(channel, lambda: self._driver.lend(channel, self.size))
            case Way.POPPED:
                return self._handed_out(channel, lambda: self._driver.pop(self.size, _POP))
            case _:
                return _nothing()

    async def _shown(self, channel: Channel) -> AsyncGenerator[Batch]:
        """Page by page."""
        cursor: str | None = None
        while True:
            page = await self._driver.peek(channel, self.size, cursor=cursor)
            if page.messages:
                yield self._batch(channel, [Delivery(each, None, 1) for each in page.messages], is_reserved=False)
            cursor = page.cursor
            if cursor is None:
                return

    async def _handed_out(
        self, channel: Channel, take: Callable[[], Awaitable[Sequence[Delivery]]]
    ) -> AsyncGenerator[Batch]:
        while deliveries := [_with_deaths(each) for each in await take()]:
            self._reserved.update((id(each), each) for each in deliveries)
            if channel in ("waiting", "delayed"):
                self._waited.update(id(each) for each in deliveries if not each.message.delay)
            yield self._batch(channel, deliveries, is_reserved=True)

    def _batch(self, channel: Channel, deliveries: Sequence[Delivery], *, is_reserved: bool) -> Batch:
        self._mean_body = max(1.0, sum(len(each.message.body) for each in deliveries) / len(deliveries))
        return Batch(channel, deliveries, time.monotonic(), is_reserved)

    async def remove(self, batch: Batch, stored: Sequence[Delivery]) -> int:
        """Delete what is elsewhere now; how many of them somebody else had taken by then, as far as that is known."""
        if not stored:
            return 0
        if batch.is_reserved:
            results = await self._driver.ack([each.receipt for each in stored])
            for each in stored:
                self._reserved.pop(id(each), None)
                self._waited.discard(id(each))
            for result in results:
                if isinstance(result, BackendError):
                    raise result
            return sum(result is Settled.STALE for result in results)
        ids = [each.message.id for each in stored]
        gone = await self._driver.forget(batch.channel, ids)
        if gone < len(ids) and batch.channel == "delayed" and "waiting" in self._queue.capabilities.selective:
            gone += await self._driver.forget("waiting", ids)  # those that fell due meanwhile
        return len(ids) - gone if self._queue.capabilities.counts == "exact" else 0

    # What is reserved for us.

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the leases of what is taken in here, and in the end give back what waited and was not removed."""
        keeper = asyncio.create_task(self._keep()) if self._queue.capabilities.leases == "timed" else None
        try:
            yield
        finally:
            if keeper is not None:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
            await self._give_back()

    async def _keep(self) -> None:
        lease = self._queue.settings.lease_seconds
        while True:
            await asyncio.sleep(lease * _EXTEND_AFTER)
            for part in self._parts(list(self._reserved.values())):
                with contextlib.suppress(BackendError):  # a lease that ends all the same makes a duplicate at worst
                    await self._driver.extend([each.receipt for each in part], lease)

    async def _give_back(self) -> None:
        """Let workers, and the next migration, have at once what waited. What else was lent is back by itself."""
        waited = [each for key, each in self._reserved.items() if key in self._waited]
        with contextlib.suppress(BackendError):  # then it is back when the lease or the connection ends
            for part in self._parts(waited):
                await self._driver.retry([(each.receipt, each.message) for each in part])

    def _parts(self, deliveries: Sequence[Delivery]) -> Sequence[Sequence[Delivery]]:
        size = self._queue.capabilities.max_batch
        return [deliveries[start : start + size] for start in range(0, len(deliveries), size)]


async def _nothing() -> AsyncGenerator[Batch]:
    """No batch."""
    nothing: Sequence[Batch] = ()
    for batch in nothing:
        yield batch


def _with_deaths(delivery: Delivery) -> Delivery:
    """A delivery whose message tells of those before it, which nobody else will count any more."""
    if delivery.count == 1:
        return delivery
    message = delivery.message
    message = msgspec.structs.replace(message, deaths=message.deaths + delivery.count - 1)
    return Delivery(message, delivery.receipt, 1)


def counted(info: Info) -> dict[Channel, int]:
    """The channels that hold something, as far as that is counted."""
    counts: dict[Channel, int | None] = {channel: getattr(info, channel) for channel in in_order(ALL_CHANNELS)}
    return {channel: count for channel, count in counts.items() if count}
