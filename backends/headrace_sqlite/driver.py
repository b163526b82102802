"""The SQLite driver: the contract's verbs as requests to an opened file.

Owns which verbs wait for the disk, what a cancelled pop gives back, and the cutting of
long work into pieces. The rows are moved by `statements`, the waiting is done by `watch`.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from headrace.driver import Channel, Delivery, Driver, Info, Message, Page, RestingChannel, Settled
from headrace.errors import BackendError
from headrace_sqlite import statements
from headrace_sqlite.errors import is_busy, translate
from headrace_sqlite.session import Session

#: Items in one call: a transaction of so many takes the loop for about 5 ms.
MAX_BATCH: Final = 1000

#: Rows that one piece of a reload or flush moves: 2 to 3 ms, after which others have their turn.
_PIECE: Final = 500


class SqliteDriver(Driver):
    """Carries one queue's messages in one file."""

    def __init__(
        self, session: Callable[[], Awaitable[Session]], path: Path, prefix: str, lease_seconds: float
    ) -> None:
        self._session = session
        self._path = path
        self._prefix = prefix
        self._lease_seconds = lease_seconds

    async def _open(self) -> tuple[Session, int]:
        session = await self._session()
        number = session.number(self._prefix)
        return session, await session.find_number(self._prefix) if number is None else number

    async def push(self, messages: Sequence[Message]) -> list[str | BackendError]:
        session, queue = await self._open()
        return await session.transactions.submit(
            lambda connection, now: statements.push(connection, queue, now, messages), durable=True, ready=queue
        )

    async def delay(self, messages: Sequence[Message]) -> list[str | BackendError]:
        return await self.push(messages)

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> list[str | BackendError]:
        session, queue = await self._open()
        return await session.transactions.submit(
            lambda connection, now: statements.store(connection, queue, now, messages, channel), durable=True
        )

    async def pop(self, limit: int, wait: float) -> list[Delivery]:
        if limit <= 0:
            return []
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            session, queue = await self._open()
            if self._is_ready(session, queue):
                deliveries = await self._take(session, queue, min(limit, MAX_BATCH))
                if deliveries:
                    return deliveries
            remaining = deadline - loop.time()
            if remaining <= 0:
                return []
            await self._wait(session, queue, remaining)

    async def _take(self, session: Session, queue: int, limit: int) -> list[Delivery]:
        # Not durable: a reservation that a power cut undoes is due again, as it should be.
        taken = session.transactions.submit(
            lambda connection, now: statements.pop(connection, queue, now, limit, self._lease_seconds)
        )
        try:
            return await taken
        except asyncio.CancelledError:
            if taken.done() and not taken.cancelled() and taken.exception() is None and taken.result():
                receipts = [delivery.receipt for delivery in taken.result()]
                back = session.transactions.submit(
                    lambda connection, now: statements.give_back(connection, queue, now, receipts), ready=queue
                )
                back.add_done_callback(_ignore)  # if it fails, the leases end by themselves
            raise

    async def wait_ready(self, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            session, queue = await self._open()
            if self._is_ready(session, queue):
                return True
            remaining = deadline - loop.time()
            if remaining <= 0:
                return False
            await self._wait(session, queue, remaining)

    def _is_ready(self, session: Session, queue: int) -> bool:
        """Look before taking the write lock, of which there is one for all processes."""
        try:
            return session.watch.is_ready(queue)
        except sqlite3.Error as error:
            if is_busy(error):
                return True  # cannot look: the transaction waits for the lock as long as it should
            raise translate(error, self._path) from error

    async def _wait(self, session: Session, queue: int, seconds: float) -> None:
        try:
            await session.watch.wait(queue, seconds)
        except sqlite3.Error as error:
            if not is_busy(error):
                raise translate(error, self._path) from error

    async def ack(self, receipts: Sequence[Any]) -> list[Settled]:
        session, queue = await self._open()
        return await session.transactions.submit(
            lambda connection, now: statements.ack(connection, queue, now, receipts), durable=True
        )

    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> list[Settled]:
        session, queue = await self._open()
        return await session.transactions.submit(
            lambda connection, now: statements.write_back(connection, queue, now, pairs, None),
            durable=True,
            ready=queue,
        )

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> list[Settled]:
        session, queue = await self._open()
        return await session.transactions.submit(
            lambda connection, now: statements.write_back(connection, queue, now, pairs, channel), durable=True
        )

    async def extend(self, receipts: Sequence[Any], seconds: float) -> list[Settled]:
        session, queue = await self._open()
        results, shortened = await session.transactions.submit(
            lambda connection, now: statements.extend(connection, queue, now, receipts, seconds)
        )
        if shortened:
            session.made_ready([queue])
        return results

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        session, queue = await self._open()
        if limit is not None and limit <= 0:
            return 0
        if ids is not None:

            def chosen(connection: sqlite3.Connection, now: int) -> int:
                places = statements.of_ids(connection, queue, now, channel, ids)[:limit]
                return statements.reload_rows(connection, now, [seq for _, seq in places])

            return await session.transactions.submit(chosen, durable=True, ready=queue)
        start = await session.transactions.submit(lambda connection, now: now)
        total = 0
        while limit is None or total < limit:
            size = _PIECE if limit is None else min(_PIECE, limit - total)
            piece = partial(statements.reload_piece, queue=queue, start=start, channel=channel, limit=size)
            moved = await session.transactions.submit(piece, durable=True, ready=queue)
            total += moved
            if moved < size:
                break
        return total

    async def flush(self, channel: Channel) -> int:
        if channel == "reserved":
            raise ValueError("what is reserved is in a worker's hands, and cannot be deleted")
        session, queue = await self._open()
        start, last = await session.transactions.submit(lambda connection, now: (now, statements.newest(connection)))
        total = 0
        while True:
            deleted = await session.transactions.submit(
                lambda connection, now: statements.flush(connection, queue, start, channel, last, _PIECE), durable=True
            )
            total += deleted
            if deleted < _PIECE:
                return total

    async def destroy(self) -> None:
        session, queue = await self._open()
        while await session.transactions.submit(
            lambda connection, now: statements.destroy(connection, queue, _PIECE), durable=True
        ):
            pass

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        if channel == "reserved":
            raise ValueError("what is reserved is in a worker's hands, and cannot be deleted")
        session, queue = await self._open()

        def chosen(connection: sqlite3.Connection, now: int) -> int:
            places = statements.of_ids(connection, queue, now, channel, ids)
            return statements.delete_rows(connection, [seq for _, seq in places])

        return await session.transactions.submit(chosen, durable=True)

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the contract's word
        session, queue = await self._open()
        return await session.transactions.submit(
            lambda connection, now: statements.cancel(connection, queue, now, id), durable=True
        )

    async def info(self) -> Info:
        session, queue = await self._open()
        return await session.read(lambda connection, now: statements.info(connection, queue, now))

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        session, queue = await self._open()
        size = min(max(limit, 0), MAX_BATCH)
        return await session.read(
            lambda connection, now: statements.peek(connection, queue, now, channel, size, cursor, ids)
        )


def _ignore(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
