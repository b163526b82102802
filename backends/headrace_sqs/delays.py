"""Delays: what SQS waits by itself, and how a longer one is made of hops.

SQS waits for 900 seconds at most. A message with a longer delay carries when it is due, and is received
after each 900 seconds; it is then sent again with what remains, and deleted after that. All of this
is reckoned by SQS's clock: the time at which it stored a message, and that of the answer with
which it hands it out. What came of a hop has been handed out to nobody.
"""

from typing import Final

from headrace.driver import Message
from headrace_sqs.clock import whole
from headrace_sqs.codec import Parcel, pack
from headrace_sqs.fair import group_of
from headrace_sqs.service import Received

#: Seconds: a limit of SQS.
LONGEST_HOP: Final = 900


def parcel(message: Message, fair: str | None, *, spare: int = 0) -> Parcel:
    """What is sent for a message that falls due after its ``delay``, counted from when SQS stores it."""
    group = group_of(message.body, fair) if fair is not None else None
    if message.delay <= 0:
        return pack(message, group=group, spare=spare)
    wait = whole(message.delay)
    if wait <= LONGEST_HOP:
        return pack(message, wait=wait, group=group, spare=spare)
    return pack(message, wait=LONGEST_HOP, group=group, after=message.delay, spare=spare)


def remaining(received: Received) -> float:
    """Seconds until a received message is due; 0 if it is."""
    after, due = received.unpacked.after, received.unpacked.due
    if after is not None:
        due = received.stored + after
    return 0.0 if due is None else max(0.0, due - received.time)


def next_hop(received: Received, fair: str | None) -> Parcel:
    """What is sent for a message that was received before it is due."""
    left, message = remaining(received), received.unpacked.message
    group = group_of(message.body, fair) if fair is not None else None
    return pack(message, wait=min(whole(left), LONGEST_HOP), group=group, due=received.time + left)
