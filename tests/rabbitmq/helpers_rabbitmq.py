"""Short words for the tests of the RabbitMQ backend."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from headrace.config import Config
from headrace.conformance.lab import PATIENCE
from headrace.driver import Backend, Delivery, Driver, Message
from headrace.errors import BackendError, BackendUnavailable
from headrace.registry import Registry

#: What a test makes backends with: `build`, and an end for each.
Make = Callable[..., Backend]


def build(url: str, **settings: Any) -> Backend:
    """A backend as its configuration entry makes it, not open."""
    config = Config.from_mapping({"backends": {"rabbitmq": {"url": url, **settings}}}, environ={})
    return Registry().build(config.backend_options("rabbitmq"))


async def take(driver: Driver, count: int) -> list[Delivery]:
    """Deliveries until there are so many; fewer after some patience. A pop that strikes a break is made again."""
    taken: list[Delivery] = []
    until = time.monotonic() + PATIENCE
    while len(taken) < count and time.monotonic() < until:
        with contextlib.suppress(BackendUnavailable):
            taken += await driver.pop(count - len(taken), 0.5)
    return taken


async def stored(pushing: Awaitable[Sequence[str | BackendError]]) -> None:
    """Raise what became of the first message that was not stored."""
    for each in await pushing:
        if isinstance(each, BackendError):
            raise each


async def eventually(look: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Return when a look shows what is wanted; fail on what it shows after some patience."""
    until = time.monotonic() + PATIENCE
    while (seen := await look()) != wanted:
        assert time.monotonic() < until, seen
        await asyncio.sleep(0.05)


async def push_when_back(driver: Driver, sent: Sequence[Message]) -> None:
    """Push, as a producer does, until it is confirmed."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return await stored(driver.push(sent))
        except BackendUnavailable:
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
