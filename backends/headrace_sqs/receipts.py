"""Receipts: which delivery they prove, and until when.

SQS takes a receipt long after its lease has ended, and any number of times. So we say ourselves when
one is stale: by a clock of this machine that nobody sets, and from a moment before SQS
reserved the message or extended its lease. So it ends for us before it does for SQS.
"""

from typing import Final

from headrace_sqs.clock import now

#: Seconds that SQS hides a message at most, from when it was received: a limit of SQS.
LONGEST_LEASE: Final = 12 * 3600


class Era:
    """A queue from its making to its end. Deliveries of an era that has ended are stale."""

    is_over = False


class Receipt:
    """Proof of one delivery. Clones of its backend, in other threads, use the same object."""

    __slots__ = ("deadline", "era", "handle", "is_claimed", "is_copied", "last", "queue")

    def __init__(self, queue: str, handle: str, reserved: float, lease: int, era: Era) -> None:
        self.queue: Final = queue  #: the name of the SQS queue
        self.handle: Final = handle
        self.deadline = reserved + lease  #: when the lease ends, by `now`
        self.last: Final = reserved + LONGEST_LEASE  #: beyond which it cannot be extended
        self.era: Final = era
        self.is_claimed = False  #: a call is ending this delivery, or has
        self.is_copied = False  #: it was sent on, and only remains to be deleted

    def is_valid(self, queue: str) -> bool:
        """Whether the delivery is still one, and of this queue."""
        return not self.is_claimed and queue == self.queue and not self.era.is_over and now() < self.deadline

    def claim(self, queue: str) -> bool:
        """End the delivery, for all other calls; false if it is over already."""
        if not self.is_valid(queue):
            return False
        self.is_claimed = True
        return True

    def release(self) -> None:
        """What was claimed could not be done: it may be tried again."""
        self.is_claimed = False
