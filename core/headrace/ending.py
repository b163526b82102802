"""Ending tasks that are not needed any more."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

logger = logging.getLogger("headrace")

#: Seconds that what is cancelled has for its cleaning up.
GRACE_SECONDS: Final = 5.0


async def end_tasks(tasks: Iterable[asyncio.Task[Any]], seconds: float = GRACE_SECONDS) -> None:
    """Cancel tasks and wait until they are gone, at most ``seconds``.

    What ignores its cancellation is told of and left behind: whoever waited for it would never end.
    """
    tasks = tuple(tasks)
    for task in tasks:
        task.add_done_callback(_tell_error)
        task.cancel()
    if not tasks:
        return
    _, left = await asyncio.wait(tasks, timeout=seconds)
    for task in left:
        logger.error("%s did not end within %g s of being cancelled, and is left behind", task.get_name(), seconds)


def _tell_error(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("a task that was cancelled ended with an error", exc_info=error)
