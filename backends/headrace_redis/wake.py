"""Waiting for a queue's ``wake`` key, once for all who wait for that queue in this process.

Whoever makes something due puts the one member into ``wake``, and the server hands it to the
one who has waited longest; there is nothing to pile up while nobody waits. The command that
waits goes on when those who listened have left, so that their cancellation breaks no
connection; what it is handed when nobody listens any more it passes on. It is ended by a second
key, which only this process waits for, so that it is known what it was handed.
"""

import asyncio
import contextlib
import secrets

from headrace.errors import BackendError
from headrace_redis.connections.server import Server


class Wake:
    """The waiting of one queue, on one opened backend."""

    def __init__(self, server: Server, key: bytes) -> None:
        self._server = server
        self._key = key
        self._own = b"%b:%b" % (key, secrets.token_hex(8).encode())
        self._listeners: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def wait(self, seconds: float) -> bool:
        """Wait until somebody rings; false after ``seconds``. Raises what the waiting command met.

        What rang between the caller's look at the queue and this call is not missed: it is
        still there.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _resolve, future)
        self._listeners.add(future)
        if self._task is None:
            self._task = loop.create_task(self._listen())
        try:
            await future
        finally:
            timer.cancel()
            rung = future not in self._listeners
            self._listeners.discard(future)
        return rung

    async def close(self) -> None:
        """Stop waiting."""
        task = self._task
        if task is None:
            return
        try:
            await self._server.command("ZADD", self._own, 0, b"")
        except BackendError:
            task.cancel()
        await asyncio.wait((task,))
        with contextlib.suppress(BackendError):  # it was rung in vain if the waiting had just ended
            await self._server.command("UNLINK", self._own)

    async def _listen(self) -> None:
        rung: bytes | None = None
        try:
            while self._listeners and rung != self._own:
                rung = await self._server.block((self._key, self._own))
                if rung == self._key:
                    if not self._listeners:
                        await self._pass_on()
                    self._ring(None)
        except BackendError as error:
            self._ring(error)
        finally:
            # No await lies between the last look at the listeners and this, so none of them is left alone.
            self._task = None

    def _ring(self, error: BackendError | None) -> None:
        listeners, self._listeners = self._listeners, set()
        for future in listeners:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    async def _pass_on(self) -> None:
        # If it fails, those who wait elsewhere look again at the end of their own time.
        with contextlib.suppress(BackendError):
            await self._server.command("ZADD", self._key, 0, b"")


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
