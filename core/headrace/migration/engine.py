"""The course of a migration: which channel comes when, what is waited for, and when it is over."""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.driver import Channel, Info, in_order
from headrace.errors import BackendError, CapabilityError, ConfigError
from headrace.migration.fitting import Fitting
from headrace.migration.source import ORDER, Batch, Source, Way, counted, way_of
from headrace.migration.target import Stayed, Target
from headrace.queue import Queue

#: Batches under way: one is read while others are written and removed.
_AT_ONCE: Final = 4

#: Messages of a channel that are looked at before anything is moved: who uses unique keys uses them for many.
_SAMPLE: Final = 100

#: Seconds between two looks for what cannot be had yet. Each look is some requests, which SQS bills.
_LOOK: Final = 1.0

#: Seconds within which approximate counts become right: SQS says that it takes about a minute.
_SETTLED: Final = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a migration would move, and how."""

    counts: Info  #: of the source
    ways: Mapping[Channel, Way]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    moved: int
    waits_for: Mapping[Channel, int]  #: what is left and cannot be had yet; empty while there is something to move


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a migration has done."""

    moved: Mapping[Channel, int]  #: how many were stored, by channel
    stayed: Sequence[Stayed]
    #: How many of those the source may have kept, too: somebody else had taken them before they could be removed.
    twice: int
    #: Ids that were stored, and that the target shows in no channel; ``None`` if they were not looked for.
    missing: Sequence[str] | None
    left: Mapping[Channel, int]  #: what the source counts in the end, where it counts any
    seconds: float

    @property
    def total(self) -> int:
        return sum(self.moved.values())

    @property
    def is_complete(self) -> bool:
        """Whether all was moved, and is there."""
        return not (self.stayed or self.missing or self.left)


class Migration:
    """Moves all of ``source`` to ``target``: queues of an app that is entered on the running event loop.

    ``wait``: seconds to wait when what is left cannot be had yet; ``None``: without end for what is delayed, and for
    all else until a lease has ended. ``drop_unique``: move pending messages without their unique keys if the target
    honours none. ``check``: look each message up in the target in the end, if it shows all of its channels; of no use
    where workers run what arrives. ``on_progress`` is called after each batch, and while it waits.

    Raises `ConfigError` if both are one queue.
    """

    def __init__(
        self,
        source: Queue,
        target: Queue,
        *,
        wait: float | None = None,
        drop_unique: bool = False,
        check: bool = True,
        on_progress: Callable[[Progress], object] = lambda progress: None,
    ) -> None:
        _refuse_the_same(source, target)
        self._from = source
        self._to = target
        self._wait = wait
        self._check = check
        self._on_progress = on_progress
        self._fitting = Fitting(source, target, drop_unique=drop_unique)
        self._twice = 0
        in_order_there = source.capabilities.ordered and target.capabilities.ordered
        self._turns = asyncio.Semaphore(1 if in_order_there else _AT_ONCE)

    async def plan(self) -> Plan:
        """What would be moved. Raises `CapabilityError` for what cannot be, as far as that can be known before."""
        driver = await self._from.driver()
        counts = await driver.info()
        await (await self._to.driver()).info()  # that it is out of reach is better known now
        for channel in ("failed", "timeout"):
            if getattr(counts, channel) != 0:
                self._require_a_way(channel)
        for channel in in_order(self._from.capabilities.peek & {"waiting", "delayed"}):
            for message in (await driver.peek(channel, _SAMPLE)).messages:
                with contextlib.suppress(BackendError):  # one that is too large stays, and is told of then
                    self._fitting.fit(message, channel)
        return Plan(counts, {channel: way_of(self._from, channel) for channel in ORDER})

    def _require_a_way(self, channel: Channel) -> None:
        if way_of(self._from, channel) is Way.NONE:
            hint = f"what is {channel} on the queue {self._from.name!r} can be neither shown and deleted, nor lent"
            raise CapabilityError(self._from.settings.backend, "lend", hint, channel)
        hint = f"it cannot take in what is {channel} on the queue {self._from.name!r}"
        self._to.capabilities.require(self._to.settings.backend, "store", hint)

    async def run(self) -> Outcome:
        """Move all that can be moved. Raises what `plan` does, and `BackendError` if a backend fails.

        Begun again after an error, or after its process was killed, it goes on.
        """
        began = time.monotonic()
        await self.plan()
        most = min(self._from.capabilities.max_batch, self._to.capabilities.max_batch)
        source = Source(self._from, await self._from.driver(), most)
        target = Target(self._to, await self._to.driver(), self._fitting, check=self._check)
        async with source.kept():
            await self._move_all(source, target)
        missing = await target.missing()
        left = counted(await source.counts())
        seconds = time.monotonic() - began
        return Outcome(dict(target.stored), list(target.stayed.values()), self._twice, missing, left, seconds)

    async def _move_all(self, source: Source, target: Target) -> None:
        nothing_since: float | None = None
        while True:
            before = target.stored.total()
            for channel in ORDER:
                await self._empty(channel, source, target)
            if target.stored.total() > before:
                nothing_since = None
                continue
            left = _but_for(target.stayed.values(), counted(await source.counts()))
            now = time.monotonic()
            nothing_since = now if nothing_since is None else nothing_since
            if not left or now >= nothing_since + self._patience(left):
                return
            self._on_progress(Progress(before, left))
            await asyncio.sleep(_LOOK)

    def _patience(self, left: Mapping[Channel, int]) -> float:
        """Seconds for which to wait for what is left while nothing of it comes."""
        if self._wait is not None:
            return self._wait
        if "delayed" in left:
            return math.inf
        can, settings = self._from.capabilities, self._from.settings
        settled = _SETTLED if can.counts == "approximate" else 0.0
        return max(settled, settings.lease_seconds + (settings.pop_timeout or can.pop_timeout))

    async def _empty(self, channel: Channel, source: Source, target: Target) -> None:
        """Move what can be had of a channel now."""
        slots = asyncio.Semaphore(_AT_ONCE)
        try:
            async with contextlib.aclosing(source.batches(channel)) as batches, asyncio.TaskGroup() as group:
                while True:
                    await slots.acquire()  # before it is taken: what is taken is not to lie about
                    batch = await anext(batches, None)
                    if batch is None:
                        return
                    group.create_task(self._move(batch, source, target, slots))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def _move(self, batch: Batch, source: Source, target: Target, slots: asyncio.Semaphore) -> None:
        try:
            async with self._turns:
                stored, doubt = await target.store(batch)
            self._twice += await source.remove(batch, stored)
        finally:
            slots.release()
        if doubt is not None:
            raise doubt
        self._on_progress(Progress(target.stored.total(), {}))


def _refuse_the_same(source: Queue, target: Queue) -> None:
    """Raise `ConfigError` for one queue, be it by two names. What is not shared is not the same by its place's name."""
    settings = source.settings, target.settings
    same = source.name == target.name or (
        source.capabilities.shared and settings[0].prefix == settings[1].prefix and source.place == target.place
    )
    if same:
        raise ConfigError(f"{source.name!r} and {target.name!r} are one queue: {settings[0].prefix} at {source.place}")


def _but_for(stayed: Collection[Stayed], counts: Mapping[Channel, int]) -> Mapping[Channel, int]:
    """What is left beside what stays, which is in its channel, or reserved by whoever was to move it."""
    stays: Counter[Channel] = Counter()
    for each in stayed:
        stays.update((each.channel, "reserved"))
    return {channel: count - stays[channel] for channel, count in counts.items() if count > stays[channel]}
