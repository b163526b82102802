"""Entries of requests, gathered into tens: what many callers send at once goes out together.

SQS takes ten entries and 1 MiB in one request, and answers each entry. Requests of one kind to one
queue run side by side up to a number; what comes in while they all run waits, and goes with the
next. There is no timer, as in core's own batching, which hands us batches and sends one at a time.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headrace.errors import BackendError, BackendUnavailable
from headrace_sqs.calls import Answer
from headrace_sqs.codec import LARGEST
from headrace_sqs.errors import of_entry, reading

#: Entries of one request: a limit of SQS.
TEN: Final = 10

#: Requests of one kind to one queue that run side by side. Beyond a few the one processor that Python
#: has is what they wait for.
_AT_ONCE: Final = 4

#: How often entries are sent again that SQS refused for reasons of its own, and the seconds before the first time;
#: twice as long before each further one.
_AGAIN: Final = 3
_PAUSE: Final = 0.1

#: What codes or texts have in them that are about a receipt. There is a code for it, which SQS does not always use.
_ABOUT_RECEIPTS: Final = ("ReceiptHandle", "MessageNotInflight")


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that SQS refused as the sender's fault."""

    error: BackendError
    about_receipt: bool  #: what it found wrong is the receipt: the delivery is over


#: What became of an entry: ``None`` if it was done.
Outcome = Refused | BackendError | None


@dataclass(slots=True, eq=False)  # each is itself, by which it is found again
class _Waiting:
    fields: Mapping[str, Any]
    size: int
    outcome: "asyncio.Future[Outcome]"

    @property
    def handle(self) -> str | None:
        """The receipt that the entry is about; ``None`` if it is a message."""
        return self.fields.get("ReceiptHandle")


class Tens:
    """One operation on one queue. ``call`` sends entries, and may raise `BackendError`. Belongs to one loop."""

    def __init__(self, call: Callable[[list[dict[str, Any]]], Awaitable[Answer]], place: str) -> None:
        self._call = call
        self._place = place
        #: An ordered set: first come, first sent, and any of them is out of it at once, out of however many.
        self._waiting: OrderedDict[_Waiting, None] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()

    async def send(self, entries: Sequence[tuple[Mapping[str, Any], int]]) -> list[Outcome]:
        """Send entries, each its fields and the bytes that it counts; what became of each.

        Raises nothing, unless it is cancelled. What has not been sent by then is dropped: who was told that nothing
        is known of it will have sent it again, or given it up, when SQS is back. What a request has, it has.
        """
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(fields, size, loop.create_future()) for fields, size in entries]
        self._waiting.update(dict.fromkeys(waiting))
        # In the next turn of the loop: others who are about to send in this one go along.
        loop.call_soon(self._start)
        try:
            return [await each.outcome for each in waiting]
        except asyncio.CancelledError:
            for each in waiting:
                each.outcome.cancel()
                self._waiting.pop(each, None)
            raise

    def _start(self) -> None:
        while self._waiting and len(self._running) < _AT_ONCE:
            task = asyncio.create_task(self._run(self._next()))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    def _next(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        size, handles = 0, set[str]()
        for each in self._waiting:
            if taken and (len(taken) == TEN or size + each.size > LARGEST):
                break
            if each.handle is not None:
                if each.handle in handles:
                    break  # of one delivery that came twice: some servers refuse a request that names it twice
                handles.add(each.handle)
            taken.append(each)
            size += each.size
        for each in taken:
            del self._waiting[each]
        return taken

    async def close(self) -> None:
        """End what still runs: whoever waits for it is told that it is out of reach."""
        self._waiting, left = OrderedDict(), self._waiting
        self._tell(left)
        while self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(tuple(self._running))

    async def _run(self, batch: list[_Waiting]) -> None:
        try:
            await self._send(batch)
        finally:
            self._tell(batch)

    def _tell(self, left: Iterable[_Waiting]) -> None:
        """Nobody shall wait for ever for what has no outcome."""
        for each in left:
            if not each.outcome.done():
                each.outcome.set_result(BackendUnavailable(f"{self._place} was not asked to the end"))

    async def _send(self, batch: list[_Waiting]) -> None:
        pause = _PAUSE
        for again in range(_AGAIN + 1):
            batch = [each for each in batch if not each.outcome.cancelled()]
            if not batch:
                return
            outcomes = await self._outcomes(batch)
            left = []
            for each, outcome in zip(batch, outcomes, strict=True):
                if again < _AGAIN and isinstance(outcome, _Passing):
                    left.append(each)
                elif not each.outcome.done():
                    each.outcome.set_result(outcome)
            if not left:
                return
            batch = left
            await asyncio.sleep(pause)
            pause *= 2

    async def _outcomes(self, batch: Sequence[_Waiting]) -> list[Outcome]:
        try:
            answer = await self._call([{**each.fields, "Id": str(place)} for place, each in enumerate(batch)])
        except BackendError as error:
            return [error] * len(batch)
        outcomes: list[Outcome] = [BackendUnavailable(f"{self._place} did not answer for an entry")] * len(batch)
        try:
            with reading(self._place):
                for done in answer.get("Successful", ()):
                    outcomes[int(done["Id"])] = None
                for failed in answer.get("Failed", ()):
                    outcomes[int(failed["Id"])] = self._failed(failed)
        except BackendError as error:
            return [error] * len(batch)
        return outcomes

    def _failed(self, failed: dict[str, Any]) -> Outcome:
        error = of_entry(failed, self._place)
        if failed.get("SenderFault", True):
            about = f"{failed.get('Code', '')} {failed.get('Message', '')}"
            return Refused(error, any(word in about for word in _ABOUT_RECEIPTS))
        return _Passing(str(error))


class _Passing(BackendUnavailable):
    """SQS refused one entry for reasons of its own: it may be sent again at once."""
