"""The backend under test and the reference side by side: given the same calls, both must tell their callers the same.

The reference is the ``memory`` backend, found as any other is. Owns what "the same" means: order where
the backend is ordered and sets where it is not, counts where they are exact, listings where there are
any, durations within a tolerance. Which calls are made is the business of ``steps.py``.
"""

import string
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from headrace.conformance.harness import PluginHarness
from headrace.conformance.lab import CHANNELS, PATIENCE, Lab, ids
from headrace.conformance.recording import Calls, RecordingDriver
from headrace.driver import ALL_CHANNELS, Backend, Channel, Delivery, Driver, Message, RestingChannel, Result, Settled

if TYPE_CHECKING:
    from headrace.testing.clock import FakeClock

Answer = TypeVar("Answer")

#: Seconds that a delivery's lease lasts where time is under control. No sum of the other durations, so
#: that no lease ends at the very moment of a call, where rounding would decide.
LEASE: Final = 10.07

#: The same where it is not: longer than any script takes, since nobody could say which side ends a lease first.
ENDLESS: Final = 600.0

#: Seconds that pass between two calls where time is under control: what does not happen at once has an order.
CALL: Final = 0.1

#: More messages than a script makes: a limit for "all of them", and an end for listings that have none.
ALL: Final = 200


def reference(lab: Lab, clock: "FakeClock | None" = None) -> Backend:
    """The memory backend, on the machine's time or on ``clock``."""
    plugin = PluginHarness("memory")
    plugin.folder = lab.harness.folder
    built: Any = plugin.backend()
    backend: Backend = built if clock is None else built.with_clock(clock)
    return backend


@dataclass(frozen=True, slots=True)
class Held:
    """One delivery, as each side handed it out. Kept when it is over, since stale receipts are to be used too."""

    found: Delivery
    expected: Delivery


