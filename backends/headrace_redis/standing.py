"""A pop that stands ready at the server, so that a push is in a worker's hands after one way there and one back.

It is two commands that are sent together: wait for ``wake``, then pop. The server does the
second as soon as the first has ended, without asking anybody. A caller whose time is over, or
who is cancelled, leaves it standing for the next, so that nothing has to be broken off; when
none comes it is ended by a second key, which only this pop waits for. What it brings when
nobody is there is given back.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from headrace.errors import BackendError
from headrace_redis import scripts
from headrace_redis.connections.server import BLOCK_SECONDS, Server

#: Seconds that it stands with nobody there: a worker that goes on popping is back long before, and
#: what is pushed after that goes to others without a detour.
_GRACE: Final = 0.05

#: Seconds that it may take to end at once: many ways to the server and back.
_AT_ONCE: Final = 1.0

GiveBack: TypeAlias = Callable[[Any], "asyncio.Task[Any] | None"]


class StandingPop:
    """The standing pop of one queue on one opened backend; at most one stands at a time."""

    def __init__(self, server: Server, wake: bytes, keys: Sequence[bytes], lease: int, give_back: GiveBack) -> None:
        """``keys``: the pop script's; ``lease`` in microseconds; ``give_back`` begins to, with that script's answer."""
        self._server = server
        self._wake = wake
        self._own = b"%b:%b" % (wake, secrets.token_hex(8).encode())
        self._keys = keys
        self._lease = lease
        self._give_back = give_back
        self._takers: list[asyncio.Future[Any]] = []
        self._task: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[Any] | None = None

    @property
    def is_left(self) -> bool:
        """Whether it stands with nobody there, or has and gives back: a look at the queue may miss what it took."""
        returning = self._returning is not None and not self._returning.done()
        return returning or self._stands_alone

    @property
    def _stands_alone(self) -> bool:
        return self._task is not None and not self._takers

    async def answer(self, limit: int, seconds: float) -> Any:
        """What the pop script answers when it is worth looking; ``None`` if that is not within ``seconds``.

        It may have more messages than ``limit``. Raises what sending met. Cancelled, it has
        taken nothing or gives it back.
        """
        taker = self._taker(limit)
        timer = asyncio.get_running_loop().call_later(seconds, _resolve, taker)
        try:
            return await taker
        except asyncio.CancelledError:
            if taker.done() and not taker.cancelled() and taker.exception() is None:
                self._give_back(taker.result())
            raise
        finally:
            timer.cancel()
            if taker in self._takers:
                self._takers.remove(taker)
            if self._stands_alone:
                asyncio.get_running_loop().call_later(_GRACE, self._end_if_left, self._task)

    async def answer_now(self, limit: int) -> Any:
        """What it brings if it ends at once; ``None`` if it is time to look at the queue. Otherwise as `answer`."""
        if self._returning is not None:
            await asyncio.wait((self._returning,))
        if not self._stands_alone:
            return None
        self._server.afterwards(self._ring())
        return await self.answer(limit, _AT_ONCE)

    async def end_left(self) -> None:
        """If nobody is there, let it end, and wait until what it has brought is back."""
        if self._stands_alone and (task := self._task) is not None and await self._ring():
            await asyncio.wait((task,), timeout=_AT_ONCE)
        if self._returning is not None:
            await asyncio.wait((self._returning,))

    async def close(self) -> None:
        """Let it end, and give back what it brings."""
        while (task := self._task) is not None:
            if not await self._ring():
                task.cancel()
            await asyncio.wait((task,))
        with contextlib.suppress(BackendError):  # it was rung in vain if the pop had just ended
            await self._server.command("UNLINK", self._own)

    def _taker(self, limit: int) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        taker: asyncio.Future[Any] = loop.create_future()
        self._takers.append(taker)
        if self._task is None:
            self._task = loop.create_task(self._stand(limit))
        return taker

    async def _stand(self, limit: int) -> None:
        answer: Any = None
        error: BackendError | None = None
        heed = round(BLOCK_SECONDS * 1_000_000)
        try:
            answer = await self._server.run_when_rung(
                (self._wake, self._own), scripts.POP, self._keys, (limit, self._lease, heed)
            )
        except BackendError as met:
            error = met
        finally:
            self._task = None
        takers = [taker for taker in self._takers if not taker.done()]
        if error is not None:
            for taker in takers:
                taker.set_exception(error)
        elif takers:
            takers[0].set_result(answer)
            if len(takers) > 1:
                self._task = asyncio.get_running_loop().create_task(self._stand(limit))
        else:
            self._returning = self._give_back(answer)

    def _end_if_left(self, task: "asyncio.Task[None] | None") -> None:
        if self._stands_alone and self._task is task:
            self._server.afterwards(self._ring())

    async def _ring(self) -> bool:
        """Wake this pop and no other; whether that could be done."""
        try:
            await self._server.command("ZADD", self._own, 0, b"")
        except BackendError:
            return False
        return True


def _resolve(taker: "asyncio.Future[Any]") -> None:
    if not taker.done():
        taker.set_result(None)
