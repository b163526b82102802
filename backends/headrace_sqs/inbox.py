"""Receiving: the requests that wait for a queue's messages, and the pops that wait for those.

A request cannot be ended before SQS answers it, a pop can. So requests belong to the inbox, and
what they bring is for whichever pop is there. A pop that ends early leaves its request to the next
one; if there is none when messages come, they are kept for a moment, and then sent again as
they were and deleted, which counts nothing, as letting their leases end would.

One request waits for each pop. Only while requests come back full do several go out at once, none of
which waits, for as many messages as there are free slots.
"""

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

import msgspec

from headrace.driver import Delivery, Message
from headrace.errors import BackendError, BackendUnavailable
from headrace_sqs.batches import TEN
from headrace_sqs.clients import LONGEST_POLL
from headrace_sqs.codec import Parcel
from headrace_sqs.delays import next_hop, parcel, remaining
from headrace_sqs.receipts import Receipt
from headrace_sqs.service import Received, Service

#: Seconds that messages are kept which nobody waits for: a worker that polls again does so at once.
_KEPT: Final = 0.25

#: Seconds that closing waits for requests that do not wait. What others bring comes back by its lease.
_ENDING: Final = 1.0

#: Seconds at the end of a wait that are not worth another request, since SQS counts whole seconds.
_NOT_WORTH: Final = 0.1


@dataclass(eq=False, slots=True)
class _Request:
    """One that is under way."""

    ends: float  #: when SQS will have answered at the latest, by the monotonic clock; the network takes its time beside
    task: "asyncio.Task[bool]"
    has_owner: bool = False  #: a pop waits for it


