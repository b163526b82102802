"""Short words for the tests of drivers."""

import asyncio
import itertools
from typing import Any

from headrace.conformance.lab import ids as ids
from headrace.conformance.lab import receipts as receipts
from headrace.driver import Channel, Delivery, Driver, Message

_numbers = itertools.count(1)


def message(id: str | None = None, **fields: Any) -> Message:  # noqa: A002 - the contract's word
    """A message with an id of its own, unless one is given."""
    return Message(
        id=id or f"m{next(_numbers):06}", name=fields.pop("name", "Job"), body=fields.pop("body", b"{}"), **fields
    )


def messages(count: int, **fields: Any) -> list[Message]:
    return [message(**fields) for _ in range(count)]


async def counts(driver: Driver) -> dict[str, int]:
    """The channels that hold something, and how much."""
    info = await driver.info()
    channels: tuple[Channel, ...] = ("waiting", "reserved", "delayed", "failed", "timeout")
    return {channel: count for channel in channels if (count := getattr(info, channel))}


async def drain(driver: Driver, limit: int = 100) -> list[Delivery]:
    """Pop all there is."""
    taken: list[Delivery] = []
    while deliveries := await driver.pop(limit, 0):
        taken += deliveries
    return taken


async def shown(driver: Driver, channel: Channel, limit: int = 1000) -> list[str]:
    """The ids that a channel shows."""
    return [message.id for message in (await driver.peek(channel, limit)).messages]


async def settle() -> None:
    """Let everything that is under way on this loop take its next steps."""
    for _ in range(10):
        await asyncio.sleep(0)
