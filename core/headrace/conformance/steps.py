"""The steps of a random script: calls as data, so that any sequence of them makes sense and a part of one does too.

A step does not name messages or receipts, which depend on what came before it, but picks: any number
chooses one of those that there are. What is played is played on both of the `Twins`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from headrace.conformance.model import ALL, ENDLESS, Twins
from headrace.driver import Channel, Delivery, Message, Note, RestingChannel

Picks: TypeAlias = tuple[int, ...]


class Step(ABC):
    """One call, or what stands between calls."""

    @abstractmethod
    async def play(self, twins: Twins) -> None:
        """Do it on both sides; raises `Mismatch` if they answer differently."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message to be pushed. ``again`` picks an id that was pushed before."""

    again: int | None = None
    key: str | None = None
    keep: bool = False
    body: bytes = b""
    attempt: int = 0
    deaths: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    note: Note | None = None

    def message(self, twins: Twins, delay: float) -> Message:
        return twins.message(
            self.again,
            body=self.body,
            attempt=self.attempt,
            deaths=self.deaths,
            headers=dict(self.headers),
            note=self.note,
            delay=delay,
            unique_key=self.key,
            on_duplicate="keep" if self.keep else "replace",
        )


@dataclass(frozen=True, slots=True)
class Push(Step):
    sent: tuple[Sent, ...]

    async def play(self, twins: Twins) -> None:
        await twins.store("push", [each.message(twins, 0.0) for each in self.sent])


@dataclass(frozen=True, slots=True)
class Delay(Step):
    sent: tuple[Sent, ...]
    seconds: float

    async def play(self, twins: Twins) -> None:
        messages = [each.message(twins, twins.delay(self.seconds, place)) for place, each in enumerate(self.sent)]
        await twins.store("delay", messages)


@dataclass(frozen=True, slots=True)
class Pop(Step):
    limit: int

    async def play(self, twins: Twins) -> None:
        await twins.pop(self.limit)


@dataclass(frozen=True, slots=True)
class Ack(Step):
    picks: Picks

    async def play(self, twins: Twins) -> None:
        await twins.settle("ack", twins.picked(self.picks), lambda place, delivery: delivery.receipt)


@dataclass(frozen=True, slots=True)
class Retry(Step):
    picks: Picks
    seconds: float
    note: Note | None

    async def play(self, twins: Twins) -> None:
        held = twins.picked(self.picks)
        delays = [twins.delay(self.seconds, place) if self.seconds else 0.0 for place in range(len(held))]

        def pair(place: int, delivery: Delivery) -> tuple[Any, Message]:
            changes = {"attempt": delivery.message.attempt + 1, "deaths": delivery.count, "note": self.note}
            return delivery.receipt, msgspec.structs.replace(delivery.message, delay=delays[place], **changes)

        await twins.settle("retry", held, pair)


@dataclass(frozen=True, slots=True)
class Fail(Step):
    picks: Picks
    channel: RestingChannel
    note: Note | None

    async def play(self, twins: Twins) -> None:
        def pair(place: int, delivery: Delivery) -> tuple[Any, Message]:
            return delivery.receipt, msgspec.structs.replace(delivery.message, note=self.note)

        await twins.settle("fail", twins.picked(self.picks), pair, self.channel)


@dataclass(frozen=True, slots=True)
class Extend(Step):
    picks: Picks
    seconds: float

    async def play(self, twins: Twins) -> None:
        seconds = self.seconds if twins.clock else ENDLESS
        await twins.settle("extend", twins.picked(self.picks), lambda place, delivery: delivery.receipt, seconds)


@dataclass(frozen=True, slots=True)
class Reload(Step):
    channel: RestingChannel
    limit: int | None

    async def play(self, twins: Twins) -> None:
        limit = self.limit if twins.capabilities.ordered else None  # which of them is anybody's choice
        several, late = await twins.reloadable(self.channel)
        if late:
            limit = min(len(several), ALL if limit is None else limit)
        await twins.reload(self.channel, limit)


@dataclass(frozen=True, slots=True)
class ReloadChosen(Step):
    channel: RestingChannel
    picks: Picks

    async def play(self, twins: Twins) -> None:
        chosen = twins.chosen(self.picks)
        _, late = await twins.reloadable(self.channel, chosen)
        await twins.reload(self.channel, None, [each for each in chosen if each not in late])


@dataclass(frozen=True, slots=True)
class Forget(Step):
    channel: Channel
    picks: Picks

    async def play(self, twins: Twins) -> None:
        ids = twins.chosen(self.picks)
        await twins.deleted("forget", lambda driver: driver.forget(self.channel, ids))


@dataclass(frozen=True, slots=True)
class Flush(Step):
    channel: Channel

    async def play(self, twins: Twins) -> None:
        await twins.deleted("flush", lambda driver: driver.flush(self.channel))


@dataclass(frozen=True, slots=True)
class Cancel(Step):
    pick: int

    async def play(self, twins: Twins) -> None:
        id_ = twins.id(self.pick)
        await twins.same(f"whether {id_} was cancelled", lambda driver: driver.cancel(id_))


@dataclass(frozen=True, slots=True)
class Destroy(Step):
    async def play(self, twins: Twins) -> None:
        await twins.same("destroy", lambda driver: driver.destroy())


@dataclass(frozen=True, slots=True)
class Look(Step):
    """Go through a channel page by page."""

    channel: Channel
    size: int

    async def play(self, twins: Twins) -> None:
        await twins.compare_listing(twins.queue, self.channel, self.size)


@dataclass(frozen=True, slots=True)
class Elapse(Step):
    seconds: float

    async def play(self, twins: Twins) -> None:
        twins.lab.calls.note(f"{self.seconds:g} s pass")
        twins.elapse(self.seconds)


#: What is played after a script where looking does not show everything: what it left is taken out, and so seen.
LAST: Final[tuple[Step, ...]] = (Reload("failed", None), Reload("timeout", None), Pop(ALL))
