"""What drivers do to SQS queues by name: send, receive, delete, and change how long a message is hidden.

Owns what the drivers of an open backend share, and the tasks that outlive the calls which began them:
what is sent and then deleted is not left in between because a caller was cancelled. Only a push does not
outlive its caller, so that an outage leaves no pile of what everybody has given up.
"""

import asyncio
import math
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from headrace.errors import BackendError, BackendUnavailable, MessageTooLarge
from headrace_sqs.batches import Outcome, Refused, Tens
from headrace_sqs.calls import Answer, Calls
from headrace_sqs.clock import now, time_of
from headrace_sqs.codec import LARGEST, Parcel, Unpacked, unpack
from headrace_sqs.errors import QueueMissing, reading
from headrace_sqs.queues import Queues
from headrace_sqs.receipts import Era
from headrace_sqs.settings import SqsSettings

Result = TypeVar("Result")

#: What is asked of each message that is received, beside its text and attributes.
_SYSTEM: Final = ("ApproximateFirstReceiveTimestamp", "ApproximateReceiveCount", "SentTimestamp")

#: Bytes of an entry that is no message: a handle and its frame, several times over. Ten are far below any limit.
_SMALL: Final = 4096

#: Seconds that SQS may take from hiding a message to its answer.
_HIDING: Final = 0.5

#: Seconds that closing waits for what was begun.
_ENDING: Final = 1.0


@dataclass(frozen=True, slots=True)
class Received:
    """A message that was received, and is hidden from others for a time."""

    unpacked: Unpacked
    handle: str
    key: str  #: SQS's own id
    count: int  #: how often it was received
    stored: float  #: when SQS stored it, by SQS's clock, in seconds since the epoch
    time: float  #: when SQS answered, by that clock: up to a second too early, never late
    hidden: float  #: when SQS hid it, by that clock; infinite if it was hidden before, as that time is then not told
    reserved: float  #: when it was hidden, by our `now`: not before the request, and never late


