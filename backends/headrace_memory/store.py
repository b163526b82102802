"""What the memory backend holds: every queue's messages, and each move between channels.

This is the executable reference of the contract, so it is written to be read: plain
synchronous code under one lock, without a line about event loops or waiting. The driver
adds those. Times are the store's own clock's, in seconds.

Every message has one `_Entry`, and an entry is in one channel. The order of a channel is
``(when, seq)``: when it falls due, when its lease ends, or when it came to rest, and the
order of arrival among equals. Lines and heaps hold *tickets* to entries; a ticket is good
as long as its entry has its number and time, and others are skipped when they surface, so that
removing a message from the middle of a million costs nothing.

Entries are out of the garbage collector's sight, and tickets leave it as it first sees
them: looking through a million of them again and again was half the cost of a push. They
may be, since entries do not refer to tickets, and so nothing refers to itself.
"""

import heapq
import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, TypeAlias

import msgspec

from headrace.driver import Channel, Delivery, Info, Message, Page, RestingChannel, Settled
from headrace_memory.waiting import Bell

#: When, order of arrival, the ticket's own number, and the entry.
_Ticket: TypeAlias = tuple[float, int, int, "_Entry"]

#: How many outdated tickets a line or heap may keep beside as many again as are good: enough that
#: sweeping is rare for a small queue, few enough to be no memory worth naming.
_SLACK: Final = 1024


class _Entry(msgspec.Struct, gc=False, eq=False):
    """One message, its place, and who has it."""

    message: Message
    seq: int
    due: float  #: its place among the waiting; a lease does not change it
    when: float  #: its place in its channel
    channel: Channel = "waiting"
    number: int = 0  #: of its good ticket, new with each change of channel; 0 when it is gone
    deliveries: int = 0  #: since the message was last written
    owns: bool = False  #: whether it holds its ``unique_key``


def _good(ticket: _Ticket) -> bool:
    when, _, number, entry = ticket
    return number == entry.number and when == entry.when


class _Heap:
    """Tickets by time, outdated ones among them."""

    __slots__ = ("_tickets",)

    def __init__(self) -> None:
        self._tickets: list[_Ticket] = []

    def add(self, ticket: _Ticket, good: int) -> None:
        """Add a ticket; ``good`` is how many of the heap's tickets can be good at most."""
        tickets = self._tickets
        if len(tickets) > 2 * good + _SLACK:
            tickets[:] = [kept for kept in tickets if _good(kept)]
            heapq.heapify(tickets)
        heapq.heappush(tickets, ticket)

    def first(self) -> _Ticket | None:
        tickets = self._tickets
        while tickets:
            if _good(tickets[0]):
                return tickets[0]
            heapq.heappop(tickets)
        return None

    def take(self, until: float) -> Iterator[_Entry]:
        """Remove and give what falls to ``until`` or before, oldest first."""
        while (ticket := self.first()) is not None and ticket[0] <= until:
            heapq.heappop(self._tickets)
            yield ticket[3]


