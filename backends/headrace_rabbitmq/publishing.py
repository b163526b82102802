"""Publishing for one queue: every message confirmed, none unroutable, none waited for without end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

import msgspec

from headrace.driver import Message
from headrace.errors import BackendError, BackendUnavailable, MessageTooLarge
from headrace_rabbitmq.codec import Parcel, fits, header_size, largest_new, properties, properties_within
from headrace_rabbitmq.connections.channel import Outcome, PublishChannel
from headrace_rabbitmq.connections.link import Link
from headrace_rabbitmq.desk import Declared
from headrace_rabbitmq.errors import translated
from headrace_rabbitmq.topology import Topology, highest_level, routing_key

#: Messages that are sent before their confirms are waited for.
_WINDOW: Final = 250

#: Bytes of the same.
_WINDOW_BYTES: Final = 4 * 2**20

#: What is sent again: what had no queue, which is declared then; what a queue did not take, which is just
#: starting, or choosing its leader; and what never went out.
_AGAIN: Final = frozenset({Outcome.RETURNED, Outcome.REFUSED, Outcome.UNSENT})

#: What the broker has told of.
_ANSWERED: Final = frozenset({Outcome.STORED, Outcome.RETURNED, Outcome.REFUSED})

#: Seconds that such a queue gets before it is sent to again.
_PAUSE: Final = 0.05

#: Seconds that what is on its way gets to be answered, where others wait for that.
_QUIET: Final = 0.2


class Publisher:
    """Belongs to the event loop of its connections. One channel, so that a refusal hurts no other queue."""

    def __init__(self, link: Link, declared: Declared, topology: Topology) -> None:
        self._link = link
        self._declared = declared
        self._topology = topology
        self._channel: PublishChannel | None = None
        self._opening = asyncio.Lock()
        self._under_way = 0  #: publishes
        self._settled = asyncio.Event()  #: there are none
        self._settled.set()
        self._may_begin = asyncio.Event()
        self._may_begin.set()

    async def store(
        self,
        messages: Sequence[Message],
        queue: str = "",
        *,
        deliveries: Sequence[int] | None = None,
        is_new: bool = False,
    ) -> list[BackendError | None]:
        """Publish messages, to a queue or each by its delay, and for each tell what went wrong.

        ``deliveries``: of each that ended unsettled. ``is_new``: they were not here before, and have to leave room for
        what they get later. One that is too large is not sent; of a note that is, a part. Raises `BackendError` if
        nothing of what could be sent was sent, or has an answer.
        """
        largest = await self._link.largest_header()
        counts = deliveries or [0] * len(messages)
        made = [self._parcel(each, queue, count, largest, is_new) for each, count in zip(messages, counts, strict=True)]
        sent = iter(await self._send([each for each in made if isinstance(each, Parcel)]))
        return [next(sent) if isinstance(each, Parcel) else each for each in made]

    def _parcel(
        self, message: Message, queue: str, deliveries: int, largest: int, is_new: bool
    ) -> Parcel | MessageTooLarge:
        """A message for a queue, or else for ``waiting`` or the level where its delay begins."""
        exchange, key, level, until = "", queue or self._topology.waiting, 0, None
        if message.delay and not queue:
            level, key, until = highest_level(message.delay), routing_key(message.delay), time.time() + message.delay
            exchange = self._topology.level(level)
        found = counted = properties_within(largest, message, deliveries, until)
        if is_new:
            largest = largest_new(largest)
            if message.note is not None:
                counted = properties(msgspec.structs.replace(message, note=None), deliveries, until)
        if not fits(counted, largest):
            return MessageTooLarge(str(self._link.place), header_size(counted), largest, "a message header")
        return Parcel(exchange, key, level, found, message.body)

    async def _send(self, parcels: Sequence[Parcel]) -> list[BackendError | None]:
        """Publish, and for each tell what went wrong. Raises `BackendError` if nothing was sent, or has an answer."""
        results: list[BackendError | None] = []
        for window in _windows(parcels):
            try:
                results += await self._send_window(window)
            except BackendError as error:
                if not results:
                    raise
                results += [error] * (len(parcels) - len(results))
                break
        return results

    async def _send_window(self, parcels: Sequence[Parcel]) -> list[BackendError | None]:
        queue = parcels[0].routing_key if not parcels[0].level else self._topology.waiting  # one call is for one
        level = max(each.level for each in parcels)
        outcomes = [Outcome.UNSENT] * len(parcels)
        left: Sequence[int] = range(len(parcels))
        failure: BackendError | None = None
        deadline = asyncio.get_running_loop().time() + self._link.timeout
        while True:
            try:
                await self._declared.ensure(queue, level)
                failure = await self._try(parcels, outcomes, left) or failure
            except BackendError as error:
                failure = failure or error
                break
            left = [at for at in left if outcomes[at] in _AGAIN]
            if not left or asyncio.get_running_loop().time() > deadline:
                break
            if any(outcomes[at] is Outcome.RETURNED for at in left):
                self._declared.forget()
            await asyncio.sleep(_PAUSE)
        if failure is not None and not any(each in _ANSWERED for each in outcomes):
            raise failure
        return [self._error(outcome, failure) for outcome in outcomes]

    @contextlib.asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Let nothing of ours be on its way in here, unless what is on its way takes long."""
        self._may_begin.clear()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_QUIET):
                    await self._settled.wait()
            yield
        finally:
            self._may_begin.set()

    async def _try(
        self, parcels: Sequence[Parcel], outcomes: list[Outcome], places: Sequence[int]
    ) -> BackendError | None:
        """Send the parcels at these places; why what became of some of them is unknown, if it is.

        Raises `BackendError` if nothing could be sent.
        """
        found = [Outcome.UNSENT] * len(places)
        failure: BackendError | None = None
        async with self._link.publishing(), self._counted():
            channel = await self._open()
            try:
                with translated(self._link.place):
                    await channel.publish([parcels[at] for at in places], found, self._link.timeout)
            except BackendError as error:
                if Outcome.UNKNOWN in found:
                    failure = error
                if isinstance(error.__cause__, TimeoutError):
                    await self._link.unanswered()
                if self._channel is channel:
                    self._channel = None
                self._link.abandon(channel)
            if any(each in _ANSWERED for each in found):
                self._link.answered()
        for at, outcome in zip(places, found, strict=True):
            outcomes[at] = outcome
        return failure

    @contextlib.asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        await self._may_begin.wait()
        self._under_way += 1
        self._settled.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._settled.set()

    async def _open(self) -> PublishChannel:
        async with self._opening:
            if self._channel is None or not self._channel.is_usable:
                self._channel = await self._link.channel(PublishChannel)
            return self._channel

    def _error(self, outcome: Outcome, failure: BackendError | None) -> BackendError | None:
        place = self._link.place
        if outcome is Outcome.STORED:
            return None
        if outcome is Outcome.REFUSED:
            return BackendUnavailable(f"{place} could not store a message in {self._topology.waiting}")
        if outcome is Outcome.RETURNED:
            return BackendUnavailable(f"{place} has no queue {self._topology.waiting}, though it was just declared")
        if outcome is Outcome.UNSENT and failure is None:
            return BackendUnavailable(f"{place} is slow: what was to be published before took all the time")
        return failure or BackendUnavailable(f"{place} did not answer in time")


def _windows(parcels: Sequence[Parcel]) -> Iterator[Sequence[Parcel]]:
    if not parcels:
        return
    start = size = 0
    for at, parcel in enumerate(parcels):
        size += len(parcel.body)
        if at - start == _WINDOW or (size > _WINDOW_BYTES and at > start):
            yield parcels[start:at]
            start, size = at, len(parcel.body)
    yield parcels[start:]
