"""One queue in SQS: three standard queues, for what is to be run, for what failed, and for what took too long.

A message moves by being sent to where it goes and deleted where it was, in this order. What is
delayed is in the first queue, where SQS hides it until it is due.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, get_args

import msgspec

from headrace.driver import Channel, Delivery, Driver, Info, Message, Page, RestingChannel, Result, Settled
from headrace.errors import BackendError
from headrace_sqs.batches import TEN, Outcome, Refused
from headrace_sqs.clock import now, whole
from headrace_sqs.codec import LARGEST, NOTE, Parcel, pack, pack_with_room
from headrace_sqs.delays import next_hop, parcel, remaining
from headrace_sqs.errors import QueueMissing
from headrace_sqs.names import Names
from headrace_sqs.opened import Opened
from headrace_sqs.receipts import LONGEST_LEASE, Receipt
from headrace_sqs.service import Received, Service
from headrace_sqs.sweeping import look, pick, receive_round, sweep

_RESTING: Final[tuple[RestingChannel, ...]] = get_args(RestingChannel)

#: The channels that are queues of their own, and can be looked at and chosen from.
RESTING: Final = frozenset(_RESTING)

#: Seconds. When SQS reserved what it hands out again follows from whole seconds: a shorter lease could be over, for
#: us, whenever its message comes.
_SHORTEST_LEASE: Final = 2

#: SQS's names for what a queue holds: waiting, reserved, delayed.
_COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class SqsDriver(Driver):
    """The queues of ``names``, by what ``opened`` gives while the backend is open."""

    def __init__(self, opened: Callable[[], Opened], names: Names, lease_seconds: float) -> None:
        self._opened = opened
        self._names = names
        self._lease = min(max(whole(lease_seconds), _SHORTEST_LEASE), LONGEST_LEASE)

    @property
    def _service(self) -> Service:
        return self._opened().service

    async def push(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        service = self._service
        parcels = [parcel(each, service.settings.fair, spare=NOTE) for each in messages]
        errors = await service.while_wanted(service.send(self._names.main, parcels))
        return [each.id if error is None else error for each, error in zip(messages, errors, strict=True)]

    async def delay(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        return await self.push(messages)

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> Sequence[str | BackendError]:
        errors = await self._service.to_its_end(self._store(messages, self._names.of(channel)))
        return [each.id if error is None else error for each, error in zip(messages, errors, strict=True)]

    async def _store(self, messages: Sequence[Message], name: str) -> list[BackendError | None]:
        largest = await self._service.largest(name)
        return await self._service.send(name, [pack_with_room(each, largest) for each in messages])

    async def pop(self, limit: int, wait: float) -> Sequence[Delivery]:
        return await self._opened().inbox(self._names.main, self._lease).pop(limit, wait)

    async def lend(self, channel: Channel, limit: int) -> Sequence[Delivery]:
        if channel == "reserved":
            raise NotImplementedError("what is reserved is in the hands of workers")
        name = self._names.of(channel) if channel in ("failed", "timeout") else self._names.main
        return await self._service.to_its_end(self._lend(name, limit)) if limit > 0 else []

    async def _lend(self, name: str, limit: int) -> list[Delivery]:
        """What a queue has at hand. What is not due yet has come of a hop, which counts for nothing."""
        service, main = self._service, self._names.main
        era, requests = service.era(main), min(service.settings.receivers, math.ceil(limit / TEN))
        lent: list[Delivery] = []
        for each in await receive_round(service, name, requests, limit, self._lease):
            left = remaining(each)
            message = msgspec.structs.replace(each.unpacked.message, delay=left) if left else each.unpacked.message
            receipt = Receipt(name, each.handle, each.reserved, self._lease, era)
            lent.append(Delivery(message, receipt, each.count if name == main and not left else 1))
        return lent

    # Settling.

    async def ack(self, receipts: Sequence[Any]) -> Sequence[Result]:
        return await self._service.to_its_end(self._ack(receipts))

    async def _ack(self, receipts: Sequence[Any]) -> list[Result]:
        results: list[Result] = [Settled.STALE] * len(receipts)
        for name in self._names.all():  # what was lent is of any of them
            await self._delete(name, receipts, self._claimed(name, receipts), results)
        return results

    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> Sequence[Result]:
        fair = self._service.settings.fair
        return await self._service.to_its_end(self._move(pairs, self._names.main, lambda each: parcel(each, fair)))

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> Sequence[Result]:
        return await self._service.to_its_end(self._move(pairs, self._names.of(channel), pack))

    async def _move(
        self, pairs: Sequence[tuple[Any, Message]], to: str, packed: Callable[[Message], Parcel]
    ) -> list[Result]:
        """Send, then delete. What was sent once is only deleted when a caller tries again."""
        receipts = [receipt for receipt, _ in pairs]
        results: list[Result] = [Settled.STALE] * len(pairs)
        claimed = self._claimed(self._names.main, receipts)
        unsent = [place for place in claimed if not receipts[place].is_copied]
        # Nobody is asked about what is stale.
        largest = await self._service.largest(to) if unsent else LARGEST
        parcels = [pack_with_room(pairs[place][1], largest, packed) for place in unsent]
        errors = await self._service.send(to, parcels)
        for place, error in zip(unsent, errors, strict=True):
            receipts[place].is_copied = error is None
            if error is not None:
                receipts[place].release()
                results[place] = error
        copied = [place for place in claimed if receipts[place].is_copied]
        await self._delete(self._names.main, receipts, copied, results)
        return results

    def _claimed(self, name: str, receipts: Sequence[Any]) -> list[int]:
        return [place for place, each in enumerate(receipts) if isinstance(each, Receipt) and each.claim(name)]

    async def _delete(
        self, name: str, receipts: Sequence[Receipt], places: Sequence[int], results: list[Result]
    ) -> None:
        """End the deliveries that were claimed, and enter their results."""
        outcomes = await self._service.delete(name, [receipts[place].handle for place in places])
        for place, outcome in zip(places, outcomes, strict=True):
            results[place] = result = _result(outcome)
            if isinstance(result, BackendError):
                receipts[place].release()
            elif receipts[place].is_copied:
                results[place] = Settled.DONE  # whatever became of the original, its copy is where it should be

    async def extend(self, receipts: Sequence[Any], seconds: float) -> Sequence[Result]:
        return await self._service.to_its_end(self._extend(receipts, min(whole(seconds), LONGEST_LEASE)))

    async def _extend(self, receipts: Sequence[Any], seconds: int) -> list[Result]:
        results: list[Result] = [Settled.STALE] * len(receipts)
        for name in self._names.all():
            await self._hide(name, receipts, seconds, results)
        return results

    async def _hide(self, name: str, receipts: Sequence[Any], seconds: int, results: list[Result]) -> None:
        """Extend the deliveries that are of one queue, and enter their results."""
        began = now()
        hidings: dict[int, tuple[str, int]] = {}
        for place, each in enumerate(receipts):
            if not isinstance(each, Receipt) or not each.is_valid(name):
                continue
            # Less than was asked for at the end of what SQS allows: it would refuse the rest, or all.
            if (hidden := min(seconds, math.floor(each.last - began))) > 0:
                hidings[place] = (each.handle, hidden)
                # Until it is known which of both ends holds, the earlier one does.
                each.deadline = min(each.deadline, began + hidden)
            else:
                results[place] = BackendError(f"{self._service.place} holds no delivery for more than 12 hours")
        outcomes = await self._service.hide(name, list(hidings.values()))
        for (place, (_, hidden)), outcome in zip(hidings.items(), outcomes, strict=True):
            results[place] = _result(outcome)
            if results[place] is Settled.DONE:
                receipts[place].deadline = began + hidden

    # Resting messages, and those that wait.

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        return await self._service.to_its_end(self._reload(channel, limit, ids))

    async def _reload(self, channel: RestingChannel, limit: int | None, ids: Sequence[str] | None) -> int:
        source, moved = self._names.of(channel), 0
        fair = self._service.settings.fair

        async def move(came: list[Received]) -> bool:
            nonlocal moved
            moves = [(each, parcel(_afresh(each.unpacked.message), fair)) for each in came]
            errors = await self._service.send_on(source, moves, self._names.main)
            moved += errors.count(None)
            for error in errors:
                if error is not None:
                    raise error
            return True

        async def move_chosen(came: list[Received]) -> None:
            await move(came)

        if ids is None:
            await sweep(self._service, source, move, limit)
        else:
            await pick(self._service, source, ids, move_chosen, limit)
        return moved

    async def flush(self, channel: Channel) -> int:
        if channel == "reserved":
            raise ValueError("what is reserved is in the hands of workers: it cannot be flushed")
        if channel == "delayed":
            raise NotImplementedError("SQS shows nobody what is delayed: it can only be deleted when it is due")
        return await self._service.to_its_end(self._flush(channel))

    async def _flush(self, channel: Channel) -> int:
        """Delete what can be received. A purge would also delete what others send within the next minute."""
        name = self._names.of(channel) if channel in ("failed", "timeout") else self._names.main
        deleted = 0

        async def delete(came: list[Received]) -> bool:
            nonlocal deleted
            deleted += await self._discard(name, await self._due(name, came))
            return True

        await sweep(self._service, name, delete)
        return deleted

    async def _due(self, name: str, came: Sequence[Received]) -> list[Received]:
        """Without those that have only ended a hop of their delay, which go on with the next one."""
        fair = self._service.settings.fair
        early = [(each, next_hop(each, fair)) for each in came if remaining(each) > 0]
        if early:
            await self._service.send_on(name, early, name)
        return [each for each in came if remaining(each) <= 0]

    async def _discard(self, name: str, came: Sequence[Received]) -> int:
        """Delete what was received; how many. Raises what kept one from it."""
        results = [_result(each) for each in await self._service.delete(name, [each.handle for each in came])]
        for result in results:
            if isinstance(result, BackendError):
                raise result
        return results.count(Settled.DONE)

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        name = self._resting(channel)
        chosen = None if ids is None else frozenset(ids)
        return await self._service.to_its_end(look(self._service, name, limit, cursor, chosen))

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        return await self._service.to_its_end(self._forget(self._resting(channel), ids))

    async def _forget(self, name: str, ids: Sequence[str]) -> int:
        deleted = 0

        async def delete(came: list[Received]) -> None:
            nonlocal deleted
            deleted += await self._discard(name, came)

        await pick(self._service, name, ids, delete)
        return deleted

    def _resting(self, channel: Channel) -> str:
        if channel == "reserved":
            raise NotImplementedError("what is reserved is in the hands of workers")
        if channel not in ("failed", "timeout"):
            raise NotImplementedError(f"SQS shows nothing of what is {channel} without handing it out")
        return self._names.of(channel)

    # The queue as a whole.

    async def info(self) -> Info:
        queues = self._service.queues
        waiting, reserved, delayed = await queues.counts(self._names.main, _COUNTS)
        failed, timeout = [sum(await queues.counts(self._names.of(channel), _COUNTS)) for channel in _RESTING]
        return Info(waiting, reserved, delayed, failed, timeout, None)

    async def destroy(self) -> None:
        service = self._service
        service.end_era(self._names.main)
        for name in self._names.all():
            await service.queues.delete(name)


def _result(outcome: Outcome) -> Result:
    if outcome is None:
        return Settled.DONE
    if isinstance(outcome, QueueMissing) or (isinstance(outcome, Refused) and outcome.about_receipt):
        return Settled.STALE
    return outcome.error if isinstance(outcome, Refused) else outcome


def _afresh(message: Message) -> Message:
    return msgspec.structs.replace(message, attempt=0, deaths=0, note=None)
