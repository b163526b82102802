"""The event loops in which connections live, and how calls get there: the caller's own, or one in a thread.

Whoever takes messages keeps them as long as its connection lives, which needs heartbeats while a
handler blocks the caller's loop: it has a thread. Whoever only pushes keeps nothing. It is spared
the way to a thread and back, which on an idle machine is a good part of what one push takes.

What was begun goes on to its end when its caller is cancelled: a message that was published before
its delivery is acked must not be left between the two.
"""

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from headrace.errors import BackendUnavailable

T = TypeVar("T")

#: Seconds that what is under way gets to end when the loop is stopped.
_GRACE: Final = 5.0


class ConnectionLoop(ABC):
    """Where connections live, for one other event loop: that on which it was made. Calls come from there."""

    def __init__(self) -> None:
        self._caller = asyncio.get_running_loop()
        self._calls: set[asyncio.Task[Any]] = set()

    @abstractmethod
    def post(self, callback: Callable[..., object], *arguments: object) -> None:
        """Have a function called where the connections live, soon."""

    @abstractmethod
    def tell(self, callback: Callable[..., object], *arguments: object) -> None:
        """Have a function called on the caller's loop, soon. For what runs where the connections live."""

    @abstractmethod
    async def stop(self) -> None:
        """End what still runs there."""

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and give its result; it goes on when the caller is cancelled."""
        answer: asyncio.Future[T] = self._caller.create_future()
        self.post(self._begin, coroutine, answer)
        return await answer

    def _begin(self, coroutine: Coroutine[Any, Any, T], answer: "asyncio.Future[T]") -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._calls.add(task)
        task.add_done_callback(lambda task: self._answer(task, answer))

    def _answer(self, task: "asyncio.Task[T]", answer: "asyncio.Future[T]") -> None:
        self._calls.discard(task)
        error = None if task.cancelled() else task.exception()  # asked for, so that none counts as forgotten
        self.tell(_hand_over, task, error, answer)

    async def drain(self, seconds: float = _GRACE) -> None:
        """Wait, where the connections live, for the calls that are under way; for so long at most."""
        others = self._calls - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=seconds)


class CallersLoop(ConnectionLoop):
    """The caller's own event loop: there is no way to go."""

    def post(self, callback: Callable[..., object], *arguments: object) -> None:
        callback(*arguments)

    def tell(self, callback: Callable[..., object], *arguments: object) -> None:
        callback(*arguments)

    async def stop(self) -> None:
        for task in self._calls:
            task.cancel()
        await self.drain()


class LoopThread(ConnectionLoop):
    """An event loop in a thread of its own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._ended: asyncio.Future[None] = self._caller.create_future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()
        with contextlib.suppress(RuntimeError):  # nobody waits any more: the caller's loop was closed before
            self._caller.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def post(self, callback: Callable[..., object], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(callback, *arguments)

    def tell(self, callback: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the caller's loop was closed: nobody listens
            self._caller.call_soon_threadsafe(callback, *arguments)

    async def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        with contextlib.suppress(TimeoutError):  # something there does not end; nobody shall wait for it
            async with asyncio.timeout(_GRACE):
                await asyncio.shield(self._ended)
                self._thread.join()


def _hand_over(task: "asyncio.Task[T]", error: BaseException | None, answer: "asyncio.Future[T]") -> None:
    if answer.done():  # its caller was cancelled
        return
    if task.cancelled():
        answer.set_exception(BackendUnavailable("the backend was closed before there was an answer"))
    elif error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())
