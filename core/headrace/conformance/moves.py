"""How cases bring messages into a channel: by the verbs that lead there, and no others."""

from collections.abc import Sequence
from typing import Final

import msgspec

from headrace.conformance.lab import Lab, ids, pairs
from headrace.driver import Channel, Delivery, Driver, Message, Settled

#: Seconds that a message is delayed where its falling due would disturb: longer than a case may take.
LONG_DELAY: Final = 60.0


async def hold(lab: Lab, queue: Driver, count: int = 1) -> list[Delivery]:
    """Push so many messages and pop them."""
    return await bring(lab, queue, "reserved", lab.messages(count))


async def bring(lab: Lab, queue: Driver, channel: Channel, messages: Sequence[Message]) -> list[Delivery]:
    """Push messages to a queue where nothing else is due, and move them to a channel, in their order.

    Gives their deliveries: for ``reserved`` those that are held, for ``failed`` and ``timeout`` those that were.
    """
    if channel == "delayed":
        await lab.in_batches(queue.delay, [with_delay(message, long_delay(lab)) for message in messages])
        return []
    await lab.in_batches(queue.push, messages)
    if channel == "waiting":
        return []
    deliveries = await lab.take(queue, len(messages))
    lab.expect("the ids that came of a push", sorted(ids(deliveries)), sorted(each.id for each in messages))
    taken = {delivery.message.id: delivery for delivery in deliveries}
    held = [taken[message.id] for message in messages]
    if channel != "reserved":
        results = await lab.in_batches(queue.fail, pairs(held), channel)
        lab.expect(f"the results of a move to {channel}", results, [Settled.DONE] * len(held))
    return held


def long_delay(lab: Lab) -> float:
    """Seconds after which a delayed message will not fall due while the case lasts."""
    return min(LONG_DELAY, lab.capabilities.max_delay)


def with_delay(message: Message, delay: float) -> Message:
    """The same message, due later."""
    return msgspec.structs.replace(message, delay=delay)
