"""What is fetched of one queue: on demand, and no more than will be taken soon.

A consumer gets messages pushed as long as it has credit: so many beyond those that it was given
and that are not acked. What comes lies in a buffer until somebody takes it. Three rules keep
messages from lying in the hands of a worker that does not run them:

* A consumer exists only while somebody pops or waits, and a moment longer.
* It begins with as much credit as is asked for. Credit of a live consumer cannot be changed on
  a quorum queue, so one whose credit is used up while more is asked for is cancelled, and
  another one begun with more; what the first was given stays in our hands.
* What has lain in the buffer for a second goes back. It is published anew, confirmed, and only
  then acked: simply returned, it would count as one more delivery that died.

A message that is on its way to a consumer in the moment when that is cancelled is returned by the
broker, and counted (seen on 3.10). So a consumer is cancelled when its credit is used
up, with no ack on its way that would give it more; or when nothing waits, and nothing is on its
way from this process. Only what another process pushes in that very moment may have a delivery
counted that nobody saw.

The broker can lose a consumer and say nothing: that of a queue which somebody deleted while its process was down, and
which was made anew (seen on 3.10). So one that has credit, and in a second is not given what is ready, is replaced.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from aiormq.abc import DeliveredMessage
from pamqp import commands

from headrace.errors import BackendError, BackendUnavailable
from headrace_rabbitmq.connections.link import Link
from headrace_rabbitmq.desk import Declared
from headrace_rabbitmq.errors import is_missing, translate
from headrace_rabbitmq.frames import Consume, QueuePurge
from headrace_rabbitmq.holding import Hold, Receipt, settle
from headrace_rabbitmq.publishing import Publisher
from headrace_rabbitmq.topology import Topology
from headrace_rabbitmq.unpopped import Delivered, Unpopped

#: Seconds that a delivery may lie here before it goes back, and that a consumer outlives the last pop.
_SURPLUS: Final = 1.0

#: Seconds that a consumer without credit is left alone when more is asked for: acks are mostly on their way.
_ACKS_COME: Final = 0.003

#: Credit is given exactly up to this. Above, whoever has popped all that came and asked for more gets up to twice what
#: it asks for, so that credit seldom has to be changed; before, and for slow handlers, what is too much would go from
#: the head of the queue to its tail.
_EXACT: Final = 32

#: The most credit: twice the largest batch.
_MOST: Final = 2048

#: Seconds until the broker is asked again whether something is ready, though we have credit; and for how long at most.
_ON_ITS_WAY: Final = 0.02
_CATCH_UP: Final = 1.0

#: How often, and with how many seconds between, the first consumer of a queue is begun again if its connection ends
#: with that. RabbitMQ 3.10 falls over a queue that another client is just declaring, and that has no leader yet (seen).
_BEGINNINGS: Final = 20
_PAUSE: Final = 0.1

#: Seconds that a channel must have lived: one that ends sooner is not simply opened again.
_SHORT_LIFE: Final = 1.0


class _NoLeaderYet(Exception):
    """The first consumer of a queue did not come about."""

    def __init__(self, reason: BackendUnavailable) -> None:
        self.reason = reason  #: what to raise if it never does


class _Consumer:
    """The live consumer of a channel."""

    def __init__(self, tag: str, prefetch: int) -> None:
        self.tag = tag
        self.prefetch = prefetch
        self.first: int | None = None  #: the number of its first delivery
        self.out = 0  #: how many of its deliveries are not settled

    @property
    def credit(self) -> int:
        return self.prefetch - self.out


class Feed:
    """Fills one queue's buffer. Belongs to the event loop of its connections, but for its public attributes."""

    def __init__(self, link: Link, declared: Declared, topology: Topology, publisher: Publisher) -> None:
        self.buffer = Unpopped()
        self.touched = 0.0  #: when somebody last popped
        self.heard = 0.0  #: when the broker last said anything
        self.on_arrival: Callable[[], object] = lambda: None  #: called here when something is in the buffer
        self.on_failure: Callable[[BackendError], object] = lambda error: None  #: called here when nothing can come
        self._link = link
        self._declared = declared
        self._topology = topology
        self._publisher = publisher
        self._waits: dict[object, int] = {}  #: how many deliveries each waiting call wants
        self._hold: Hold | None = None
        self._opened = 0.0
        self._consumer: _Consumer | None = None
        self._consumers = 0
        self._has_begun = False  #: whether there ever was a consumer
        self._arrival = asyncio.Event()
        self._changing = asyncio.Lock()  #: held by whoever changes the consumer
        self._returning = asyncio.Lock()  #: held by whoever gives back; taken before the other one
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_supplying = False
        self._is_fast = False  #: whether what was last fetched was not enough
        self._is_growing = False

    # Demand.

    def begin(self, caller: object, limit: int) -> None:
        """Somebody waits for so many deliveries."""
        self._waits[caller] = limit
        self.adjust()

    def finish(self, caller: object) -> None:
        """Somebody waits no longer."""
        del self._waits[caller]
        self._arm()

    def suffices(self, limit: int) -> bool:
        """Whether a change would not bring more of so many. For anybody's use: a guess, as acks are on their way."""
        consumer = self._consumer
        if consumer is None or consumer.out < consumer.prefetch / 2:
            return True  # what is there has come
        return consumer.credit > 0 and consumer.prefetch >= limit

    def grow(self, limit: int) -> None:
        """Somebody popped, and would have liked so many more than could come."""
        if self._is_growing:
            return
        self._is_fast = self._is_growing = True
        self._spawn(self._grow(limit))

    async def _grow(self, limit: int) -> None:
        try:
            async with self._changing:
                if self._hold is not None and not self.suffices(limit):
                    await self._change(self._hold, self._credit(limit), patience=_ON_ITS_WAY)
        finally:
            self._is_growing = False

    def adjust(self, *, patient: bool = True) -> None:
        """Have a consumer with credit if somebody waits and nothing is there."""
        if not self._waits or self.buffer or self._is_supplying:
            return
        if self._consumer is not None:
            if self._consumer.credit > 0:
                return
            if patient:
                asyncio.get_running_loop().call_later(_ACKS_COME, lambda: self.adjust(patient=False))
                return
        self._is_supplying = True
        self._spawn(self._supply())

    async def _supply(self) -> None:
        try:
            async with self._changing:
                await self._once_more(self._supply_now)
        except BackendError as error:
            self.on_failure(error)
            return
        finally:
            self._is_supplying = False
        self.adjust()

    async def _supply_now(self) -> None:
        wanted = sum(self._waits.values())
        if wanted and (self._consumer is None or self._consumer.credit <= 0):
            await self._change(await self._open(), self._credit(wanted))

    async def look(self, limit: int) -> None:
        """Have in the buffer what there is now, without waiting for more to come. Raises `BackendError`."""

        async def look_now() -> None:
            hold = await self._open()
            began = time.monotonic()
            ready = await self._catch_up(hold, lambda: bool(self.buffer))
            if ready and not self.buffer:
                is_lost = time.monotonic() - began > _CATCH_UP
                await self._change(hold, self._credit(min(limit, ready)), is_lost=is_lost)
                await self._catch_up(hold, lambda: bool(self.buffer))

        async with self._changing:
            await self._once_more(look_now)
        self.touched = time.monotonic()
        self._arm()

    def _credit(self, wanted: int) -> int:
        """What a consumer gets of which so much is asked."""
        if self._is_fast and wanted > _EXACT:
            wanted = 1 << wanted.bit_length()
        return min(_MOST, wanted)

    async def _once_more(self, work: Callable[[], Awaitable[None]]) -> None:
        """Heal what fails since the queue comes or goes in the middle of it."""
        try:
            await self._patiently(work)
        except BackendError as error:
            if not is_missing(error):
                raise
            self._declared.forget()
            await self._patiently(work)

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> None:
        left = _BEGINNINGS
        while True:
            try:
                return await work()
            except _NoLeaderYet as error:
                left -= 1
                if not left:
                    raise error.reason from error.reason.__cause__
                await asyncio.sleep(_PAUSE)

    async def _catch_up(self, hold: Hold, enough: Callable[[], bool] = lambda: False) -> int:
        """Wait for what the broker has sent or is about to send; how many are ready that there is no credit for."""
        deadline = time.monotonic() + _CATCH_UP
        while True:
            ready = await self._count(hold)
            if not ready or enough() or time.monotonic() > deadline:
                return ready
            if self._consumer is None or self._consumer.credit <= 0:
                return ready
            # Acks of ours have just given it credit.
            self._arrival.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ON_ITS_WAY):
                    await self._arrival.wait()

    async def _count(self, hold: Hold) -> int:
        """How many are ready. It declares the queue if it is not there; what was sent by then has come by now."""
        answer = await hold.ask(self._topology.declare(self._topology.waiting))
        await self._let_come(hold)
        self.heard = time.monotonic()
        return answer.message_count or 0

    async def _let_come(self, hold: Hold) -> None:
        """Wait for what the broker's channel was sent while it had the answer to another question made.

        It sends that answer first. What it is asked here means nothing, and only comes after all that.
        """
        if self._consumer is not None:
            await hold.ask(commands.Channel.Flow(active=True))

    # The consumer.

    async def _open(self) -> Hold:
        if self._hold is not None and not self._hold.is_over:
            return self._hold
        await self._declared.ensure(self._topology.waiting)
        hold = Hold(self._link, self._topology.waiting)
        await hold.open(
            lambda message: self._receive(hold, message),
            on_settled=lambda tag: self._settled(hold, tag),
            on_cancel=lambda: self._cancelled(hold),
            on_end=lambda error: self._ended(hold, error),
        )
        self._hold, self._consumer = hold, None
        self._opened = time.monotonic()
        return hold

    async def _change(self, hold: Hold, prefetch: int, *, patience: float = 0.0, is_lost: bool = False) -> None:
        """Have a consumer with so much credit, unless the one that there is has some again. Raises `BackendError`.

        ``patience``: seconds for it to use up what it has. Whoever acks as fast as it is given would keep a little
        credit for ever, and wait for the broker after every few messages. ``is_lost``: what it has is of no use. Then
        only the consumer ends, and not the channel with all that is held: a broker may be just slow.
        """
        async with hold.without_acks():  # a message that one of those sends for would be on its way
            await self._use_up(patience)
            if self._consumer is not None and self._consumer.credit > 0 and not is_lost:
                return
            await self._cancel(hold)
        self._consumers += 1
        consumer = self._consumer = _Consumer(f"headrace-{self._consumers}", prefetch)
        frame = Consume(queue=self._topology.waiting, consumer_tag=consumer.tag)
        try:
            await hold.consume(frame, prefetch)
        except BaseException as error:
            if self._consumer is consumer:
                self._consumer = None
            if isinstance(error, BackendUnavailable) and not self._has_begun and not is_missing(error):
                raise _NoLeaderYet(error) from error
            raise
        self._has_begun = True
        self.heard = time.monotonic()
        self._arm()

    async def _use_up(self, patience: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._consumer is not None and self._consumer.credit > 0:
                    self._arrival.clear()
                    await self._arrival.wait()

    async def _cancel(self, hold: Hold) -> None:
        if self._consumer is not None:
            await hold.ask(commands.Basic.Cancel(consumer_tag=self._consumer.tag))
            self._consumer = None

    def _receive(self, hold: Hold, delivered: DeliveredMessage) -> None:
        if hold is not self._hold:
            return
        consumer = self._consumer
        tag = delivered.delivery_tag or 0
        if consumer is not None:
            if consumer.first is None:
                consumer.first = tag
            consumer.out += 1
        self.heard = came = time.monotonic()
        self.buffer.add(Delivered(Receipt(hold, tag), delivered, came))
        self._arrival.set()
        self.on_arrival()
        if self._timer is None:
            self._arm()

    def _settled(self, hold: Hold, tag: int) -> None:
        consumer = self._consumer if hold is self._hold else None
        if consumer is not None and consumer.first is not None and tag >= consumer.first:
            consumer.out -= 1

    def _cancelled(self, hold: Hold) -> None:
        """The broker ended the consumer: its queue was deleted, or its deliveries were held for too long."""
        self._declared.forget()
        hold.give_up()

    def _ended(self, hold: Hold, error: BaseException | None) -> None:
        """The channel is no more, and nothing that came on it is ours."""
        if self._hold is not hold:
            return
        self._hold = self._consumer = None
        self.buffer.clear()
        # A queue that is missing is declared anew by whoever meets that.
        is_short = self._has_begun and time.monotonic() - self._opened < _SHORT_LIFE
        if error is not None and not is_missing(error) and is_short:
            self.on_failure(translate(error, self._link.place))
        else:
            self.adjust()

    # What is too much.

    def put_back(self, popped: Sequence[Delivered]) -> None:
        """Let others have what was popped by somebody who has gone."""
        self.buffer.put_back(popped)
        self.on_arrival()
        self._arm()

    def _arm(self) -> None:
        """Look again when a delivery will have lain too long, or the consumer will be of no more use."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        first = self.buffer.since
        if self._consumer is not None and not self._waits:
            first = min(first, self.touched)
        if first < math.inf:
            after = max(0.0, first + _SURPLUS - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(after, self._tidy)

    def _tidy(self) -> None:
        self._timer = None
        old = time.monotonic() - _SURPLUS
        if self.buffer.since <= old or (self._consumer is not None and not self._waits and self.touched <= old):
            self._spawn(self._shrink(old))
        else:
            self._arm()

    async def withdraw(self) -> None:
        """Hold nothing but what was popped. Raises `BackendError`."""
        await self._shrink(math.inf)

    async def _shrink(self, latest: float) -> None:
        """Give back what came until then, and have no consumer that would bring more before somebody waits."""
        async with self._returning:
            surplus = self.buffer.take_until(latest)
            async with self._changing:
                if self._hold is not None and self._consumer is not None and (surplus or not self._waits):
                    # What a worker gives back when it stops would come to itself in this very moment.
                    async with self._publisher.quiet():
                        await self._catch_up(self._hold)
                        await self._cancel(self._hold)
            surplus += self.buffer.take_until(latest)
            await self.buffer.give_back(surplus, self._publisher)
        if surplus:
            self._is_fast = False
        else:
            self.adjust()  # else those who wait were told of it; whoever wakes and still wants more asks again
        self._arm()

    async def flush(self) -> int:
        """Delete what waits: in the broker, on its way, and here; how many."""
        async with self._returning:
            async with self._changing:
                hold = await self._open()
                answer = await hold.ask(QueuePurge(queue=self._topology.waiting))
                await self._let_come(hold)
            claimed = [each.receipt for each in self.buffer.take_until() if each.receipt.claim()]
            await settle(claimed)
        return (answer.message_count or 0) + len(claimed)

    async def give_up(self) -> None:
        """End the channel, and the receipts of all that came on it."""
        async with self._changing:
            if self._hold is not None:
                self._hold.give_up()

    async def close(self) -> None:
        """Give back what nobody has popped, while the connections are still there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._shrink(math.inf)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a connection that broke: whoever waits hears of it by the end of the channel
