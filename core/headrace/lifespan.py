"""The config's ``lifespan``: what surrounds a worker."""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from headrace.imports import import_object

if TYPE_CHECKING:
    from headrace.app import Headrace

logger = logging.getLogger("headrace")

#: Seconds that a lifespan has to end: pools are closed and what was counted is sent by then, if it ever is.
LEAVE_SECONDS: Final = 20.0


@contextlib.asynccontextmanager
async def lifespan_of(app: "Headrace") -> AsyncIterator[Any]:
    """Enter the configured async context manager, called with the app if it takes an argument.

    Yields what it yields, which is `current().state`; ``None`` without one.
    """
    if app.config.lifespan is None:
        yield None
        return
    make = import_object(app.config.lifespan, "lifespan")
    manager = make(app) if inspect.signature(make).parameters else make()
    async with _Limited(manager) as state:
        yield state


class _Limited:
    """A context manager whose end is waited for, but not for ever: others wait for the place of this process."""

    def __init__(self, manager: contextlib.AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager

    async def __aenter__(self) -> Any:
        return await self._manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        leaving = asyncio.timeout(LEAVE_SECONDS)
        try:
            async with leaving:
                return await self._manager.__aexit__(kind, error, trace)
        except TimeoutError:
            if not leaving.expired():
                raise
            logger.error("the lifespan did not end within %g s, and is given up", LEAVE_SECONDS)
            return False
