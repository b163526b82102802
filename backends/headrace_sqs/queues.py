"""The SQS queues behind names: where they are, how they are made, and what may be wrong with them."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

from headrace.errors import BackendError, BackendUnavailable
from headrace_sqs.calls import Answer, Calls
from headrace_sqs.codec import LARGEST
from headrace_sqs.errors import QueueMissing, reading

#: Seconds for which SQS keeps a message at most: 14 days, which is its limit.
RETENTION: Final = 14 * 24 * 3600

#: What a queue is made with. Leases are said at each receipt; this one is for whoever looks by other means.
ATTRIBUTES: Final[Mapping[str, str]] = {
    "MaximumMessageSize": str(LARGEST),
    "MessageRetentionPeriod": str(RETENTION),
    "ReceiveMessageWaitTimeSeconds": "20",
    "VisibilityTimeout": "30",
}

#: Reserved messages of which a check warns: SQS allows about 120,000 for each queue.
_MANY_RESERVED: Final = 100_000


class Queues:
    """Addresses by name, looked up once. ``creates``: whether a missing one is made."""

    def __init__(self, calls: Calls, place: str, *, creates: bool) -> None:
        self._calls = calls
        self._place = place
        self.creates: Final = creates
        self._urls: dict[str, str] = {}
        self._largest: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def url(self, name: str) -> str:
        """Where a queue is; made if it is missing and may be. Raises `BackendError`."""
        url = await self.find(name)
        if url is not None:
            return url
        if not self.creates:
            raise self._missing(name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            if name not in self._urls:
                answer = await self._calls.ask("create_queue", QueueName=name, Attributes=dict(ATTRIBUTES))
                self._urls[name] = self._url_of(answer)
                self._largest[name] = LARGEST
            return self._urls[name]

    def _missing(self, name: str) -> BackendError:
        needs = " ".join(f"{attribute}={value}" for attribute, value in ATTRIBUTES.items())
        return BackendError(
            f"{self._place} has no queue {name!r}, and create_queues is false: make it a standard queue with {needs}"
        )

    async def find(self, name: str) -> str | None:
        """Where a queue is; ``None`` if there is none. Raises `BackendError`."""
        if name not in self._urls:
            try:
                self._urls[name] = self._url_of(await self._calls.ask("get_queue_url", QueueName=name))
            except QueueMissing:
                return None
        return self._urls[name]

    def _url_of(self, answer: Answer) -> str:
        with reading(self._place):
            return str(answer["QueueUrl"])

    def forget(self, name: str) -> None:
        """SQS says that it is gone: the next call looks again."""
        self._urls.pop(name, None)
        self._largest.pop(name, None)

    def largest(self, name: str) -> int | None:
        """Bytes of the largest message that a queue takes; ``None`` if that is not known."""
        return self._largest.get(name)

    def doubt_largest(self, name: str) -> None:
        """SQS has refused a message: somebody may have set the queue to take less."""
        self._largest.pop(name, None)

    async def learn_largest(self, name: str) -> None:
        """Ask SQS for `largest`, unless the queue is missing, or SQS out of reach. Raises nothing."""
        largest = LARGEST
        try:
            if await self.find(name) is None:
                return
            found = await self.attributes(name, ("MaximumMessageSize",))
            if found is None:
                return
            with reading(self._place):
                largest = min(int(found.get("MaximumMessageSize", LARGEST)), LARGEST)
        except BackendUnavailable:
            return
        except BackendError:  # one who may only send, say, is not told, and does not ask again
            pass
        self._largest[name] = largest

    async def attributes(self, name: str, wanted: Sequence[str]) -> Mapping[str, str] | None:
        """Attributes of a queue; ``None`` if there is none and it may be made. Raises `BackendError` if it may not."""
        url = await self.find(name) if self.creates else await self.url(name)
        if url is None:
            return None
        try:
            answer = await self._calls.ask("get_queue_attributes", QueueUrl=url, AttributeNames=list(wanted))
        except QueueMissing:
            self.forget(name)
            return None
        attributes: Mapping[str, str] = answer.get("Attributes", {})
        return attributes

    async def counts(self, name: str, wanted: Sequence[str]) -> list[int]:
        """Attributes that are numbers; zeros for a queue that is missing and may be made. Raises `BackendError`."""
        found = await self.attributes(name, wanted)
        if found is None:
            return [0] * len(wanted)
        with reading(self._place):
            return [int(found[each]) for each in wanted]

    async def delete(self, name: str) -> None:
        """Remove a queue and all that it holds, if there is one."""
        url = await self.find(name)
        if url is None:
            return
        self.forget(name)
        with contextlib.suppress(QueueMissing):
            await self._calls.ask("delete_queue", QueueUrl=url)

    async def warnings(self, name: str) -> list[str]:
        """What may go wrong later with a queue, or that it is missing and may not be made."""
        if not self.creates and await self.find(name) is None:
            return [str(self._missing(name))]
        about = f"the queue {name!r} of {self._place}"
        found = await self.attributes(
            name,
            ("MessageRetentionPeriod", "MaximumMessageSize", "RedrivePolicy", "ApproximateNumberOfMessagesNotVisible"),
        )
        if found is None:
            return []
        told = []
        kept, size = int(found.get("MessageRetentionPeriod", RETENTION)), found.get("MaximumMessageSize")
        if kept < RETENTION:
            told.append(
                f"{about} forgets messages after {kept / 86400:.3g} days, be they waiting, delayed or failed: "
                f"set its MessageRetentionPeriod to {RETENTION}"
            )
        if size is not None and int(size) < LARGEST:
            told.append(f"{about} refuses messages above {size} bytes: set its MaximumMessageSize to {LARGEST}")
        if found.get("RedrivePolicy"):
            told.append(
                f"{about} has a RedrivePolicy, which takes messages away from us after some deliveries: remove it"
            )
        if int(found.get("ApproximateNumberOfMessagesNotVisible", 0)) > _MANY_RESERVED:
            told.append(f"{about} has nearly as many reserved messages as SQS allows, which is about 120,000")
        return told
