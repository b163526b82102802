"""Plugins that are the memory backend, but for one thing each; installed as a distribution of their own.

What is wrong begins with the option ``after``: so many calls go well before.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from headrace.conformance.wrapping import WrappedBackend, WrappedDriver
from headrace.driver import Backend, Delivery, Driver, Message, Result
from headrace.errors import BackendError
from headrace.plugin import BackendOptions, hookimpl
from headrace_memory.backend import MemoryBackend

MakeDriver = Callable[[Driver], Driver]


class Misfit(WrappedBackend):
    """The memory backend with drivers of some other kind."""

    def __init__(self, make: MakeDriver, inner: Backend) -> None:
        super().__init__(inner)
        self._make = make

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> Driver:
        return self._make(super().driver(prefix, lease_seconds=lease_seconds))

    def _around(self, inner: Backend) -> "Misfit":
        return Misfit(self._make, inner)


class Losing(WrappedDriver):
    """Says that it has stored a job, and has not: the fourth of those that it was given together."""

    async def push(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        await super().push([each for place, each in enumerate(messages) if place != 3])
        return [each.id for each in messages]


class Repeating(WrappedDriver):
    """Stores the first of several messages twice."""

    async def push(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        if len(messages) > 1:
            await super().push([Message(id=f"{messages[0].id}-again", name=messages[0].name, body=messages[0].body)])
        return await super().push(messages)


class Trailing(WrappedDriver):
    """Stores the first of several messages twice, behind all others."""

    async def push(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        stored = await super().push(messages)
        if len(messages) > 1:
            await super().push([Message(id=f"{messages[0].id}-again", name=messages[0].name, body=messages[0].body)])
        return stored


class Raising(WrappedDriver):
    """Raises what no driver may."""

    async def push(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        raise KeyError("a mistake of the plugin's")


class Dying(WrappedDriver):
    """Takes its process along."""

    async def pop(self, limit: int, wait: float) -> Sequence[Delivery]:
        os.kill(os.getpid(), signal.SIGKILL)
        return ()


class Hanging(WrappedDriver):
    """Never answers an ack."""

    async def ack(self, receipts: Sequence[Any]) -> Sequence[Result]:
        await asyncio.Event().wait()
        return ()


def _plugin(kind: MakeDriver) -> Any:
    class Plugin:
        @hookimpl
        def headrace_backend(self, options: BackendOptions) -> Backend:
            return Misfit(kind, MemoryBackend())

    return Plugin()


losing, repeating, trailing = map(_plugin, (Losing, Repeating, Trailing))
raising, dying, hanging = map(_plugin, (Raising, Dying, Hanging))
