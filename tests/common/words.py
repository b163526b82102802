"""Short words for the tests of drivers, whatever their backend."""

import itertools
from typing import Any

from headrace.conformance.lab import ids as ids
from headrace.conformance.lab import pairs as pairs
from headrace.conformance.lab import receipts as receipts
from headrace.driver import Channel, Driver, Message

_numbers = itertools.count(1)


def message(id: str | None = None, **fields: Any) -> Message:  # noqa: A002 - the contract's word
    """A message with an id of its own, unless one is given."""
    return Message(id=id or f"{next(_numbers):032x}", name="Job", **{"body": b"{}", **fields})


def messages(count: int, **fields: Any) -> list[Message]:
    return [message(**fields) for _ in range(count)]


async def counts(driver: Driver) -> dict[str, int]:
    """The channels that hold something, and how much."""
    info = await driver.info()
    channels: tuple[Channel, ...] = ("waiting", "reserved", "delayed", "failed", "timeout")
    return {channel: count for channel in channels if (count := getattr(info, channel))}