class Queue:
    """The messages of one prefix. Every method is called with `Store.lock` held; every verb begins with `tick`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.bell = Bell()
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._owners: dict[str, _Entry] = {}
        self._counts: dict[Channel, int] = dict.fromkeys(("waiting", "reserved", "delayed", "failed", "timeout"), 0)
        self._line: deque[_Ticket] = deque()  #: waiting, as pushed: in order without any sorting
        self._back = _Heap()  #: waiting too, but come from elsewhere: retried, fallen due, expired
        self._delayed = _Heap()
        self._leases = _Heap()
        self._resting: dict[Channel, OrderedDict[str, _Entry]] = {"failed": OrderedDict(), "timeout": OrderedDict()}
        self._numbers = itertools.count(1)

    def tick(self) -> float:
        """Let time act: what fell due, or whose lease ended, waits. Returns the time."""
        now = self._clock()
        for entry in self._delayed.take(now):
            self._wait(entry)
        for entry in self._leases.take(now):
            self._wait(entry)
        return now

    # Moving between channels.

    def _enter(self, entry: _Entry, channel: Channel, when: float) -> _Ticket:
        self._counts[entry.channel] -= 1
        self._counts[channel] += 1
        entry.channel = channel
        entry.when = when
        entry.number = number = next(self._numbers)
        return (when, entry.seq, number, entry)

    def _wait(self, entry: _Entry) -> None:
        self._back.add(self._enter(entry, "waiting", entry.due), self._counts["waiting"])

    def _rest(self, entry: _Entry, channel: RestingChannel, now: float) -> None:
        self._enter(entry, channel, now)
        self._resting[channel][entry.message.id] = entry

    def _remove(self, entry: _Entry) -> None:
        """Forget a message that waits, is delayed or reserved; a resting one besides leaves its shelf."""
        self._counts[entry.channel] -= 1
        entry.number = 0
        del self._entries[entry.message.id]
        self._disown(entry)

    def _disown(self, entry: _Entry) -> None:
        if entry.owns:
            entry.owns = False
            del self._owners[entry.message.unique_key or ""]

    # The verbs.

    def push(self, messages: Sequence[Message]) -> list[str]:
        """`Driver.push` and `Driver.delay` in one: a message's own ``delay`` decides."""
        now = self.tick()
        survivors = [self._store(message, now) for message in messages]
        self.bell.ring()
        return survivors

    def _store(self, message: Message, now: float) -> str:
        if message.id in self._entries:
            return message.id
        key, delay = message.unique_key, message.delay
        if key is not None:
            owner = self._owners.get(key)
            if owner is not None:
                if message.on_duplicate == "keep":
                    return owner.message.id
                self._remove(owner)
            message = msgspec.structs.replace(message, on_duplicate="replace")
        if delay > 0:
            message = msgspec.structs.replace(message, delay=0.0)
        due = now + max(delay, 0.0)
        entry = _Entry(message, next(self._numbers), due, due)
        self._entries[message.id] = entry
        if key is not None:
            entry.owns = True
            self._owners[key] = entry
        self._counts["waiting"] += 1  # where an entry is born, and `_enter` finds it
        if delay > 0:
            self._delayed.add(self._enter(entry, "delayed", entry.due), self._counts["delayed"])
        else:
            entry.number = number = next(self._numbers)
            if len(self._line) > 2 * self._counts["waiting"] + _SLACK:
                self._line = deque(filter(_good, self._line))
            self._line.append((now, entry.seq, number, entry))
        return message.id

    def store(self, messages: Iterable[Message], channel: RestingChannel) -> list[str]:
        """`Driver.store`."""
        now = self.tick()
        stored: list[str] = []
        for message in messages:
            stored.append(message.id)
            if message.id not in self._entries:
                resting = msgspec.structs.replace(message, delay=0.0, on_duplicate="replace")
                self._entries[message.id] = entry = _Entry(resting, next(self._numbers), now, now)
                self._counts["waiting"] += 1  # where an entry is born, and `_enter` finds it
                self._rest(entry, channel, now)
        return stored

    def pop(self, limit: int, lease_seconds: float) -> list[Delivery]:
        now = self.tick()
        until = now + lease_seconds
        deliveries: list[Delivery] = []
        while len(deliveries) < limit and (entry := self._oldest()) is not None:
            if entry.owns:
                self._disown(entry)
            entry.deliveries += 1
            ticket = self._enter(entry, "reserved", until)
            self._leases.add(ticket, self._counts["reserved"])
            deliveries.append(Delivery(entry.message, ticket, entry.deliveries))
        if deliveries:
            self.bell.ring()  # those who wait for nothing but a lease have a new one to wait for
        return deliveries

    def _oldest(self) -> _Entry | None:
        """Take the oldest waiting entry from whichever line has it."""
        line, back = self._line, self._back.first()
        while line and not _good(line[0]):
            line.popleft()
        if line and (back is None or line[0] < back):
            return line.popleft()[3]
        if back is None:
            return None
        return next(self._back.take(back[0]))

    def _holder(self, receipt: _Ticket) -> _Entry | None:
        """The entry that a receipt is valid for: a receipt is a lease's ticket, and extending keeps its number."""
        _, _, number, entry = receipt
        return entry if number == entry.number and self._entries.get(entry.message.id) is entry else None

    def ack(self, receipts: Iterable[_Ticket]) -> list[Settled]:
        self.tick()
        return [self._settle(receipt, self._remove) for receipt in receipts]

    def _settle(self, receipt: _Ticket, move: Callable[[_Entry], None]) -> Settled:
        entry = self._holder(receipt)
        if entry is None:
            return Settled.STALE
        move(entry)
        return Settled.DONE

    def retry(self, pairs: Iterable[tuple[_Ticket, Message]]) -> list[Settled]:
        now = self.tick()

        def give_back(message: Message, entry: _Entry) -> None:
            self._write(entry, message)
            if message.delay > 0:
                entry.due = now + message.delay
                self._delayed.add(self._enter(entry, "delayed", entry.due), self._counts["delayed"])
            else:
                self._wait(entry)

        results = [self._settle(receipt, partial(give_back, message)) for receipt, message in pairs]
        self.bell.ring()
        return results

    def fail(self, pairs: Iterable[tuple[_Ticket, Message]], channel: RestingChannel) -> list[Settled]:
        now = self.tick()

        def rest(message: Message, entry: _Entry) -> None:
            self._write(entry, message)
            self._rest(entry, channel, now)

        return [self._settle(receipt, partial(rest, message)) for receipt, message in pairs]

    def _write(self, entry: _Entry, message: Message) -> None:
        entry.deliveries = 0
        entry.message = msgspec.structs.replace(message, delay=0.0)

    def extend(self, receipts: Iterable[_Ticket], seconds: float) -> list[Settled]:
        until = self.tick() + seconds

        def extend(entry: _Entry) -> None:
            entry.when = until
            self._leases.add((until, entry.seq, entry.number, entry), self._counts["reserved"])

        results = [self._settle(receipt, extend) for receipt in receipts]
        self.bell.ring()
        return results

    def reload(self, channel: RestingChannel, limit: int | None, ids: Sequence[str] | None) -> int:
        now = self.tick()
        entries = self._chosen(channel, ids)[: None if limit is None else max(limit, 0)]
        for entry in entries:
            del self._resting[channel][entry.message.id]
            entry.message = msgspec.structs.replace(entry.message, attempt=0, deaths=0, note=None)
            entry.due = now
            self._wait(entry)
        self.bell.ring()
        return len(entries)

    def flush(self, channel: Channel, ids: Sequence[str] | None = None) -> int:
        """`Driver.flush`, and with ``ids`` `Driver.forget`."""
        if channel == "reserved":
            raise ValueError("what is reserved is in a worker's hands, and cannot be deleted")
        self.tick()
        entries = self._chosen(channel, ids)
        for entry in entries:
            if channel in self._resting:
                del self._resting[channel][entry.message.id]
            self._remove(entry)
        return len(entries)

    def clear(self) -> None:
        """`Driver.destroy`: only entries are removed, which makes every ticket and receipt outdated."""
        for entry in list(self._entries.values()):
            if entry.channel in self._resting:
                del self._resting[entry.channel][entry.message.id]
            self._remove(entry)

    def cancel(self, id: str) -> bool:  # noqa: A002 - the contract's word
        self.tick()
        entry = self._entries.get(id)
        if entry is None or entry.channel not in ("waiting", "delayed"):
            return False
        self._remove(entry)
        return True

    # Looking.

    def _chosen(self, channel: Channel, ids: Sequence[str] | None = None) -> list[_Entry]:
        """What a channel holds, or those of ``ids`` in it, oldest first."""
        candidates: Iterable[_Entry]
        if ids is not None:
            candidates = [self._entries[id_] for id_ in dict.fromkeys(ids) if id_ in self._entries]
        elif channel in self._resting:
            candidates = self._resting[channel].values()
        else:
            candidates = self._entries.values()
        chosen = [entry for entry in candidates if entry.channel == channel]
        return sorted(chosen, key=_order)

    def peek(self, channel: Channel, limit: int, cursor: str | None, ids: Sequence[str] | None) -> Page:
        now = self.tick()
        entries = self._chosen(channel, ids)
        if cursor is not None:
            when, seq = cursor.split(":")
            entries = [entry for entry in entries if _order(entry) > (float(when), int(seq))]
        shown = entries[: max(limit, 0)]
        messages = [entry.message for entry in shown]
        if channel == "delayed":
            messages = [msgspec.structs.replace(entry.message, delay=entry.due - now) for entry in shown]
        more = len(entries) > len(shown)
        return Page(messages, "{!r}:{}".format(*_order(shown[-1])) if more and shown else None)

    def info(self) -> Info:
        now = self.tick()
        firsts = [ticket for ticket in (self._back.first(), self._first_in_line()) if ticket is not None]
        return Info(**self._counts, oldest_seconds=now - min(firsts)[0] if firsts else None)

    def _first_in_line(self) -> _Ticket | None:
        return next(filter(_good, self._line), None)

    def ready(self) -> bool:
        self.tick()
        return self._counts["waiting"] > 0

    def next_change(self) -> float | None:
        """Seconds until something falls due or a lease ends, if nothing else happens."""
        now = self.tick()
        times = [ticket[0] for ticket in (self._delayed.first(), self._leases.first()) if ticket is not None]
        return min(times) - now if times else None


def _order(entry: _Entry) -> tuple[float, int]:
    return entry.when, entry.seq


class Store:
    """All queues of one backend and its clones, which may be on different threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lock = threading.Lock()
        self._clock = clock
        self._queues: dict[str, Queue] = {}

    def queue(self, prefix: str) -> Queue:
        with self.lock:
            if prefix not in self._queues:
                self._queues[prefix] = Queue(self._clock)
            return self._queues[prefix]

    def wake(self) -> None:
        """Let all who wait look again."""
        with self.lock:
            for queue in self._queues.values():
                queue.bell.ring()
