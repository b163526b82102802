"""Settling deliveries: the batches of acks, retries and failures of one queue.

Owns how a verb that ends a delivery reaches the backend, however often that takes, and what its
answer means. Which verb it is was decided in `headrace.consumer`.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from headrace.batching import Batcher
from headrace.driver import Channel, Message, Result, Settled
from headrace.errors import BackendError, BackendUnavailable
from headrace.execution import Execution
from headrace.log_fields import about

if TYPE_CHECKING:
    from headrace.consumer import QueueConsumer

logger = logging.getLogger("headrace")

T = TypeVar("T")


class Move(NamedTuple):
    """A delivery on its way to another channel."""

    execution: Execution
    message: Message  #: as it shall be stored
    then: Callable[[], None] | None  #: called once the move is confirmed


class Settler:
    """Settles the deliveries of one queue, in batches. Belongs to the worker's event loop."""

    def __init__(self, consumer: "QueueConsumer") -> None:
        name, size = consumer.settings.name, consumer.capabilities.max_batch
        self._consumer = consumer
        self._callers = {each: consumer.availability.caller(f"{each} on {name}") for each in ("ack", "retry", "fail")}
        self.acks = Batcher(self._send_acks, size)
        self.retries = Batcher(self._send_retries, size)
        self.failures = Batcher(self._send_failures, size)
        self.timeouts = Batcher(self._send_timeouts, size)
        self._batchers: tuple[Batcher[Any], ...] = (self.acks, self.retries, self.failures, self.timeouts)

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way, or waits to be."""
        return all(each.idle for each in self._batchers)

    async def drain(self) -> None:
        """Wait until everything that was to be settled is."""
        for batcher in self._batchers:
            await batcher.drain()

    def abandon(self) -> list[Execution]:
        """Settle nothing more; what was still to be settled, and comes back by its lease."""
        left = [item for batcher in self._batchers for item in batcher.abandon()]
        return [item if isinstance(item, Execution) else item.execution for item in left]

    async def _send_acks(self, batch: Sequence[Execution]) -> None:
        async def ack(items: Sequence[Execution]) -> Sequence[Result]:
            return await self._consumer.driver.ack([each.delivery.receipt for each in items])

        async for executions, results, repeated in self._settle("ack", batch, ack):
            for execution, result in zip(executions, results, strict=True):
                # After a lost answer, stale may only mean that the first try took effect.
                if result is not Settled.DONE and not repeated:
                    self._not_settled(execution, result)
        self._consumer.settled(batch)

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
            for item, result in zip(moves, results, strict=True):
                if result is Settled.DONE or (repeated and await self._arrived(item, goals)):
                    if item.then is not None:
                        item.then()
                else:
                    self._not_settled(item.execution, result)
        self._consumer.settled([each.execution for each in batch])

    async def _settle(
        self, verb: str, items: Sequence[T], call: Callable[[Sequence[T]], Awaitable[Sequence[Result]]]
    ) -> AsyncIterator[tuple[Sequence[T], Sequence[Result], bool]]:
        """Send items until each has a result: some of them, theirs, and whether earlier tries may have taken effect.

        An item that alone was out of reach is sent again, as a whole call is.
        """
        caller, before = self._callers[verb], False
        while items:

            async def checked(batch: Sequence[T] = items) -> Sequence[Result]:
                results = await call(batch)
                if len(results) != len(batch):
                    raise BackendError(f"the driver returned {len(results)} results for {len(batch)} items")
                return results

            results, repeated = await caller.insist(checked)
            unreached = [place for place, result in enumerate(results) if isinstance(result, BackendUnavailable)]
            if not unreached:
                yield items, results, repeated or before
                return
            reached = [place for place in range(len(items)) if place not in unreached]
            yield [items[place] for place in reached], [results[place] for place in reached], repeated or before
            caller.failed(next(each for each in results if isinstance(each, BackendUnavailable)))
            await caller.pause()
            items, before = [items[place] for place in unreached], True

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
