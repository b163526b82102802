"""What was delivered and nobody has popped yet: it is taken, or given back as if it had not been delivered.

Filled in the backend's thread and taken from by anybody: each step of a deque is whole, and what
stands first may be gone a moment later.
"""

import contextlib
import math
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import NamedTuple

from aiormq.abc import DeliveredMessage

from headrace.errors import BackendError
from headrace_rabbitmq.codec import received
from headrace_rabbitmq.holding import Receipt, settle
from headrace_rabbitmq.publishing import Publisher


class Delivered(NamedTuple):
    """A delivery that nobody has popped yet."""

    receipt: Receipt
    message: DeliveredMessage
    came: float


class Unpopped:
    """Deliveries in the order in which they came."""

    def __init__(self) -> None:
        self._deliveries: deque[Delivered] = deque()

    def __len__(self) -> int:
        return len(self._deliveries)

    @property
    def since(self) -> float:
        """When the first of them came; infinity if there is none."""
        try:
            return self._deliveries[0].came
        except IndexError:
            return math.inf

    def add(self, delivered: Delivered) -> None:
        self._deliveries.append(delivered)

    def clear(self) -> None:
        self._deliveries.clear()

    def take(self, limit: int) -> list[Delivered]:
        """At most so many, the first ones."""
        taken: list[Delivered] = []
        with contextlib.suppress(IndexError):
            while len(taken) < limit:
                taken.append(self._deliveries.popleft())
        return taken

    def take_until(self, latest: float = math.inf) -> list[Delivered]:
        """Those that came until then."""
        taken: list[Delivered] = []
        with contextlib.suppress(IndexError):
            while self._deliveries[0].came <= latest:
                taken.append(self._deliveries.popleft())
        return taken

    def put_back(self, taken: Sequence[Delivered]) -> None:
        """Let others take what was taken, unless it is over."""
        self._deliveries.extendleft(each for each in reversed(taken) if not each.receipt.hold.is_over)

    async def give_back(self, taken: Collection[Delivered], publisher: Publisher) -> None:
        """Let other workers have what was taken. What cannot be given back stays here, to be tried again."""
        claimed = [each for each in taken if each.receipt.claim()]
        if not claimed:
            return
        messages, deliveries = zip(*(received(each.message) for each in claimed), strict=True)
        stored: set[Receipt] = set()
        try:
            results = await publisher.store(messages, deliveries=deliveries)
            stored = {each.receipt for each, result in zip(claimed, results, strict=True) if result is None}
        except BackendError:
            pass
        finally:
            now = time.monotonic()
            left = [each._replace(came=now) for each in claimed if each.receipt not in stored]
            for each in left:
                each.receipt.release()
            self.put_back(left)
        await settle(stored)
