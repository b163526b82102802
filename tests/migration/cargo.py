"""What is moved in these tests: messages of every channel, each with something of its own to be kept."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from headrace import Headrace
from headrace.driver import NO_HEADERS, Channel, Driver, Message, Note

#: The channels whose messages are moved.
CHANNELS: Final[tuple[Channel, ...]] = ("waiting", "delayed", "failed", "timeout")

#: Seconds; a delay that does not end while a test runs.
LONG: Final = 3600.0

#: Seconds by which what remains of a delay may differ: the steps of RabbitMQ's and SQS's delays, and slow machines.
TOLERANCE: Final = 15.0

Cargo = Mapping[Channel, Sequence[Message]]


def cargo(count: int, *, delay: float = LONG, start: int = 0) -> Cargo:
    """So many messages of each channel, all of them different. ``start``: the number of the first."""
    made: dict[Channel, list[Message]] = {}
    for place, channel in enumerate(CHANNELS):
        first = start + place * count
        made[channel] = [_message(number, channel, delay) for number in range(first, first + count)]
    return made


def _message(number: int, channel: Channel, delay: float) -> Message:
    spent = number % 3 or channel not in ("waiting", "delayed")
    return Message(
        id=f"{number:032x}" if number % 7 else f"order-{number}",
        name=f"shop.Job{number % 5}",
        body=b'{"number":%d}' % number if number % 4 else b"\xff\0%d" % number,
        attempt=number % 3,
        deaths=number % 2,
        delay=delay * (1 + number % 10 / 100) if channel == "delayed" else 0.0,
        headers={"trace": f"\N{SNOWMAN}{number}"} if number % 2 else NO_HEADERS,
        note=Note("ValueError", f"no {number}", "Traceback\n" * (number % 4), 1.5 + number) if spent else None,
    )


async def load(driver: Driver, cargo: Cargo, size: int) -> None:
    """Put all into a queue, in batches of ``size``."""
    for channel, messages in cargo.items():
        for start in range(0, len(messages), size):
            part = messages[start : start + size]
            if channel == "waiting":
                results = await driver.push(part)
            elif channel == "delayed":
                results = await driver.delay(part)
            elif channel == "failed" or channel == "timeout":
                results = await driver.store(part, channel)
            else:
                raise ValueError(channel)
            assert list(results) == [each.id for each in part]


async def unload(driver: Driver) -> dict[Channel, list[Message]]:
    """All that a queue shows."""
    found: dict[Channel, list[Message]] = {channel: [] for channel in CHANNELS}
    for channel in CHANNELS:
        cursor = None
        while True:
            page = await driver.peek(channel, 1000, cursor=cursor)
            found[channel] += page.messages
            cursor = page.cursor
            if cursor is None:
                break
    return found


def expect(found: Cargo, sent: Cargo, *, since: float, deaths: int = 0, due: bool = False) -> None:
    """That is what was sent, in the same channels and unchanged, and nothing twice.

    ``since``: when it was sent, on `time.monotonic`; ``deaths``: how many each message may have got on the way;
    ``due``: what was delayed has fallen due.
    """
    elapsed = time.monotonic() - since
    for channel in CHANNELS:
        expected = {each.id: each for each in sent[channel]}
        if due and channel == "waiting":
            expected |= {each.id: each for each in sent["delayed"]}
        elif due and channel == "delayed":
            expected = {}
        here = {each.id: each for each in found[channel]}
        assert sorted(each.id for each in found[channel]) == sorted(expected), channel
        for id_, message in here.items():
            other = expected[id_]
            if channel == "delayed":
                assert abs(message.delay - (other.delay - elapsed)) < TOLERANCE, id_
            assert other.deaths <= message.deaths <= other.deaths + deaths, id_
            assert _without(message) == _without(other)


def _without(message: Message) -> Message:
    return msgspec.structs.replace(message, delay=0.0, deaths=0, on_duplicate="replace")


def twice(found: Cargo) -> dict[str, int]:
    """The ids that are there more than once, in whatever channel."""
    counts = Counter(each.id for messages in found.values() for each in messages)
    return {id_: count for id_, count in counts.items() if count > 1}


async def drained(app: Headrace, *queues: str, patience: float = 30.0) -> bool:
    """Whether nothing is left in some queues, as soon as their counts say so."""
    deadline = time.monotonic() + patience
    while True:
        infos = [await app.queue(name).info() for name in queues]
        if not any(getattr(info, channel) for info in infos for channel in (*CHANNELS, "reserved")):
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)


def ids(messages: Iterable[Message]) -> set[str]:
    return {each.id for each in messages}


def config(**backends: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with a queue for each backend, called by the backend's name."""
    queues = {name: {"backend": name, "lease_seconds": 1, "pop_timeout": 0.2} for name in backends}
    return {"listeners": [], "backends": {name: dict(options) for name, options in backends.items()}, "queues": queues}
