"""The thread in which the connections live: their heartbeats must go on while handlers block the worker's loop.

Owns the thread, its event loop, and how calls cross over to it. What was begun there goes on to
its end when its caller is cancelled: a message that was published before its delivery is acked
must not be left between the two.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from headrace.errors import BackendUnavailable

T = TypeVar("T")

#: Seconds that what is under way gets to end when the thread is stopped.
_GRACE: Final = 5.0


class LoopThread:
    """An event loop in a thread of its own, for one other event loop: that on which it was made."""

    def __init__(self, name: str) -> None:
        self._caller = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._caller.create_future()
        self.loop = asyncio.new_event_loop()
        self._calls: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.get_loop().run_forever()
        with contextlib.suppress(RuntimeError):  # nobody waits any more: the caller's loop was closed before
            self._caller.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread and give its result; it goes on when the caller is cancelled."""
        answer: asyncio.Future[T] = self._caller.create_future()
        self.loop.call_soon_threadsafe(self._begin, coroutine, answer)
        return await answer

    def _begin(self, coroutine: Coroutine[Any, Any, T], answer: "asyncio.Future[T]") -> None:
        task = self.loop.create_task(coroutine)
        self._calls.add(task)
        task.add_done_callback(lambda task: self._answer(task, answer))

    def _answer(self, task: "asyncio.Task[T]", answer: "asyncio.Future[T]") -> None:
        self._calls.discard(task)
        error = None if task.cancelled() else task.exception()  # asked for, so that none counts as forgotten
        with contextlib.suppress(RuntimeError):  # the caller's loop was closed meanwhile
            self._caller.call_soon_threadsafe(_hand_over, task, error, answer)

    def post(self, callback: Callable[..., object], *arguments: object) -> None:
        """Have a function called in the thread, soon."""
        self.loop.call_soon_threadsafe(callback, *arguments)

    def tell(self, callback: Callable[..., object], *arguments: object) -> None:
        """Have a function called on the caller's loop, soon. For the thread."""
        with contextlib.suppress(RuntimeError):  # the caller's loop was closed: nobody listens
            self._caller.call_soon_threadsafe(callback, *arguments)

    async def drain(self) -> None:
        """Wait, in the thread, for the calls that are under way. Ends after some seconds whatever they do."""
        others = self._calls - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=_GRACE)

    async def stop(self) -> None:
        """End loop and thread, and what still runs there."""
        self.loop.call_soon_threadsafe(self.loop.stop)
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
