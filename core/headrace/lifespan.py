"""The config's ``lifespan``: what surrounds a worker."""

import contextlib
import inspect
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from headrace.imports import import_object

if TYPE_CHECKING:
    from headrace.app import Headrace


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
    async with manager as state:
        yield state
