"""Short words for the tests of the Redis backend."""

import itertools
from collections.abc import Iterable
from typing import Any

from headrace.driver import Channel, Delivery, Driver, Message

_numbers = itertools.count(1)


def message(id: str | None = None, **fields: Any) -> Message:  # noqa: A002 - the contract's word
    """A message with an id of its own, unless one is given."""
    return Message(id=id or f"{next(_numbers):032x}", name="Job", **{"body": b"{}", **fields})


def messages(count: int, **fields: Any) -> list[Message]:
    return [message(**fields) for _ in range(count)]


def ids(deliveries: Iterable[Delivery]) -> list[str]:
    return [delivery.message.id for delivery in deliveries]


def receipts(deliveries: Iterable[Delivery]) -> list[Any]:
    return [delivery.receipt for delivery in deliveries]


async def counts(driver: Driver) -> dict[str, int]:
    """The channels that hold something, and how much."""
    info = await driver.info()
    channels: tuple[Channel, ...] = ("waiting", "reserved", "delayed", "failed", "timeout")
    return {channel: count for channel in channels if (count := getattr(info, channel))}
