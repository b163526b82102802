"""The Redis driver: the contract's verbs as calls of scripts.

Owns the arguments and answers of the scripts, the cutting of long work into pieces, and what
a cancelled pop gives back. What the scripts do is told in ``scripts/*.lua``.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from headrace.driver import Channel, Delivery, Driver, Info, Message, Page, RestingChannel, Result, Settled
from headrace.errors import BackendError
from headrace_redis import scripts
from headrace_redis.codec import IN_LINE, id_bytes, id_text, pack, unpack
from headrace_redis.opened import Opened
from headrace_redis.scripts import Script
from headrace_redis.standing import StandingPop

#: Items in one call: the server is busy with it for some 5 ms, and others wait.
MAX_BATCH: Final = 1000

#: Bytes of one call, beyond the first message: the server reads a call as a whole before it
#: runs it, and others wait while it copies the bodies.
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

        return await _in_parts(messages, send)

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

        return await _in_parts(messages, send)

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> list[str | BackendError]:
        async def send(part: Sequence[Message]) -> list[str]:
            arguments: list[bytes] = []
            for message in part:
                arguments += id_bytes(message.id), pack(message)
            await self._run(scripts.REST, arguments, channel=channel, repeatable=True, confirmed=True)
            return [message.id for message in part]

        return await _in_parts(messages, send)

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
        arguments: list[Any] = []
        for receipt, message in pairs:
            arguments += receipt, _microseconds(message.delay), pack(message)
        return _results(len(pairs), await self._run(scripts.RETRY, arguments))

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> list[Result]:
        arguments: list[Any] = []
        for receipt, message in pairs:
            arguments += receipt, pack(message)
        return _results(len(pairs), await self._run(scripts.FAIL, arguments, channel=channel))

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
            count, began = await self._run(scripts.RELOAD, (piece, began), channel=channel)
            moved += count
            if count < piece:
                break
        return moved

    async def _reload_chosen(self, channel: RestingChannel, limit: int | None, ids: Sequence[str]) -> int:
        _, located = await self._find(channel, ids)
        chosen = [name for _, name in located][: None if limit is None else max(limit, 0)]
        moved = 0
        for piece in _pieces(chosen):
            count, _ = await self._run(scripts.RELOAD, (0, 0, *piece), channel=channel)
            moved += count
        return moved

    async def flush(self, channel: Channel) -> int:
        _refuse_reserved(channel)
        deleted = began = 0
        more = True
        while more:
            count, more, began = await self._run(scripts.FLUSH, (channel, _PIECE, began))
            deleted += count
        return deleted

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the contract's word
        return bool(await self._run(scripts.REMOVE, ("pending", id_bytes(id))))

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        _refuse_reserved(channel)
        removed = 0
        for piece in _pieces([id_bytes(each) for each in dict.fromkeys(ids)]):
            removed += await self._run(scripts.REMOVE, (channel, *piece))
        return removed

    async def destroy(self) -> None:
        """Delete every key of the queue. The server frees their memory beside its other work."""
        await self._opened().server.command("UNLINK", *map(self._key, scripts.KEYS))

    # Looking.

    async def info(self) -> Info:
        answer = await self._run(scripts.INFO, (), repeatable=True)
        waiting, reserved, delayed, failed, timeout, oldest = answer
        return Info(waiting, reserved, delayed, failed, timeout, oldest / _SECOND if oldest >= 0 else None)

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        if limit <= 0:
            return Page([], None)
        size = min(limit, MAX_BATCH)
        last = _read_cursor(cursor)
        # One more than is shown tells whether there is another page.
        if ids is None:
            now, *rest = await self._run(scripts.PEEK, (channel, size + 1, *last), repeatable=True)
            found = [(int(place), name, value) for place, name, value in _in_threes(rest)]
        else:
            now, located = await self._find(channel, ids)
            chosen = [each for each in located if each > last][: size + 1]
            values = await self._values(channel, [name for _, name in chosen])
            found = [(place, name, value) for (place, name), value in zip(chosen, values, strict=True)]
        return _page(channel, int(now), found, size)

    async def _find(self, channel: Channel, ids: Sequence[str]) -> tuple[int, list[tuple[int, bytes]]]:
        """The time, and the place and name of each that is in the channel, oldest first."""
        now, located = 0, []
        for piece in _pieces([id_bytes(each) for each in dict.fromkeys(ids)]):
            now, *rest = await self._run(scripts.FIND, (channel, *piece), repeatable=True)
            located += [(int(place), name) for place, name in _pairs(rest)]
        return now, sorted(located)

    async def _values(self, channel: Channel, names: Sequence[bytes]) -> list[bytes | None]:
        if not names:
            return []
        ids = [_id_of(channel, name) for name in names]
        values: list[bytes | None] = await self._opened().server.command("HMGET", self._key("messages"), *ids)
        return values


def _until_due(change: int, remaining: float) -> float:
    """Seconds until it is worth looking again, as a look has told; what remains, if that knew nothing."""
    return change / _SECOND + _SLACK if change >= 0 else remaining


def _microseconds(seconds: float) -> int:
    return round(seconds * _SECOND)


def _refuse_reserved(channel: Channel) -> None:
    if channel == "reserved":
        raise ValueError("what is reserved is in a worker's hands, and cannot be deleted")


async def _in_parts(
    messages: Sequence[Message], send: Callable[[Sequence[Message]], Awaitable[Sequence[str]]]
) -> list[str | BackendError]:
    """Send messages in parts of bearable size. What one part met is the result of all its messages and later ones."""
    survivors: list[str | BackendError] = []
    for part in _parts(messages):
        try:
            survivors += await send(part)
        except BackendError as error:
            if not survivors:
                raise
            survivors += [error] * (len(messages) - len(survivors))
            break
    return survivors


def _parts(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    start = size = 0
    for at, message in enumerate(messages):
        size += len(message.body)
        if at - start == MAX_BATCH or (size > _MOST_BYTES and at > start):
            yield messages[start:at]
            start, size = at, len(message.body)
    yield messages[start:]


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


def _page(channel: Channel, now: int, found: Sequence[tuple[int, bytes, bytes | None]], size: int) -> Page:
    shown = found[:size]
    messages = [
        unpack(id_text(_id_of(channel, name)), value, (place - now) / _SECOND if channel == "delayed" else 0.0)
        for place, name, value in shown
        if value is not None  # gone since it was found
    ]
    if len(found) <= size:
        return Page(messages, None)
    place, name, _ = shown[-1]
    return Page(messages, f"{place}:{name.hex()}")


def _read_cursor(cursor: str | None) -> tuple[int, bytes]:
    """Place and name of the last message shown; before all others when there is none."""
    if cursor is None:
        return -1, b""
    place, _, name = cursor.partition(":")
    return int(place), bytes.fromhex(name)


def _pieces(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (items[start : start + _PIECE] for start in range(0, len(items), _PIECE))


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _in_threes(flat: Sequence[Any]) -> Iterator[tuple[Any, Any, Any]]:
    return zip(flat[::3], flat[1::3], flat[2::3], strict=True)