class Inbox:
    """What one queue hands out, for leases of so many seconds. Shared by all drivers of a backend."""

    def __init__(self, service: Service, queue: str, lease: int) -> None:
        self._service = service
        self._queue = queue
        self._lease = lease
        #: Seconds that the network may take beside SQS, connecting included.
        self._grace = 2 * service.settings.timeout_seconds
        self._kept: deque[Delivery] = deque()
        self._requests: set[_Request] = set()
        self._waiting: set[asyncio.Future[None]] = set()
        self._pops = 0  #: those that are here
        self._is_full = False
        self._timer: asyncio.TimerHandle | None = None
        self._is_closing = False

    async def pop(self, limit: int, wait: float) -> list[Delivery]:
        """As `headrace.driver.Driver.pop`."""
        self._pops += 1
        try:
            return await self._pop(limit, wait)
        finally:
            self._pops -= 1
            self._look_after_kept()

    async def _pop(self, limit: int, wait: float) -> list[Delivery]:
        deadline = time.monotonic() + wait
        if taken := self._take(limit):
            return taken
        if wait <= 0 or (self._is_full and limit > TEN):
            await self._receive_at_once(limit)
            if (taken := self._take(limit)) or wait <= 0:
                return taken
        left = wait
        while True:
            await self._wait(limit, left)
            left = deadline - time.monotonic()
            if (taken := self._take(limit)) or left <= _NOT_WORTH:
                return taken

    def _take(self, limit: int) -> list[Delivery]:
        """What is kept, but for what was kept too long, by a loop that was blocked."""
        taken: list[Delivery] = []
        while self._kept and len(taken) < limit:
            delivery = self._kept.popleft()
            if delivery.receipt.is_valid(self._queue):
                taken.append(delivery)
        return taken

    async def _receive_at_once(self, limit: int) -> None:
        """Ask for as many as there are slots, without waiting. Raises what a request met, if nothing came."""
        count = min(self._service.settings.receivers if self._is_full else 1, math.ceil(limit / TEN))
        requests = [self._ask(min(TEN, limit - TEN * number), 0) for number in range(count)]
        for each in requests:
            each.has_owner = True  # to its end, which is near
        try:
            await self._service.in_time([each.task for each in requests], 0)
            were_full = [self._service.result(each.task) for each in requests]
            self._is_full = all(were_full)
        except BackendError:
            if not self._kept:
                raise

    async def _wait(self, limit: int, left: float) -> None:
        """Until messages are there, a request has ended, or the time is over. Raises what the request met."""
        request = self._request(min(limit, TEN), left)
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        request.has_owner = True
        self._waiting.add(news)
        # A request that ends about when we do is waited for: SQS takes a moment to say that there is nothing.
        begun = time.monotonic()
        ends_with_us = request.ends <= begun + left + _NOT_WORTH
        if ends_with_us:
            left = request.ends + self._grace - begun
        try:
            done, _ = await asyncio.wait((request.task, news), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            request.has_owner = False
            self._waiting.discard(news)
        if self._kept:
            return
        if request.task.done():
            self._service.result(request.task)
        elif ends_with_us and not done:  # there may have been news that another pop was quicker to take
            raise BackendUnavailable(f"{self._service.place} did not answer in time")

    def _request(self, most: int, left: float) -> _Request:
        """One that has lost its pop, or a new one for about the time that is left."""
        for request in self._requests:
            if not request.has_owner and time.monotonic() < request.ends + self._grace / 2:
                return request
        return self._ask(most, min(LONGEST_POLL, max(1, math.floor(left + _NOT_WORTH))))

    def _ask(self, most: int, seconds: int) -> _Request:
        request = _Request(time.monotonic() + seconds, self._service.begin(self._receive(most, seconds)))
        self._requests.add(request)
        request.task.add_done_callback(lambda _: self._requests.discard(request))
        return request

    async def _receive(self, most: int, wait: int) -> bool:
        """Keep what comes for the pops; whether it was as much as was asked for."""
        era = self._service.era(self._queue)
        received = await self._service.receive(self._queue, most, wait, self._lease)
        self._is_full = is_full = len(received) == most
        early: list[tuple[Received, Parcel]] = []
        for each in received:
            if remaining(each) > 0:
                early.append((each, next_hop(each, self._service.settings.fair)))
            else:
                receipt = Receipt(self._queue, each.handle, each.reserved, self._lease, era)
                self._kept.append(Delivery(each.unpacked.message, receipt, each.count))
        if early:
            self._service.begin(self._service.send_on(self._queue, early, self._queue))
        for waiting in self._waiting:
            if self._kept and not waiting.done():
                waiting.set_result(None)
        self._look_after_kept()
        return is_full

    def _look_after_kept(self) -> None:
        """See that what nobody waits for is not kept for long."""
        if not self._kept or self._pops:
            return
        if self._is_closing:
            self._service.begin(self.give_back())
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_KEPT, self._give_back_if_kept)

    def _give_back_if_kept(self) -> None:
        self._timer = None
        if self._kept and not self._pops:
            self._service.begin(self.give_back())

    async def give_back(self) -> None:
        """Send again what is kept, and delete it: others shall have it, and nothing is counted."""
        kept = [each for each in self._kept if each.receipt.claim(self._queue)]
        self._kept.clear()
        parcels = [parcel(_uncounted(each), self._service.settings.fair) for each in kept]
        sent = await self._service.send(self._queue, parcels)
        done = [each.receipt.handle for each, error in zip(kept, sent, strict=True) if error is None]
        if done:
            await self._service.delete(self._queue, done)

    async def close(self) -> None:
        """Give back what is kept, and what requests bring that end soon."""
        self._is_closing = True
        ending = [each for each in self._requests if each.ends < time.monotonic() + _ENDING]
        if ending:
            await asyncio.wait([each.task for each in ending], timeout=_ENDING)
        if self._timer is not None:
            self._timer.cancel()
        if self._kept:
            await self.give_back()


def _uncounted(delivery: Delivery) -> Message:
    """The message, with the deliveries that ended before this one among its deaths: its new copy counts from 1."""
    message = delivery.message
    return msgspec.structs.replace(message, deaths=message.deaths + delivery.count - 1)