class Service:
    """SQS, while a backend is open."""

    def __init__(self, settings: SqsSettings, place: str) -> None:
        self.settings: Final = settings
        self.place: Final = place
        self.calls: Final = Calls(settings, place)
        self.queues: Final = Queues(self.calls, place, creates=settings.create_queues)
        self._tens: dict[tuple[str, str], Tens] = {}
        self._eras: dict[str, Era] = {}
        self._learning: dict[str, asyncio.Task[None]] = {}  #: of which queues it is being asked what they take
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Start what goes on though nobody waits for it any more, until the backend is closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # heard: it matters to those who wait, and they may be gone

    async def to_its_end(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do all of it once begun, though the caller may be cancelled."""
        task = self.begin(work)
        await asyncio.wait((task,))
        return self.result(task)

    async def while_wanted(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do it as long as the caller waits: requests under way then go on to their end, and nothing more is sent.

        For what is one step: what is sent and then deleted goes `to_its_end`.
        """
        task = self.begin(work)
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            task.cancel()
            raise
        return self.result(task)

    def result(self, task: asyncio.Task[Result]) -> Result:
        """What a task has come to; it is a `BackendUnavailable` if closing has ended it."""
        if task.cancelled():
            raise BackendUnavailable(f"{self.place} is closed")
        return task.result()

    async def in_time(self, tasks: Collection[asyncio.Task[Any]], seconds: float) -> None:
        """Wait for tasks that may go on when the time is over. Raises `BackendUnavailable` then.

        ``seconds``: how long SQS may take by what it was asked; it gets what a network may take beside that.
        """
        _, late = await asyncio.wait(tasks, timeout=seconds + 2 * self.settings.timeout_seconds)
        if late:
            raise BackendUnavailable(f"{self.place} did not answer in time")

    async def close(self) -> None:
        """Wait a little for what was begun, and end the rest."""
        deadline = now() + _ENDING
        while self._tasks and (left := deadline - now()) > 0:  # one may begin another
            await asyncio.wait(tuple(self._tasks), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        await self.calls.close()
        for tens in self._tens.values():
            await tens.close()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(tuple(self._tasks))

    # Eras.

    def era(self, name: str) -> Era:
        """The present one of a queue."""
        return self._eras.setdefault(name, Era())

    def end_era(self, name: str) -> None:
        """The queue is destroyed, and every delivery of it is over."""
        self._eras.pop(name, Era()).is_over = True

    # Entries.

    async def send(self, name: str, parcels: Sequence[Parcel]) -> list[BackendError | None]:
        """Send messages to a queue, which is made if need be; what kept each from being stored."""
        if not parcels:
            return []
        largest = await self.largest(name)
        results: list[BackendError | None] = [self._too_large(name, each, largest) for each in parcels]
        fit = [place for place, error in enumerate(results) if error is None]
        outcomes = await self._gathered("send", name).send([(parcels[at].fields, parcels[at].size) for at in fit])
        for place, outcome in zip(fit, outcomes, strict=True):
            results[place] = outcome.error if isinstance(outcome, Refused) else outcome
            if isinstance(outcome, Refused):
                self.queues.doubt_largest(name)
        return results

    def _too_large(self, name: str, parcel: Parcel, largest: int) -> BackendError | None:
        limit = parcel.limit(largest)
        if parcel.size <= limit:
            return None
        return MessageTooLarge(
            self.place if largest == LARGEST else f"queue {name} of {self.place}", parcel.size, limit
        )

    async def largest(self, name: str) -> int:
        """Bytes of the largest message that a queue takes; SQS's own limit while that is not known.

        SQS is asked once for each queue, and once for all who want to know it meanwhile.
        """
        if (known := self.queues.largest(name)) is not None:
            return known
        task = self._learning.get(name)
        if task is None:
            task = self._learning[name] = self.begin(self.queues.learn_largest(name))
            task.add_done_callback(lambda _: self._learning.pop(name, None))
        await asyncio.wait((task,))
        known = self.queues.largest(name)
        return LARGEST if known is None else known

    async def delete(self, name: str, handles: Sequence[str]) -> list[Outcome]:
        """Delete received messages. ``QueueMissing`` is what they met if there is no such queue."""
        return await self._gathered("delete", name).send([({"ReceiptHandle": each}, _SMALL) for each in handles])

    async def hide(self, name: str, hidings: Sequence[tuple[str, int]]) -> list[Outcome]:
        """Let received messages, each by its handle, be seen again so many seconds from now."""
        fields = [({"ReceiptHandle": handle, "VisibilityTimeout": seconds}, _SMALL) for handle, seconds in hidings]
        return await self._gathered("hide", name).send(fields)

    def _gathered(self, kind: str, name: str) -> Tens:
        key = (kind, name)
        if key not in self._tens:
            call: Callable[[str, list[dict[str, Any]]], Coroutine[Any, Any, Answer]]
            call = {"send": self._send, "delete": self._delete, "hide": self._hide}[kind]
            self._tens[key] = Tens(lambda entries: call(name, entries), self.place)
        return self._tens[key]

    async def _send(self, name: str, entries: list[dict[str, Any]]) -> Answer:
        try:
            return await self.calls.ask("send_message_batch", QueueUrl=await self.queues.url(name), Entries=entries)
        except QueueMissing:  # somebody has deleted it since we looked
            self.queues.forget(name)
        return await self.calls.ask("send_message_batch", QueueUrl=await self.queues.url(name), Entries=entries)

    async def _delete(self, name: str, entries: list[dict[str, Any]]) -> Answer:
        return await self._ask_existing("delete_message_batch", name, entries)

    async def _hide(self, name: str, entries: list[dict[str, Any]]) -> Answer:
        return await self._ask_existing("change_message_visibility_batch", name, entries)

    async def _ask_existing(self, operation: str, name: str, entries: list[dict[str, Any]]) -> Answer:
        url = await self.queues.find(name)
        if url is None:
            raise QueueMissing(f"{self.place} has no queue {name!r}")
        try:
            return await self.calls.ask(operation, QueueUrl=url, Entries=entries)
        except QueueMissing:
            self.queues.forget(name)
            raise

    # Receiving.

    async def receive(self, name: str, most: int, wait: int, hidden: int) -> list[Received]:
        """Receive at most ten messages, waiting in SQS for so many seconds, and hide them from others.

        The queue is made if need be, but not if it is destroyed meanwhile.
        """
        era = self.era(name)
        try:
            return await self._receive(await self.queues.url(name), most, wait, hidden)
        except QueueMissing:
            self.queues.forget(name)
        if era.is_over:
            return []
        return await self._receive(await self.queues.url(name), most, wait, hidden)

    async def receive_existing(self, name: str, most: int, wait: int, hidden: int) -> list[Received]:
        """As `receive`, but nothing is made: of a queue that is missing, and may be made, nothing comes."""
        queues = self.queues
        url = await queues.find(name) if queues.creates else await queues.url(name)
        if url is None:
            return []
        try:
            return await self._receive(url, most, wait, hidden)
        except QueueMissing:
            queues.forget(name)
            return []

    async def _receive(self, url: str, most: int, wait: int, hidden: int) -> list[Received]:
        began = now()
        answer = await self.calls.poll(
            QueueUrl=url,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait,
            VisibilityTimeout=hidden,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=list(_SYSTEM),
        )
        arrived = now()
        with reading(self.place):
            messages: Sequence[Mapping[str, Any]] = answer.get("Messages", ())
            time = time_of(answer, messages)
            return [self._received(each, began, arrived, time) for each in messages]

    def _received(self, message: Mapping[str, Any], began: float, arrived: float, time: float) -> Received:
        """One message of an answer that was given at ``time``, by SQS's clock; the others are by ours."""
        attributes = message["Attributes"]
        count = int(attributes["ApproximateReceiveCount"])
        first = attributes.get("ApproximateFirstReceiveTimestamp")
        seen = int(first) / 1000 if count == 1 and first else math.inf
        reserved = self.calls.clock.earliest(seen if seen < math.inf else time - _HIDING)
        return Received(
            unpack(message),
            message["ReceiptHandle"],
            message["MessageId"],
            count,
            int(attributes["SentTimestamp"]) / 1000,
            time,
            seen,
            min(arrived, max(began, reserved)),
        )

    async def send_on(self, name: str, moves: Sequence[tuple[Received, Parcel]], to: str) -> list[BackendError | None]:
        """Send what was received from one queue to another, or the same one, and then delete it; what kept each.

        What could not be sent stays, and is seen again when it is no longer hidden.
        """
        sent = await self.send(to, [parcel for _, parcel in moves])
        moved = [received.handle for (received, _), error in zip(moves, sent, strict=True) if error is None]
        if moved:
            await self.delete(name, moved)
        return sent
