"""Running a coroutine to its end in the calling thread, on an event loop that is gone afterwards."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from headrace.errors import WrongContext

T = TypeVar("T")


def refuse_loop(instead: str) -> None:
    """Raise `WrongContext`, naming what is to be awaited instead, where an event loop runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise WrongContext(f"a blocking call would stop this thread's event loop; await {instead} instead")


def run_blocking(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the coroutine that ``make`` makes. No loop may be running here."""
    # With a factory of its own the runner leaves alone what the thread has for its current loop.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(make())
