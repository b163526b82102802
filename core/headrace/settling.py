"""Settling deliveries: the batches of acks, retries and failures of one queue.

Owns how a verb that ends a delivery reaches the backend, however often that takes, and what its
answer means. Which verb it is was decided in `headrace.consumer`.
"""

import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from headrace.availability import Caller
from headrace.batching import Batcher
from headrace.driver import Channel, Message, Result, Settled
from headrace.errors import BackendError, BackendUnavailable
from headrace.execution import Execution
from headrace.log_fields import about

if TYPE_CHECKING:
    from headrace.consumer import QueueConsumer

logger = logging.getLogger("headrace")

T = TypeVar("T")

#: Seconds for which what is refused is sent again before it is left to its lease: longer than it takes to change a
#: password or a permission, and others of its verb wait meanwhile.
_REFUSED_LONGEST: Final = 30.0


class _Refused(BackendError):
    """What a call met that was not done, though the backend is there."""


class Move(NamedTuple):
    """A delivery on its way to another channel."""

    execution: Execution
    message: Message  #: as it shall be stored
    then: Callable[[], None] | None  #: called once the move is confirmed


_Item = TypeVar("_Item", bound=Execution | Move)


class Settler:
    """Settles the deliveries of one queue, in batches. Belongs to the worker's event loop."""

    def __init__(self, consumer: "QueueConsumer") -> None:
        name, size = consumer.settings.name, consumer.capabilities.max_batch
        self._consumer = consumer
        self._comes_back = consumer.capabilities.leases == "timed"
        self._callers = {each: consumer.availability.caller(f"{each} on {name}") for each in ("ack", "retry", "fail")}
        self.acks = Batcher(self._send_acks, size)
        self.retries = Batcher(self._send_retries, size)
        self.failures = Batcher(self._send_failures, size)
        self.timeouts = Batcher(self._send_timeouts, size)
        # Acks come last, as the others may lead to one.
        self._batchers: tuple[Batcher[Any], ...] = (self.retries, self.failures, self.timeouts, self.acks)
        self._came_again: set[Execution] = set()  #: since their verb was last sent

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way, or waits to be."""
        return all(each.idle for each in self._batchers)

    def came_again(self, execution: Execution) -> None:
        """A delivery has a later receipt, and its verb is perhaps on its way with the one from before.

        So it is sent again if it proves to be stale, instead of leaving what has run for another run.
        """
        self._came_again.add(execution)

    async def drain(self) -> None:
        """Wait until everything that was to be settled is."""
        for batcher in self._batchers:
            await batcher.drain()

    def abandon(self) -> list[Execution]:
        """Settle nothing more; what was still to be settled, and comes back by its lease."""
        return [_execution_of(item) for batcher in self._batchers for item in batcher.abandon()]

    async def _send_acks(self, batch: Sequence[Execution]) -> None:
        async def ack(items: Sequence[Execution]) -> Sequence[Result]:
            return await self._consumer.driver.ack([each.delivery.receipt for each in items])

        async for executions, results, repeated in self._settle("ack", batch, ack):
            self._consumer.let_go(executions)
            for execution, result in zip(executions, results, strict=True):
                # After a lost answer, stale may only mean that the first try took effect.
                if result is not Settled.DONE and not repeated:
                    self._not_settled(execution, result)

    async def _send_retries(self, batch: Sequence[Move]) -> None:
        await self._send_moves("retry", batch, lambda pairs: self._consumer.driver.retry(pairs), ("delayed", "waiting"))

    async def _send_failures(self, batch: Sequence[Move]) -> None:
        await self._send_moves("fail", batch, lambda pairs: self._consumer.driver.fail(pairs, "failed"), ("failed",))

    async def _send_timeouts(self, batch: Sequence[Move]) -> None:
        await self._send_moves("fail", batch, lambda pairs: self._consumer.driver.fail(pairs, "timeout"), ("timeout",))

    async def _send_moves(
        self,
        verb: str,
        batch: Sequence[Move],
        call: Callable[[Sequence[tuple[Any, Message]]], Awaitable[Sequence[Result]]],
        goals: Sequence[Channel],
    ) -> None:
        async def move(items: Sequence[Move]) -> Sequence[Result]:
            return await call([(each.execution.delivery.receipt, each.message) for each in items])

        async for moves, results, repeated in self._settle(verb, batch, move):
            self._consumer.let_go([each.execution for each in moves])
            for item, result in zip(moves, results, strict=True):
                if result is Settled.DONE or (repeated and await self._arrived(item, goals)):
                    if item.then is not None:
                        item.then()
                else:
                    self._not_settled(item.execution, result)

    async def _settle(
        self, verb: str, items: Sequence[_Item], call: Callable[[Sequence[_Item]], Awaitable[Sequence[Result]]]
    ) -> AsyncIterator[tuple[Sequence[_Item], Sequence[Result], bool]]:
        """Send items until each has a result: some of them, theirs, and whether earlier tries may have taken effect.

        Whoever takes them lets them go at once. What is out of reach is sent again for as long as that takes. A call
        that is refused is sent again item by item, so that one which cannot be settled keeps no other from it; what is
        then refused for long has that as its result, if its lease lets it come back.
        """
        caller, before, alone, refused_since = self._callers[verb], False, False, math.inf
        while items:
            if self._came_again:
                self._came_again.difference_update(map(_execution_of, items))
            results = await (_one_by_one if alone else _together)(caller, call, items)
            if any(isinstance(each, _Refused) for each in results):
                alone, refused_since = True, min(refused_since, time.monotonic())
            insists = not self._comes_back or time.monotonic() - refused_since < _REFUSED_LONGEST
            kinds = (BackendUnavailable, _Refused) if insists else BackendUnavailable
            again = [isinstance(each, kinds) for each in results]
            if self._came_again:
                again = [self._goes_on(*each) for each in zip(items, results, again, strict=True)]
            if not all(again):
                over = [not each for each in again]
                yield [*compress(items, over)], [*compress(results, over)], before
            items, before = [*compress(items, again)], True
            if items:
                await caller.pause()

    def _goes_on(self, item: Execution | Move, result: Result, again: bool) -> bool:
        """Whether an item is sent again: as it was to be, or since its message came again meanwhile."""
        execution = _execution_of(item)
        if execution not in self._came_again:
            return again
        if result is Settled.DONE:
            # The backend took the receipt from before, and may yet wait for an answer to the later one.
            self._came_again.discard(execution)
            self.acks.add(execution)
            return False
        return True

    async def _arrived(self, move: Move, goals: Sequence[Channel]) -> bool:
        """Whether a move whose answer was lost took effect, as far as the backend can show it."""
        for channel in goals:
            if channel not in self._consumer.capabilities.peek:
                continue
            try:
                page = await self._consumer.infos.ask(self._consumer.driver.peek(channel, 1, ids=[move.message.id]))
            except Exception:
                logger.debug("whether %s was moved could not be looked up", move.message.id, exc_info=True)
                return False
            if page.messages:
                return True
        return False

    def _not_settled(self, execution: Execution, result: Result) -> None:
        if isinstance(result, BackendError):
            text = "%s %s could not be settled and comes back when its lease ends: %s"
            logger.error(text, execution.message.name, execution.message.id, result, extra=about(execution))
        else:
            self._consumer.lease_lost(execution)


def _execution_of(item: Execution | Move) -> Execution:
    return item if isinstance(item, Execution) else item.execution


async def _together(
    caller: Caller, call: Callable[[Sequence[T]], Awaitable[Sequence[Result]]], items: Sequence[T]
) -> list[Result]:
    """One call for all items. What it raises is the result of each."""

    async def checked() -> Sequence[Result]:
        results = await call(items)
        if len(results) != len(items):
            raise BackendError(f"the driver returned {len(results)} results for {len(items)} items")
        return results

    try:
        results = await caller.ask(checked())
    except BackendUnavailable as error:
        return [error] * len(items)
    except Exception as error:
        refused = _Refused(str(error) if isinstance(error, BackendError) else f"{type(error).__name__}: {error}")
        refused.__cause__ = error
        return [refused] * len(items)
    for each in results:
        if isinstance(each, BackendUnavailable):
            caller.failed(each)
            break
    return [*results]


async def _one_by_one(
    caller: Caller, call: Callable[[Sequence[T]], Awaitable[Sequence[Result]]], items: Sequence[T]
) -> list[Result]:
    """A call for each item, until one finds the backend out of reach."""
    results: list[Result] = []
    for item in items:
        results += await _together(caller, call, [item])
        if isinstance(results[-1], BackendUnavailable):
            results += results[-1:] * (len(items) - len(results))
    return results