class Twins:
    """One queue of the backend under test, which is open, and its twin on the reference."""

    def __init__(self, lab: Lab, reference: Backend, clock: "FakeClock | None") -> None:
        prefix = self._prefix = lab.prefix()
        self.lab: Final = lab
        self.clock: Final = clock
        self.capabilities: Final = lab.capabilities
        self.exact: Final = self.capabilities.counts == "exact"
        lease = ENDLESS if clock is None else LEASE
        driver = lab.backend.driver(prefix, lease_seconds=lease)
        self.queue: Final[Driver] = RecordingDriver(driver, lab.calls, "queue")
        #: For the looks between calls, which are not recorded: a report would show little else.
        self._looks: Final[Driver] = RecordingDriver(driver, Calls(), "queue")
        self.model: Final = reference.driver(prefix, lease_seconds=lease)
        self._ids: Final[list[str]] = []  #: that were pushed
        self._held: Final[list[Held]] = []
        self._made = 0  #: messages
        self._delayed = 0  #: times that a message was
        #: Seconds by which durations may differ: both sides have one clock, or each call its own moment.
        self._tolerance: Final = PATIENCE if clock is None else 0.001
        #: Seconds that a pop gets to find what must be there. Where counts lag behind, so may messages.
        self._patience: Final = 4 * lab.tick if self.exact else PATIENCE

    # What steps choose from.

    def message(self, again: int | None, *, body: bytes, **fields: Any) -> Message:
        """A message with a new id, or with the one that ``again`` picks. Its body begins with its number."""
        number, self._made = self._made, self._made + 1
        if again is None or not self._ids:
            again = len(self._ids)
            self._ids.append(string.ascii_lowercase[number % 26] + str(number // 26 or ""))
        return self.lab.message(self._ids[again % len(self._ids)], body=b"%d:%s" % (number, body), **fields)

    def id(self, pick: int) -> str:
        """An id that was pushed or, now and then, one that was not."""
        return [*self._ids, "nobody"][pick % (len(self._ids) + 1)]

    def delay(self, seconds: float, place: int) -> float:
        """The delay of a message at a place of a batch, such that no two messages ever fall due at once.

        Where time is not under control no message falls due at all, and ``seconds`` counts only as yes or no.
        """
        self._delayed += 1
        return 300 + 2 * self._delayed if self.clock is None else seconds + CALL / 2 + place / 100

    def picked(self, picks: Iterable[int]) -> list[Held]:
        """Deliveries out of all so far, none twice, as their messages arrived.

        So that what comes to rest in one call has an order, be it that of the call or of the messages' age.
        """
        if not self._held:
            return []
        chosen = {pick % len(self._held) for pick in picks}
        return sorted((self._held[place] for place in chosen), key=lambda held: _arrival(held.found.message))

    def chosen(self, picks: Iterable[int]) -> list[str]:
        """Different ids, chosen as `id` does."""
        return list(dict.fromkeys(self.id(pick) for pick in picks))

    async def reloadable(
        self, channel: RestingChannel, chosen: Sequence[str] | None = None
    ) -> tuple[list[str], list[str]]:
        """The ids of a channel's messages that one call may reload, oldest first, and of those that it may not.

        What one call reloads is due at once. Among those only messages that came to rest
        as they had arrived have an order that the contract knows.
        """
        page = await self.model.peek(channel, ALL, ids=chosen)
        order, here = [_arrival(message) for message in page.messages], ids_of(page.messages)
        breaks = [place for place, (one, next_) in enumerate(pairwise(order), 1) if one > next_]
        several = breaks[0] if breaks and self.capabilities.ordered else len(here)
        return here[:several], here[several:]

    # Calls on both sides.

    async def same(self, about: str, verb: Callable[[Driver], Awaitable[Answer]]) -> None:
        """Make a call on both sides, and hold the answers against each other."""
        expected = await verb(self.model)
        self.lab.expect(about, await verb(self.queue), expected)

    async def store(self, verb: str, messages: Sequence[Message]) -> None:
        """`Driver.push` or `Driver.delay`, by name."""
        expected = await getattr(self.model, verb)(messages)
        found = await self.lab.in_batches(getattr(self.queue, verb), messages)
        self.lab.expect(f"the ids that {verb} returns", found, expected)

    async def pop(self, limit: int) -> None:
        """Pop as many on both sides; all there is where nothing says which ones the backend would take."""
        limit = limit if self.capabilities.ordered else ALL
        expected = list(await self.model.pop(limit, 0))
        found: list[Delivery] = []
        while True:  # a pop may return fewer than it could
            several = min(limit - len(found), self.capabilities.max_batch)
            more = await self.queue.pop(several, self._patience if expected else 0)
            found += more
            if not more or len(found) >= len(expected):
                break
        if not self.capabilities.ordered:
            found, expected = sorted(found, key=_id_of), sorted(expected, key=_id_of)
        self.lab.expect("what pop hands out", ids(found), ids(expected))
        for mine, other in zip(found, expected, strict=True):
            id_ = mine.message.id
            self._expect_same(f"{id_} as pop hands it out", mine.message, other.message)
            self.lab.expect(f"how often {id_} was handed out", mine.count, other.count)
            self._held.append(Held(mine, other))

    async def settle(
        self, verb: str, held: Sequence[Held], item: Callable[[int, Delivery], Any], *arguments: Any
    ) -> None:
        """A verb of the driver that takes receipts, for deliveries that are valid and such that are over.

        ``item`` makes what the verb is given of a delivery and its place among them.
        """
        if not held:
            return
        expected = await getattr(self.model, verb)(
            [item(place, each.expected) for place, each in enumerate(held)], *arguments
        )
        found = await self.lab.in_batches(
            getattr(self.queue, verb), [item(place, each.found) for place, each in enumerate(held)], *arguments
        )
        self.lab.expect(f"what {verb} answers", [_result(each) for each in found], [_result(each) for each in expected])

    async def reload(self, channel: RestingChannel, limit: int | None, chosen: Sequence[str] | None = None) -> None:
        """Reload as many on both sides. Where counts are not exact, a call may miss some."""
        expected = await self.model.reload(channel, limit, chosen)
        found, calls = await self.queue.reload(channel, limit, chosen), 1
        while not self.exact and found < expected and calls * self.lab.tick < PATIENCE:
            await self.lab.elapse(self.lab.tick)
            found += await self.queue.reload(channel, None if limit is None else limit - found, chosen)
            calls += 1
        self.lab.expect_number("how many messages reload moved", found, expected)

    async def deleted(self, name: str, verb: Callable[[Driver], Awaitable[int]]) -> None:
        """Delete the same on both sides."""
        expected = await verb(self.model)
        self.lab.expect_number(f"how many messages {name} deleted", await verb(self.queue), expected)

    def elapse(self, seconds: float) -> None:
        """Let time pass on the clock that both sides have, if it is under control."""
        if self.clock is not None:
            self.clock.advance(seconds)

    async def destroy(self) -> None:
        """Be done with it: remove both queues."""
        await self.same("destroy", lambda driver: driver.destroy())
        self.lab.removed(self._prefix)

    # Looking.

    @property
    def transparent(self) -> bool:
        """Whether looking shows everything, so that nothing has to be popped to be seen."""
        return self.exact and self.capabilities.peek >= ALL_CHANNELS

    async def compare(self) -> None:
        """Hold all messages that can be seen against the reference's."""
        for channel in self.lab.shown:
            await self.compare_listing(self._looks, channel, ALL)

    async def compare_counts(self) -> None:
        """Hold the counts against the reference's, where they are exact."""
        if not self.exact:
            return
        info, model = await self._looks.info(), await self.model.info()
        known = [channel for channel in CHANNELS if getattr(info, channel) is not None]
        found, expected = [{channel: getattr(each, channel) for channel in known} for each in (info, model)]
        self.lab.expect("the counts after that", found, expected)
        age, oldest = info.oldest_seconds, model.oldest_seconds
        alike = age is oldest if age is None or oldest is None else abs(age - oldest) <= self._tolerance
        self.lab.expect_that(alike, "how long the oldest has been due after that", age, f"{oldest}")

    async def compare_listing(self, driver: Driver, channel: Channel, size: int) -> None:
        """Hold a channel's messages, looked at in pages of ``size``, against the reference's."""
        found, expected = await _listing(driver, channel, size), await _listing(self.model, channel, ALL)
        if channel == "reserved" or not self.capabilities.ordered:  # of deliveries none is the older one
            found, expected = sorted(found, key=_id), sorted(expected, key=_id)
        about = f"what peek({channel!r}) shows after that"
        self.lab.expect(about, ids_of(found), ids_of(expected))
        for mine, other in zip(found, expected, strict=True):
            if channel == "delayed" and abs(mine.delay - other.delay) <= self._tolerance:
                mine = msgspec.structs.replace(mine, delay=other.delay)
            self._expect_same(f"{about}: {mine.id}", mine, other)

    def _expect_same(self, about: str, found: Message, expected: Message) -> None:
        # What a push asks to do about a duplicate is done when it returns: a backend need not keep the question.
        self.lab.expect_same(about, msgspec.structs.replace(found, on_duplicate=expected.on_duplicate), expected)


async def _listing(driver: Driver, channel: Channel, size: int) -> list[Message]:
    """A channel's messages, page by page."""
    page = await driver.peek(channel, size)
    messages = list(page.messages)
    while page.cursor is not None and len(messages) <= ALL:
        page = await driver.peek(channel, size, cursor=page.cursor)
        messages += page.messages
    return messages


def ids_of(messages: Iterable[Message]) -> list[str]:
    return [message.id for message in messages]


def _arrival(message: Message) -> int:
    """Which message of the script it is: a younger one has a higher number."""
    return int(message.body.partition(b":")[0])


def _id(message: Message) -> str:
    return message.id


def _id_of(delivery: Delivery) -> str:
    return delivery.message.id


def _result(result: Result) -> str:
    return result.name if isinstance(result, Settled) else repr(result)
