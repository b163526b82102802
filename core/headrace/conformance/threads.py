"""Another event loop, on a thread of its own: where a backend is used as another process uses it."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from headrace.driver import Backend

Answer = TypeVar("Answer")

#: Seconds that cancelled work gets to end, before its thread is left behind: nothing can end a thread.
ENDING: Final = 2.0


async def on_another_loop(backend: Backend, work: Callable[[Backend], Awaitable[Answer]]) -> Answer:
    """Call ``work`` with a clone of ``backend``, opened and closed on a loop and thread that are made for it.

    Cancelled, it cancels the work, and waits for the end of it for at most `ENDING` seconds.
    """
    outcome: Future[Answer] = Future()
    outcome.set_running_or_notify_cancel()  # from here on it cannot be cancelled, and the thread may always answer
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = Future()

    async def with_clone() -> Answer:
        begun.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        clone = backend.clone()
        try:
            await clone.open()
            return await work(clone)
        finally:
            await clone.close()

    def run() -> None:
        try:
            outcome.set_result(asyncio.run(with_clone()))
        except BaseException as error:
            outcome.set_exception(error)

    # A daemon, so that a backend that hangs does not keep the kit from ending.
    threading.Thread(target=run, name="headrace-conform-elsewhere", daemon=True).start()
    answer = asyncio.wrap_future(outcome)
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        begun.add_done_callback(_cancel)
        await asyncio.wait((answer,), timeout=ENDING)
        raise


def _cancel(begun: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]]") -> None:
    loop, task = begun.result()
    if task is not None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(task.cancel)
