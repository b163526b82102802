"""The Redis driver: the contract's verbs as calls of scripts.

Owns the arguments and answers of the scripts, the cutting of long work into pieces, and what
a cancelled pop gives back. What the scripts do is told in ``scripts/*.lua``.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from headrace.driver import Channel, Delivery, Driver, Info, Message, Page, RestingChannel, Result, Settled
from headrace.errors import BackendError
from headrace_redis import scripts
from headrace_redis.codec import IN_LINE, id_bytes, id_text, pack, unpack
from headrace_redis.opened import Opened
from headrace_redis.scripts import Script
from headrace_redis.standing import StandingPop

#: Items in one call: the server is busy with it for some 5 ms, and others wait.
MAX_BATCH: Final = 1000

#: Bytes of one call or answer, beyond the first message: the server reads a call as a whole before it
#: runs it, and others wait while it copies the bodies. As ``ENOUGH`` of the scripts.
_MOST_BYTES: Final = 4 * 2**20

#: Messages that one piece of a reload or flush moves: 1 to 2 ms, after which others have their turn.
_PIECE: Final = 500

#: Microseconds.
_SECOND: Final = 1_000_000

#: What a receipt has before the element: when it was popped, and how often.
_HEAD: Final = 10

#: An element's place, before its id.
_PLACE: Final = 8

#: Seconds added to a wait for something to fall due, so that the next look is not a moment too early.
_SLACK: Final = 0.0005


T = TypeVar("T")
R = TypeVar("R")


class RedisDriver(Driver):
    """Carries one queue's messages under the keys that begin with its prefix."""

    def __init__(self, opened: Callable[[], Opened], prefix: str, lease_seconds: float) -> None:
        self._opened = opened
        self._prefix = prefix
        self._lease = _microseconds(lease_seconds)
        self._names: dict[tuple[Script, str], tuple[bytes, ...]] = {}

    def _key(self, name: str) -> bytes:
        return f"{self._prefix}:{name}".encode()

    async def _run(
        self,
        script: Script,
        arguments: Sequence[Any],
        *,
        channel: str = "",
        repeatable: bool = False,
        confirmed: bool = False,
    ) -> Any:
        """Run a script with its keys; ``channel`` is the one that a script of any resting channel works on."""
        keys = self._keys(script, channel)
        return await self._opened().server.run(script, keys, arguments, repeatable=repeatable, confirmed=confirmed)

    def _keys(self, script: Script, channel: str = "") -> tuple[bytes, ...]:
        keys = self._names.get((script, channel))
        if keys is None:
            keys = tuple(self._key(channel if name == "channel" else name) for name in script.keys)
            self._names[script, channel] = keys
        return keys

    # Coming in.

    async def push(self, messages: Sequence[Message]) -> list[str | BackendError]:
        if any(message.unique_key is not None for message in messages):
            return await self._store(messages)

        async def send(part: Sequence[Message]) -> list[str]:
            arguments: list[bytes] = []
            for message in part:
                arguments += id_bytes(message.id), pack(message, IN_LINE)
            await self._run(scripts.PUSH, arguments, repeatable=True, confirmed=True)
            return [message.id for message in part]

        return await _in_parts(messages, _bodies(messages), send)

    async def delay(self, messages: Sequence[Message]) -> list[str | BackendError]:
        return await self._store(messages)

    async def _store(self, messages: Sequence[Message]) -> list[str | BackendError]:
        async def send(part: Sequence[Message]) -> list[str]:
            arguments: list[Any] = []
            for message in part:
                flags = 0 if message.delay > 0 or message.unique_key is not None else IN_LINE
                keep = int(message.on_duplicate == "keep")
                arguments += id_bytes(message.id), pack(message, flags), _microseconds(message.delay), keep
            others = await self._run(scripts.STORE, arguments, repeatable=True, confirmed=True)
            survivors = [message.id for message in part]
            for at, survivor in _pairs(others):
                survivors[at] = id_text(survivor)
            return survivors

        return await _in_parts(messages, _bodies(messages), send)

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> list[str | BackendError]:
        async def send(part: Sequence[Message]) -> list[str]:
            arguments: list[bytes] = []
            for message in part:
                arguments += id_bytes(message.id), pack(message)
            await self._run(scripts.REST, arguments, channel=channel, repeatable=True, confirmed=True)
            return [message.id for message in part]

        return await _in_parts(messages, _bodies(messages), send)

    # Handing out.

    async def pop(self, limit: int, wait: float) -> list[Delivery]:
        if limit <= 0:
            return []
        limit = min(limit, MAX_BATCH)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        standing = self._standing()
        answer = await standing.answer_now(limit) if wait <= 0 and standing.is_left else None
        if answer is None:
            answer = await self._take(limit)
        while not isinstance(answer, list):
            remaining = deadline - loop.time()
            if answer == 0:  # there is something, though this look has not found it
                answer = await self._take(limit)
            elif remaining <= 0:
                return []
            else:
                due = _until_due(answer, remaining)
                answer = await standing.answer(limit, min(due, remaining))
                if answer is None and due < remaining:
                    answer = await self._take(limit)
                elif answer is None:
                    return []
        deliveries = _deliveries(answer)
        if len(deliveries) > limit:
            self._give_back(deliveries[limit:])
        return deliveries[:limit]

    async def wait_ready(self, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (answer := await self._run(scripts.LOOK, (), repeatable=True)) != 0:
            remaining = deadline - loop.time()
            due = _until_due(answer, remaining)
            if remaining <= 0:
                return False
            rung = await self._opened().wake(self._key("wake")).wait(min(due, remaining))
            if not rung and due >= remaining:
                return False
        return True

    async def _take(self, limit: int) -> Any:
        """The pop script's answer."""
        call = asyncio.ensure_future(self._run(scripts.POP, (limit, self._lease, 0)))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            self._opened().server.afterwards(self._release_answer(call))
            raise

    def _standing(self) -> StandingPop:
        opened, wake = self._opened(), self._key("wake")

        def give_back(answer: Any) -> "asyncio.Task[Any] | None":
            return self._give_back(_deliveries(answer)) if isinstance(answer, list) else None

        return opened.pop(
            wake,
            self._lease,
            lambda: StandingPop(opened.server, wake, self._keys(scripts.POP), self._lease, give_back),
        )

    async def _end_left_pops(self) -> None:
        """To be awaited before a look at what waits: a pop that nobody awaits any more may have just taken it."""
        await self._opened().end_left_pops(self._key("wake"))

    async def _release_answer(self, call: "asyncio.Future[Any]") -> None:
        with contextlib.suppress(BackendError):
            answer = await call
            if isinstance(answer, list):
                await self._release(_deliveries(answer))

    def _give_back(self, deliveries: Sequence[Delivery]) -> "asyncio.Task[Any]":
        """As if they had not been taken. Nobody need wait for it but `Backend.close`."""
        return self._opened().server.afterwards(self._release(deliveries))

    async def _release(self, deliveries: Sequence[Delivery]) -> None:
        # If it fails, their leases end by themselves.
        with contextlib.suppress(BackendError):
            await self._run(scripts.RELEASE, [delivery.receipt for delivery in deliveries])

    # Settling.

    async def ack(self, receipts: Sequence[Any]) -> list[Result]:
        return _results(len(receipts), await self._run(scripts.ACK, receipts))

    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> list[Result]:
        async def send(part: Sequence[tuple[Any, int, bytes]]) -> list[Result]:
            return _results(len(part), await self._run(scripts.RETRY, [each for item in part for each in item]))

        items = [(receipt, _microseconds(message.delay), pack(message)) for receipt, message in pairs]
        return await _in_parts(items, [len(value) for _, _, value in items], send)

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> list[Result]:
        async def send(part: Sequence[tuple[Any, bytes]]) -> list[Result]:
            arguments = [each for item in part for each in item]
            return _results(len(part), await self._run(scripts.FAIL, arguments, channel=channel))

        items = [(receipt, pack(message)) for receipt, message in pairs]
        return await _in_parts(items, [len(value) for _, value in items], send)

    async def extend(self, receipts: Sequence[Any], seconds: float) -> list[Result]:
        arguments = [_microseconds(seconds), *receipts]
        return _results(len(receipts), await self._run(scripts.EXTEND, arguments, repeatable=True))

    # Moving and deleting.

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        if ids is not None:
            return await self._reload_chosen(channel, limit, ids)
        moved = began = 0
        while limit is None or moved < limit:
            piece = _PIECE if limit is None else min(_PIECE, limit - moved)
            count, more, began = await self._run(scripts.RELOAD, (piece, began), channel=channel)
            moved += count
            if not more:
                break
        return moved

    async def _reload_chosen(self, channel: RestingChannel, limit: int | None, ids: Sequence[str]) -> int:
        _, located = await self._find(channel, ids)
        chosen = [name for _, name, _ in located][: None if limit is None else max(limit, 0)]
        moved = 0
        while chosen:
            count, walked, _ = await self._run(scripts.RELOAD, (0, 0, *chosen[:_PIECE]), channel=channel)
            moved += count
            chosen = chosen[walked:]
        return moved

    async def flush(self, channel: Channel) -> int:
        _refuse_reserved(channel)
        await self._end_left_pops()
        deleted = began = 0
        more = True
        while more:
            count, more, began = await self._run(scripts.FLUSH, (channel, _PIECE, began))
            deleted += count
        return deleted

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the contract's word
        await self._end_left_pops()
        removed, _ = await self._run(scripts.REMOVE, ("pending", id_bytes(id)))
        return bool(removed)

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        _refuse_reserved(channel)
        await self._end_left_pops()
        removed = 0
        names = _names(ids)
        while names:
            count, walked = await self._run(scripts.REMOVE, (channel, *names[:_PIECE]))
            removed += count
            names = names[walked:]
        return removed

    async def destroy(self) -> None:
        """Delete every key of the queue. The server frees their memory beside its other work."""
        await self._opened().server.command("UNLINK", *map(self._key, scripts.KEYS))

    # Looking.

    async def info(self) -> Info:
        await self._end_left_pops()
        answer = await self._run(scripts.INFO, (), repeatable=True)
        waiting, reserved, delayed, failed, timeout, oldest = answer
        return Info(waiting, reserved, delayed, failed, timeout, oldest / _SECOND if oldest >= 0 else None)

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        if limit <= 0:
            return Page([], None)
        await self._end_left_pops()
        size = min(limit, MAX_BATCH)
        last = _read_cursor(cursor)
        if ids is not None:
            now, located = await self._find(channel, ids)
            behind = [each for each in located if each[:2] > last]
            found = await self._read(channel, behind[:size])
            return _page(channel, now, found, found[-1][:2] if len(behind) > size else None)
        while True:
            answer = await self._run(scripts.PEEK, (channel, size, *last), repeatable=True)
            now, last = int(answer[0]), (int(answer[1]), answer[2])
            found = [(int(place), name, value) for place, name, value in _in_threes(answer[3:])]
            if found or last[0] < 0:  # else there were only cancelled ones
                return _page(channel, now, found, last if last[0] >= 0 else None)

    async def _find(self, channel: Channel, ids: Sequence[str]) -> tuple[int, list[tuple[int, bytes, int]]]:
        """The time; and the place, the name and the value's length of each that is in the channel, oldest first."""
        now, located = 0, []
        names = _names(ids)
        while names:
            answer = await self._run(scripts.FIND, (channel, *names[:_PIECE]), repeatable=True)
            now = int(answer[0])
            located += [(int(place), name, length) for place, name, length in _in_threes(answer[2:])]
            names = names[answer[1] :]
        return now, sorted(located)

    async def _read(
        self, channel: Channel, located: Sequence[tuple[int, bytes, int]]
    ) -> list[tuple[int, bytes, bytes | None]]:
        """The place, the name and the value of each; no value if it is gone since it was found."""
        found: list[tuple[int, bytes, bytes | None]] = []
        for part in _parts(located, [length for _, _, length in located]):
            ids = [_id_of(channel, name) for _, name, _ in part]
            values = await self._opened().server.command("HMGET", self._key("messages"), *ids)
            found += [(place, name, value) for (place, name, _), value in zip(part, values, strict=True)]
        return found


def _until_due(change: int, remaining: float) -> float:
    """Seconds until it is worth looking again, as a look has told; what remains, if that knew nothing."""
    return change / _SECOND + _SLACK if change >= 0 else remaining


def _microseconds(seconds: float) -> int:
    return round(seconds * _SECOND)


def _refuse_reserved(channel: Channel) -> None:
    if channel == "reserved":
        raise ValueError("what is reserved is in a worker's hands, and cannot be deleted")


async def _in_parts(
    items: Sequence[T], sizes: Sequence[int], send: Callable[[Sequence[T]], Awaitable[Sequence[R]]]
) -> list[R | BackendError]:
    """Send items in parts of bearable size. What one part met is the result of all its items and later ones.

    Raised if it is the first: then nothing was done, or nobody knows.
    """
    results: list[R | BackendError] = []
    for part in _parts(items, sizes):
        try:
            results += await send(part)
        except BackendError as error:
            if not results:
                raise
            results += [error] * (len(items) - len(results))
            break
    return results


def _bodies(messages: Sequence[Message]) -> list[int]:
    return [len(message.body) for message in messages]


def _parts(items: Sequence[T], sizes: Sequence[int]) -> Iterator[Sequence[T]]:
    """At most `MAX_BATCH` items each, and `_MOST_BYTES` but for one that is larger alone."""
    start = total = 0
    for at, size in enumerate(sizes):
        total += size
        if at - start == MAX_BATCH or (total > _MOST_BYTES and at > start):
            yield items[start:at]
            start, total = at, size
    if start < len(items):
        yield items[start:]


def _deliveries(answer: Sequence[Any]) -> list[Delivery]:
    head, elements, values, again = answer
    once = head + b"\0\1"
    deliveries = [
        Delivery(unpack(id_text(element[_PLACE:]), value), once + element, 1)
        for element, value in zip(elements, values, strict=True)
    ]
    for at, count in _pairs(again):
        receipt = head + count.to_bytes(2, "big") + elements[at]
        deliveries[at] = Delivery(deliveries[at].message, receipt, count)
    return deliveries


def _results(count: int, stale: Sequence[int]) -> list[Result]:
    results: list[Result] = [Settled.DONE] * count
    for at in stale:
        results[at] = Settled.STALE
    return results


def _id_of(channel: Channel, name: bytes) -> bytes:
    """What is reserved goes by its receipt, all else by its id."""
    return name[_HEAD + _PLACE :] if channel == "reserved" else name


def _page(
    channel: Channel,
    now: int,
    found: Sequence[tuple[int, bytes, bytes | None]],
    behind: tuple[int, bytes] | None,
) -> Page:
    """``behind``: where to go on, if there may be more."""
    messages = [
        unpack(id_text(_id_of(channel, name)), value, (place - now) / _SECOND if channel == "delayed" else 0.0)
        for place, name, value in found
        if value is not None  # gone since it was found
    ]
    return Page(messages, f"{behind[0]}:{behind[1].hex()}" if behind is not None else None)


def _read_cursor(cursor: str | None) -> tuple[int, bytes]:
    """Place and name of the last message shown; before all others when there is none."""
    if cursor is None:
        return -1, b""
    place, _, name = cursor.partition(":")
    return int(place), bytes.fromhex(name)


def _names(ids: Sequence[str]) -> list[bytes]:
    """Ids as the server knows them, each of them once."""
    return [id_bytes(each) for each in dict.fromkeys(ids)]


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _in_threes(flat: Sequence[Any]) -> Iterator[tuple[Any, Any, Any]]:
    return zip(flat[::3], flat[1::3], flat[2::3], strict=True)
