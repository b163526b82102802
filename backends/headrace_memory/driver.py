"""The memory driver: the store's verbs, with a lock around each and waiting beside `pop`.

No verb but `pop` and `wait_ready` ever suspends, so that none can be cancelled half-way.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from headrace.driver import Channel, Delivery, Driver, Info, Message, Page, RestingChannel, Settled
from headrace_memory.store import Store
from headrace_memory.waiting import sleep


class MemoryDriver(Driver):
    """Carries one queue's messages in a `Store`."""

    def __init__(self, store: Store, prefix: str, lease_seconds: float) -> None:
        self._lock = store.lock
        self._queue = store.queue(prefix)
        self._lease_seconds = lease_seconds

    async def push(self, messages: Sequence[Message]) -> list[str]:
        with self._lock:
            return self._queue.push(messages)

    async def delay(self, messages: Sequence[Message]) -> list[str]:
        with self._lock:
            return self._queue.push(messages)

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> list[str]:
        with self._lock:
            return self._queue.store(messages, channel)

    async def pop(self, limit: int, wait: float) -> list[Delivery]:
        if limit <= 0:
            return []
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            with self._lock:
                deliveries = self._queue.pop(limit, self._lease_seconds)
                remaining = deadline - loop.time()
                if deliveries or remaining <= 0:
                    return deliveries
                bell, pause = self._listen(remaining)
            await self._pause(bell, pause)

    async def wait_ready(self, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            with self._lock:
                remaining = deadline - loop.time()
                ready = self._queue.ready()
                if ready or remaining <= 0:
                    return ready
                bell, pause = self._listen(remaining)
            await self._pause(bell, pause)

    def _listen(self, remaining: float) -> tuple[asyncio.Future[None], float]:
        """Under the same lock as the look that found nothing, so that no change falls between."""
        change = self._queue.next_change()
        return self._queue.bell.listen(), remaining if change is None else min(remaining, change)

    async def _pause(self, bell: asyncio.Future[None], seconds: float) -> None:
        try:
            await sleep(bell, seconds)
        finally:
            with self._lock:
                self._queue.bell.leave(bell)

    async def ack(self, receipts: Sequence[Any]) -> list[Settled]:
        with self._lock:
            return self._queue.ack(receipts)

    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> list[Settled]:
        with self._lock:
            return self._queue.retry(pairs)

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> list[Settled]:
        with self._lock:
            return self._queue.fail(pairs, channel)

    async def extend(self, receipts: Sequence[Any], seconds: float) -> list[Settled]:
        with self._lock:
            return self._queue.extend(receipts, seconds)

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        with self._lock:
            return self._queue.reload(channel, limit, ids)

    async def flush(self, channel: Channel) -> int:
        with self._lock:
            return self._queue.flush(channel)

    async def destroy(self) -> None:
        with self._lock:
            self._queue.clear()

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        with self._lock:
            return self._queue.flush(channel, ids)

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the contract's word
        with self._lock:
            return self._queue.cancel(id)

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        with self._lock:
            return self._queue.peek(channel, limit, cursor, ids)

    async def info(self) -> Info:
        with self._lock:
            return self._queue.info()
