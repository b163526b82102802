"""Another event loop, on a thread of its own: where a backend is used as another process uses it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar

from headrace.driver import Backend

Answer = TypeVar("Answer")


async def on_another_loop(backend: Backend, work: Callable[[Backend], Awaitable[Answer]]) -> Answer:
    """Call ``work`` with a clone of ``backend``, opened and closed on a loop and thread that are made for it.

    Cancelled, it leaves the work to end by itself: nothing can end a thread.
    """
    outcome: Future[Answer] = Future()
    outcome.set_running_or_notify_cancel()  # from here on it cannot be cancelled, and the thread may always answer

    async def with_clone() -> Answer:
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
    return await asyncio.wrap_future(outcome)
