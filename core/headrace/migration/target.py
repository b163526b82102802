"""The queue that is filled: storing what comes, and the ledger by which it is looked up in the end."""

import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from headrace.driver import ALL_CHANNELS, Channel, Delivery, Driver, Message, in_order
from headrace.errors import BackendError, BackendUnavailable
from headrace.migration.fitting import Fitting
from headrace.migration.source import Batch
from headrace.queue import Queue

#: The ids that core makes. Others are somebody's own, and two queues may have the same.
_OURS: Final = re.compile(r"[0-9a-f]{32}")

#: Times that a message is looked for in all channels: between two looks it may have gone from one to another.
_LOOKS: Final = 3

#: Messages that are looked up at a time.
_PAGE: Final = 500

#: A message, as it is to be stored, and the delivery that it came by.
_Fitted: TypeAlias = tuple[Message, Delivery]


@dataclass(frozen=True, slots=True)
class Stayed:
    """A message that could not be moved, and why."""

    id: str
    channel: Channel
    reason: str


class Target:
    """A queue that is filled with what fits."""

    def __init__(self, queue: Queue, driver: Driver, fitting: Fitting, *, check: bool) -> None:
        """``check``: what is stored is to be looked up in the end, if all channels can be looked at."""
        self._queue = queue
        self._driver = driver
        self._fitting = fitting
        self._remembers = check and queue.capabilities.peek >= ALL_CHANNELS
        self._ledger: dict[str, Channel] = {}  #: the ids that were stored, and where they were then
        self.stored: Counter[Channel] = Counter()  #: how many, by channel
        self.stayed: dict[str, Stayed] = {}  #: by id

    async def store(self, batch: Batch) -> tuple[list[Delivery], BackendError | None]:
        """Store what fits; the deliveries of which that is certain, and why it is not known of others.

        What does not fit, or is refused, is in `stayed`. Raises `BackendError` if nothing was stored.
        """
        fitted = [each for delivery in batch.deliveries if (each := self._fitted(batch, delivery)) is not None]
        stored: list[Delivery] = []
        doubt: BackendError | None = None
        for channel in in_order({_channel(batch, message) for message, _ in fitted}):
            of_channel = [each for each in fitted if _channel(batch, each[0]) == channel]
            part = await self._without_namesakes(channel, of_channel)
            if not part:
                continue
            try:
                results = await self._send(channel, [message for message, _ in part])
            except BackendError as error:
                if not stored:
                    raise
                return stored, error
            for (message, delivery), result in zip(part, results, strict=True):
                if isinstance(result, BackendUnavailable):
                    doubt = result
                elif isinstance(result, BackendError):
                    self._stay(channel, message, str(result))
                else:
                    stored.append(delivery)
                    if self._remembers:
                        self._ledger[message.id] = channel
                    self.stored[channel] += 1
        return stored, doubt

    def _fitted(self, batch: Batch, delivery: Delivery) -> _Fitted | None:
        message = delivery.message
        if message.id in self.stayed:
            return None
        if message.delay:
            left = max(0.0, message.delay - (time.monotonic() - batch.read))
            message = msgspec.structs.replace(message, delay=left)
        channel = _channel(batch, message)
        try:
            return self._fitting.fit(message, channel), delivery
        except BackendError as error:
            self._stay(channel, message, str(error))
            return None

    def _stay(self, channel: Channel, message: Message, reason: str) -> None:
        self.stayed[message.id] = Stayed(message.id, channel, reason)

    async def _send(self, channel: Channel, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        if channel == "failed" or channel == "timeout":
            return await self._driver.store(messages, channel)
        push = self._driver.delay if channel == "delayed" else self._driver.push
        results = list(await push(messages))
        # Another message has the key, and replaces none: this one is moved without it.
        others = [at for at, result in enumerate(results) if isinstance(result, str) and result != messages[at].id]
        if others:
            keyless = [msgspec.structs.replace(messages[at], unique_key=None) for at in others]
            for at, result in zip(others, await push(keyless), strict=True):
                results[at] = result
        return results

    async def _without_namesakes(self, channel: Channel, fitted: Sequence[_Fitted]) -> Sequence[_Fitted]:
        """All but those of whose id the queue has another message, which it would take for the same."""
        can = self._queue.capabilities
        own = [message.id for message, _ in fitted if not _OURS.fullmatch(message.id)]
        if not own or not can.idempotent:
            return fitted
        there = {each.id: each for shown in in_order(can.peek) async for each in self._shown(shown, own)}
        fits: list[_Fitted] = []
        for message, delivery in fitted:
            other = there.get(message.id)
            if other is None or (other.name, other.body) == (message.name, message.body):
                fits.append((message, delivery))
            else:
                self._stay(channel, message, f"{self._queue.name!r} has another message of this id")
        return fits

    async def missing(self) -> list[str] | None:
        """The ids that were stored, and that no channel shows; ``None`` if that is not asked, or cannot be seen."""
        if not self._remembers:
            return None
        left: list[str] = []
        for channel in in_order(set(self._ledger.values())):
            ids = [each for each, where in self._ledger.items() if where == channel]
            left += await self._not_shown(channel, ids)
        for _ in range(_LOOKS):
            for channel in in_order(ALL_CHANNELS):
                left = await self._not_shown(channel, left)
        return left

    async def _not_shown(self, channel: Channel, ids: Sequence[str]) -> list[str]:
        found = {each.id async for each in self._shown(channel, ids)}
        return [each for each in ids if each not in found]

    async def _shown(self, channel: Channel, ids: Sequence[str]) -> AsyncIterator[Message]:
        """Those of the ids that a channel has."""
        size = min(_PAGE, self._queue.capabilities.max_batch)
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            for message in (await self._driver.peek(channel, len(part), ids=part)).messages:
                yield message


def _channel(batch: Batch, message: Message) -> Channel:
    """Where a message belongs: where it was, but for what was delayed and has fallen due since."""
    if batch.channel == "failed" or batch.channel == "timeout":
        return batch.channel
    return "delayed" if message.delay > 0 else "waiting"
