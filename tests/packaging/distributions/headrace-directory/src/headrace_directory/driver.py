"""The ``directory`` driver: a queue is a folder, a message is a file, and a move is a rename, which one process wins.

::

    pending/     DUE,COUNT,ID            waiting and delayed: whose time has come, and whose has not
    reserved/    DUE,COUNT,ID,RECEIPT    handed out; the time of the file is the end of its lease
    failed/      DUE,0,ID
    timeout/     DUE,0,ID

What a rename cannot do, change what a file says, takes three steps: claim it by moving it to ``reserved``,
write the new file, remove the old one. A process that ends in between leaves a message with a lease.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from headrace.driver import Channel, Delivery, Driver, Info, Message, Page, RestingChannel, Result, Settled
from headrace.errors import BackendError

from headrace_directory.clock import nanoseconds
from headrace_directory.files import Entry, key_of, name, read, set_time, time_of, unused, won, write
from headrace_directory.place import Place

T = TypeVar("T", bound=Sequence[Any])

#: Seconds that writing anew may take. If the process ends before, the message comes back after these.
CLAIM_SECONDS = 30.0


class DirectoryDriver(Driver):
    """Carries the messages of the queue ``prefix``. What is no coroutine here uses files, and runs in a thread."""

    def __init__(self, place: Place, prefix: str, lease_seconds: float) -> None:
        self._place = place
        self._run = place.run
        self._clock = place.clock
        self._lease_seconds = lease_seconds
        self._folder = place.root / f"queue,{key_of(prefix)}"
        self._pending = self._folder / "pending"
        self._reserved = self._folder / "reserved"

    # Storing

    async def push(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        items = [(self._pending, self._due(message), message) for message in messages]
        await self._run(lambda: self._store(items))
        return [message.id for message in messages]

    async def delay(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        return await self.push(messages)

    def _due(self, message: Message) -> int:
        return self._clock.now() + nanoseconds(message.delay)

    def _store(self, items: Sequence[tuple[Path, int, Message]]) -> None:
        """Write messages into folders of the queue, due then. Each is there in full or not at all, and all to stay."""
        for folder in (self._pending, self._reserved, self._folder / "failed", self._folder / "timeout"):
            folder.mkdir(parents=True, exist_ok=True)
        drafts = [self._place.draft() for _ in items]
        for draft, (_, _, message) in zip(drafts, items, strict=True):
            write(draft, message)
        self._place.synchronize(drafts)
        for draft, (folder, due, message) in zip(drafts, items, strict=True):
            draft.rename(folder / name(due, 0, key_of(message.id)))
        self._place.synchronize({self._place.root, self._folder, *(folder for folder, _, _ in items)})
        self._notify()

    def _notify(self) -> None:
        """Change what `_changed` reads. The system would, but too coarsely to tell two changes apart."""
        won(set_time, self._pending, self._clock.now())

    async def destroy(self) -> None:
        gone = self._place.draft()
        if await self._run(lambda: won(self._folder.rename, gone)):
            await self._run(lambda: won(shutil.rmtree, gone))

    # Looking

    def _entries(self, channel: Channel, ids: Sequence[str] | None = None) -> list[Entry]:
        """What a channel holds, or those of ``ids`` in it; oldest first."""
        now = self._clock.now()
        for entry in self._list(self._reserved):
            if time_of(entry.path) <= now:
                won(entry.path.rename, self._pending / name(entry.due, entry.count, entry.key))
        if channel in ("waiting", "delayed"):
            found = [entry for entry in self._list(self._pending) if (entry.due <= now) == (channel == "waiting")]
        else:
            found = self._list(self._folder / channel)
        keys = None if ids is None else {key_of(each) for each in ids}
        return [entry for entry in found if keys is None or entry.key in keys]

    def _list(self, folder: Path) -> list[Entry]:
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            self._place.root.stat()  # raises if all is gone; if only the queue is, it is empty
            return []
        return [entry for each in names if (entry := Entry.of(folder / each))]

    async def info(self) -> Info:
        return await self._run(self._count)

    def _count(self) -> Info:
        waiting = self._entries("waiting")
        return Info(
            waiting=len(waiting),
            reserved=len(self._entries("reserved")),
            delayed=len(self._entries("delayed")),
            failed=len(self._entries("failed")),
            timeout=len(self._entries("timeout")),
            oldest_seconds=(self._clock.now() - waiting[0].due) / 1e9 if waiting else None,
        )

    # Handing out

    async def pop(self, limit: int, wait: float) -> Sequence[Delivery]:
        return await self._look(wait, lambda: self._take(limit), self._give_back)

    def _take(self, limit: int) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for entry in self._entries("waiting"):
            if len(deliveries) == limit:
                break
            claim = self._claim(entry, entry.count + 1, self._lease_seconds)
            if claim and (message := read(claim)):
                deliveries.append(Delivery(message, claim.name, entry.count + 1))
        return deliveries

    def _claim(self, entry: Entry, count: int, seconds: float) -> Path | None:
        """Reserve a message, wherever it is; none if another process was first."""
        claim = self._reserved / f"{name(entry.due, count, entry.key)},{unused(self._reserved).name}"
        # The time first: it counts from the rename on, and a process may end between the two.
        lease_end = self._clock.now() + nanoseconds(seconds)
        return claim if won(set_time, entry.path, lease_end) and won(entry.path.rename, claim) else None

    def _held(self, receipt: str) -> Entry | None:
        """The message of a receipt, unless its lease has ended."""
        held = Entry.of(self._reserved / receipt)
        return held if held and time_of(held.path) > self._clock.now() else None

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        """As if they had not been taken."""
        for held in (self._held(delivery.receipt) for delivery in deliveries):
            if held:
                won(held.path.rename, self._pending / name(held.due, held.count - 1, held.key))
        self._notify()

    # Waiting

    async def _look(self, seconds: float, look: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Look until something is found: now, after each change, and whenever something falls due."""
        deadline = self._clock.now() + nanoseconds(seconds)
        while True:
            seen = self._changed()
            found = await self._run(look, undo)
            if found or self._clock.now() >= deadline:
                return found
            until = min(deadline, await self._run(self._next_due))
            with self._place.translated():
                while self._changed() == seen and (rest := until - self._clock.now()) > 0:
                    await asyncio.sleep(min(self._place.poll_seconds, rest / 1e9))

    def _next_due(self) -> int:
        """When a delay or a lease ends, if nothing else happens before."""
        dues = [entry.due for entry in self._list(self._pending)]
        return min(dues + [time_of(entry.path) for entry in self._list(self._reserved)], default=2**63)

    def _changed(self) -> int:
        """A number that is another one after every change."""
        return time_of(self._pending)

    # Settling

    def _settle(self, receipt: str, move: Callable[..., object], *arguments: Any) -> Result:
        """Make a move with the file of a receipt, unless its lease has ended or another was first."""
        held = self._held(receipt)
        return Settled.DONE if held and won(move, held.path, *arguments) else Settled.STALE

    async def ack(self, receipts: Sequence[Any]) -> Sequence[Result]:
        return await self._run(lambda: [self._settle(each, Path.unlink) for each in receipts])

    async def extend(self, receipts: Sequence[Any], seconds: float) -> Sequence[Result]:
        lease_end = self._clock.now() + nanoseconds(seconds)
        results = await self._run(lambda: [self._settle(each, set_time, lease_end) for each in receipts])
        await self._run(self._notify)
        return results

    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> Sequence[Result]:
        return await self._run(
            lambda: self._write_anew([(self._held(receipt), message) for receipt, message in pairs], self._pending)
        )

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> Sequence[Result]:
        folder = self._folder / channel
        return await self._run(
            lambda: self._write_anew([(self._held(receipt), message) for receipt, message in pairs], folder)
        )

    def _write_anew(self, pairs: Sequence[tuple[Entry | None, Message]], folder: Path) -> list[Result]:
        """Claim messages, write them into ``folder`` as they are in the pairs, then remove what they were."""
        claims = [self._claim(entry, entry.count, CLAIM_SECONDS) if entry else None for entry, _ in pairs]
        items = []
        for claim, (entry, message) in zip(claims, pairs, strict=True):
            if claim and entry:
                # What comes back from a worker without a delay has its old place.
                back = (entry.path.parent, folder) == (self._reserved, self._pending) and not message.delay
                items.append((folder, entry.due if back else self._due(message), message))
        self._store(items)
        for claim in filter(None, claims):
            claim.unlink(missing_ok=True)
        return [Settled.DONE if claim else Settled.STALE for claim in claims]

    # Moving and removing

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        return await self._run(lambda: self._reload(self._entries(channel, ids)[:limit]))

    def _reload(self, entries: Sequence[Entry]) -> int:
        found = [(entry, message) for entry in entries if (message := read(entry.path))]
        cleared = [(entry, msgspec.structs.replace(each, attempt=0, deaths=0, note=None)) for entry, each in found]
        return self._write_anew(cleared, self._pending).count(Settled.DONE)

    async def flush(self, channel: Channel) -> int:
        return await self._run(lambda: self._remove(channel))

    def _remove(self, channel: Channel, ids: Sequence[str] | None = None) -> int:
        if channel == "reserved":
            raise ValueError("what is reserved is in a worker's hands")
        return sum(won(entry.path.unlink) for entry in self._entries(channel, ids))

    # By capability

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        return await self._run(
            lambda: self._page(self._entries(channel, ids), channel == "delayed", limit, cursor or "")
        )

    def _page(self, entries: Sequence[Entry], delayed: bool, limit: int, cursor: str) -> Page:
        rest = [entry for entry in entries if entry.path.name > cursor]
        messages = []
        for entry in rest[:limit]:
            if message := read(entry.path):
                delay = max(entry.due - self._clock.now(), 0) / 1e9 if delayed else 0.0
                messages.append(msgspec.structs.replace(message, delay=delay))
        return Page(messages, rest[limit - 1].path.name if len(rest) > limit else None)

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the contract's word
        # Delayed first: what falls due in between is found by the second.
        return await self._run(lambda: any(self._remove(channel, [id]) for channel in ("delayed", "waiting")))

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        return await self._run(lambda: self._remove(channel, ids))

    async def wait_ready(self, seconds: float) -> bool:
        return bool(await self._look(seconds, lambda: self._entries("waiting")))

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> Sequence[str | BackendError]:
        folder, now = self._folder / channel, self._clock.now()
        await self._run(
            lambda: self._store([(folder, now, msgspec.structs.replace(each, delay=0.0)) for each in messages])
        )
        return [message.id for message in messages]
