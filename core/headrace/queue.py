"""One queue as an application sees it: pushing jobs, and looking after what is there.

Owns the way from a job to a message, and what core does for every driver alike: options of
a push, size and delay limits, batches, the push timeout, choosing by job or id. Running
jobs is the business of ``consumer.py``.
"""

import asyncio
import builtins
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

import msgspec

from headrace.config import QueueSettings
from headrace.context import PushCoroutine, require_loop
from headrace.driver import NO_HEADERS, Backend, Capabilities, Channel, Driver, Info, Message, RestingChannel
from headrace.errors import (
    BackendError,
    BackendUnavailable,
    ConfigError,
    InvalidPayload,
    JobError,
    MessageTooLarge,
    PushFailed,
)
from headrace.events import JobPushed
from headrace.job import Delay, Job, OnDuplicate, OnTimeout
from headrace.retry import RetrySeconds

if TYPE_CHECKING:
    from headrace.app import Headrace

T = TypeVar("T")

#: Headers of headrace's own start so; a push may not set them.
RESERVED_HEADER: Final = "headrace-"
#: JSON object of the options that a push stated; they win over the job's and the queue's.
OPTIONS_HEADER: Final = "headrace-options"
#: Seconds of delay still to wait after this hop, where the backend's longest is too short.
REMAINING_HEADER: Final = "headrace-remaining"
#: How many messages are read at a time when a channel is searched by job.
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Listed:
    """A message at rest, with the channel it was found in."""

    channel: Channel
    message: Message

    @property
    def arguments(self) -> Any:
        """The job's fields as plain values; ``None`` where the body is not readable."""
        try:
            return msgspec.json.decode(self.message.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None


class PushOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one push said of its own run; read by the worker."""

    max_retries: int | None = None
    retry_seconds: Any = None
    handle_timeout: float | None = None
    on_timeout: OnTimeout | None = None


class Queue:
    """A named queue of the configuration. Its verbs belong to the event loop that the app was entered on."""

    def __init__(self, app: "Headrace", settings: QueueSettings) -> None:
        self._app = app
        self.settings = settings
        self.name = settings.name
        self._driver: tuple[Backend, Driver] | None = None

    def __repr__(self) -> str:
        return f"<queue {self.name!r} on {self.settings.backend!r}>"

    @property
    def capabilities(self) -> Capabilities:
        """What the queue's backend can do."""
        return self._app.backend(self.settings.backend).capabilities

    @property
    def place(self) -> str:
        """Where the queue's messages are kept, without secrets."""
        return self._app.backend(self.settings.backend).place

    def push(
        self,
        job: Job,
        *,
        delay: Delay | None = None,
        id: str | None = None,  # noqa: A002 - the field's own word
        unique: str | None = None,
        on_duplicate: OnDuplicate | None = None,
        max_retries: int | None = None,
        retry_seconds: RetrySeconds | None = None,
        handle_timeout: float | None = None,
        on_timeout: OnTimeout | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> PushCoroutine:
        """Store a job, and return its message's id once the backend has confirmed it.

        ``delay``: seconds, a timedelta, or an aware datetime; what has passed is due now.
        ``id``: makes repeating the push safe on a backend that is ``idempotent``.
        ``unique``: of one job and key only one message is pending; ``on_duplicate`` says
        whether this push replaces it or keeps it, and the surviving id is returned.
        The other options win over the job's and the queue's own.

        Raises `BackendUnavailable` within the queue's ``push_timeout``, outcome then
        unknown; `MessageTooLarge`, `InvalidPayload`, `CapabilityError` before anything is sent.
        """
        # Not an `async def`: without a loop, nobody would await it and hear of the mistake.
        require_loop("push")
        options = None
        if not (max_retries is None and retry_seconds is None and handle_timeout is None and on_timeout is None):
            options = PushOptions(max_retries, retry_seconds, handle_timeout, on_timeout)
        return self._push(
            job, delay, message_id=id, unique=unique, on_duplicate=on_duplicate, options=options, headers=headers
        )

    async def push_many(self, jobs: Iterable[Job], *, delay: Delay | None = None) -> builtins.list[str]:
        """Store many jobs with as few calls as the backend allows; the ids, in order.

        Raises `PushFailed`, with the ids of those stored, where the backend took only a part.
        """
        seconds = _seconds(delay)
        jobs = list(jobs)
        messages = [self._message(job, seconds) for job in jobs]
        if not messages:
            return []
        results = await self._store(messages)
        failed = {position: each for position, each in enumerate(results) if not isinstance(each, str)}
        stored = [each for each in results if isinstance(each, str)]
        self._emit_pushed(zip(messages, jobs, results, strict=True))
        if failed:
            raise PushFailed(stored, failed)
        return stored

    async def info(self) -> Info:
        """Count every channel; see `Capabilities.counts` for how exact that is."""
        return await (await self.driver()).info()

    async def list(self, channel: Channel, *, limit: int = 100, job: str | None = None) -> builtins.list[Listed]:
        """At most ``limit`` messages of a channel, oldest first; of one job if named. Capability ``peek``."""
        _check_channel(channel, get_args(Channel))
        if limit < 1:
            return []
        found: builtins.list[Listed] = []
        async for message in self._scan(channel, job, limit):
            found.append(Listed(channel, message))
            if len(found) == limit:
                break
        return found

    async def find(self, id: str) -> Listed | None:  # noqa: A002
        """The message of that id in whichever channel it is; ``None`` if it is done or was never there."""
        self.capabilities.require(self.settings.backend, "peek")
        driver = await self.driver()
        for channel in get_args(Channel):
            page = await driver.peek(channel, 1, ids=[id])
            if page.messages:
                return Listed(channel, page.messages[0])
        return None

    async def reload(
        self,
        channel: RestingChannel,
        *,
        limit: int | None = None,
        job: str | None = None,
        ids: Sequence[str] | None = None,
    ) -> int:
        """Move messages of ``failed`` or ``timeout`` back to ``waiting``, oldest first, as if new; how many."""
        _check_channel(channel, get_args(RestingChannel))
        driver = await self.driver()
        if job is None and ids is None:
            return await driver.reload(channel, limit)
        self.capabilities.require(self.settings.backend, "selective")
        if job is None:
            return await driver.reload(channel, limit, ids)
        moved = 0
        async for chosen in self._chosen(channel, job, ids, limit):
            moved += await driver.reload(channel, None, chosen)
        return moved

    async def flush(self, channel: Channel, *, job: str | None = None, ids: Sequence[str] | None = None) -> int:
        """Delete the messages of a channel, or those of one job or of some ids; how many. Not of ``reserved``."""
        _check_channel(channel, tuple(each for each in get_args(Channel) if each != "reserved"))
        driver = await self.driver()
        if job is None and ids is None:
            return await driver.flush(channel)
        self.capabilities.require(self.settings.backend, "selective")
        if job is None:
            return await driver.forget(channel, ids or ())
        deleted = 0
        async for chosen in self._chosen(channel, job, ids, None):
            deleted += await driver.forget(channel, chosen)
        return deleted

    async def cancel(self, id: str) -> bool:  # noqa: A002
        """Remove a message that has not started; false if there is none of that id. Capability ``cancel``."""
        self.capabilities.require(self.settings.backend, "cancel")
        return await (await self.driver()).cancel(id)

    def push_sync(self, job: Job, **options: Any) -> str:
        """As `push`, from code that runs on no event loop. Raises `WrongContext` on a loop's own thread."""
        return self._app.portal.call(lambda app: app.queue(self.name).push(job, **options), "push")

    async def driver(self) -> Driver:
        """The queue's driver, its backend opened if it was not."""
        backend = await self._app.opened(self.settings.backend)
        if self._driver is None or self._driver[0] is not backend:
            self._driver = backend, backend.driver(self.settings.prefix, lease_seconds=self.settings.lease_seconds)
        return self._driver[1]

    def _message(
        self,
        job: Job,
        delay: float,
        *,
        message_id: str | None = None,
        unique: str | None = None,
        on_duplicate: OnDuplicate | None = None,
        options: PushOptions | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """The job as a message, everything checked that can be checked before sending."""
        if not isinstance(job, Job):
            raise JobError(f"push takes a job, not {job!r}; of a @job function, use .job(...) or .push(...)")
        declared = job.job_options
        capabilities = self.capabilities
        body = self._app.codec(type(job)).encode(job)
        if len(body) > capabilities.max_body:
            raise MessageTooLarge(self.settings.backend, len(body), capabilities.max_body)
        if unique is None and declared.unique:
            unique = msgspec.json.encode([getattr(job, field) for field in declared.unique]).decode()
        if unique is not None:
            capabilities.require(self.settings.backend, "unique", f"push {declared.name} without unique")
            unique = f"{declared.name}:{unique}"
        merged = NO_HEADERS
        if headers is not None or options is not None or delay > capabilities.max_delay:
            merged = _headers(headers, options)
            if delay > capabilities.max_delay:
                merged[REMAINING_HEADER] = repr(delay - capabilities.max_delay)
                delay = capabilities.max_delay
        if message_id is not None and (not isinstance(message_id, str) or not message_id):
            raise JobError(f"id is {message_id!r}; it must be a string that is not empty")
        return Message(
            id=new_id() if message_id is None else message_id,
            name=declared.name,
            body=body,
            delay=delay,
            unique_key=unique,
            on_duplicate=on_duplicate or declared.on_duplicate,
            headers=merged,
        )

    async def _push(self, job: Job, delay: Delay | None, **options: Any) -> str:
        message = self._message(job, _seconds(delay), **options)
        (result,) = await self._store([message])
        if not isinstance(result, str):
            raise result
        self._emit_pushed([(message, job, result)])
        return result

    async def _store(self, messages: Sequence[Message]) -> builtins.list[str | BackendError]:
        """Push what is due and delay what is not, in batches; one result per message."""
        results: builtins.list[str | BackendError] = [""] * len(messages)
        size = self.capabilities.max_batch
        for due in (True, False):
            positions = [position for position, each in enumerate(messages) if (each.delay <= 0) is due]
            for start in range(0, len(positions), size):
                chosen = positions[start : start + size]
                try:
                    stored = await self._within(self._send([messages[position] for position in chosen], due))
                except BackendError as error:
                    if len(messages) == 1:
                        raise
                    stored = [error] * len(chosen)
                for position, result in zip(chosen, stored, strict=True):
                    results[position] = result
        return results

    async def _send(self, batch: Sequence[Message], due: bool) -> Sequence[str | BackendError]:
        driver = await self.driver()
        return await (driver.push(batch) if due else driver.delay(batch))

    async def _within(self, call: Awaitable[T]) -> T:
        limit = self.settings.push_timeout
        try:
            async with asyncio.timeout(limit):
                return await call
        except TimeoutError:
            raise BackendUnavailable(
                f"the backend {self.settings.backend!r} at {self.place} gave no answer within {limit:g} s; "
                "whether the push was stored is unknown"
            ) from None

    def _emit_pushed(self, stored: Iterable[tuple[Message, Job, str | BackendError]]) -> None:
        if not self._app.events.hears(JobPushed):
            return
        for message, job, result in stored:
            if result == message.id:
                self._app.events.emit(JobPushed(queue=self.name, worker=None, message=message, job=job))

    async def _scan(self, channel: Channel, job: str | None, limit: int | None) -> AsyncIterator[Message]:
        self.capabilities.require(self.settings.backend, "peek")
        driver = await self.driver()
        cursor: str | None = None
        size = _PAGE if limit is None or job is not None else min(limit, _PAGE)
        while True:
            page = await driver.peek(channel, size, cursor=cursor)
            for message in page.messages:
                if job is None or message.name == job:
                    yield message
            cursor = page.cursor
            if cursor is None:
                return

    async def _chosen(
        self, channel: Channel, job: str, ids: Sequence[str] | None, limit: int | None
    ) -> AsyncIterator[builtins.list[str]]:
        """Ids of a job's messages, a page at a time; all are read before any is moved."""
        wanted = None if ids is None else set(ids)
        found = [each.id async for each in self._scan(channel, job, None) if wanted is None or each.id in wanted]
        for start in range(0, len(found[:limit]), _PAGE):
            yield found[:limit][start : start + _PAGE]


def new_id() -> str:
    """A UUID of version 7 (RFC 9562) as 32 hex digits: in order of time, so that indexes append."""
    value = (time.time_ns() // 1_000_000 << 80) | _random_bits(80)
    value = value & ~(0xF << 76) | (0x7 << 76)
    return f"{value & ~(0x3 << 62) | (0x2 << 62):032x}"


_random = random.Random(os.urandom(32))  # not secret: ids need only differ
_random_bits: Callable[[int], int] = _random.getrandbits
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def _seconds(delay: Delay | None) -> float:
    """Any way to say a delay, as seconds from now; never below 0."""
    if delay is None:
        return 0.0
    if isinstance(delay, datetime):
        if delay.tzinfo is None:
            raise JobError(f"delay is the naive datetime {delay}; give it a timezone")
        delay = delay - datetime.now(UTC)
    if isinstance(delay, timedelta):
        return max(0.0, delay.total_seconds())
    if isinstance(delay, bool) or not isinstance(delay, int | float) or delay != delay or delay == float("inf"):
        raise JobError(f"delay is {delay!r}; it must be seconds, a timedelta or an aware datetime")
    if delay < 0:
        raise JobError(f"delay is {delay!r} seconds; it cannot be negative")
    return float(delay)


def hop(message: Message, longest: float) -> Message:
    """A message that comes from one hop of a delay longer than the backend's, as it goes into the next."""
    headers = dict(message.headers)
    try:
        remaining = max(0.0, float(headers.pop(REMAINING_HEADER)))
    except ValueError:
        remaining = 0.0
    if remaining > longest:
        headers[REMAINING_HEADER] = repr(remaining - longest)
    return msgspec.structs.replace(message, delay=min(remaining, longest), headers=headers)


def _headers(headers: Mapping[str, str] | None, options: PushOptions | None) -> dict[str, str]:
    merged: dict[str, str] = {}
    for key, value in (headers or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise JobError(f"the header {key!r} is {value!r}; names and values must be strings")
        if key.lower().startswith(RESERVED_HEADER):
            raise JobError(f"the header {key!r} is headrace's own")
        merged[key] = value
    if options is not None:
        try:
            merged[OPTIONS_HEADER] = msgspec.json.encode(
                msgspec.convert(msgspec.to_builtins(options), PushOptions)
            ).decode()
        except msgspec.ValidationError as error:
            raise InvalidPayload(f"the push's options: {error}") from None
    return merged


def _check_channel(channel: str, allowed: Sequence[str]) -> None:
    if channel not in allowed:
        raise ConfigError(f"there is no channel {channel!r} to do that with; there are {', '.join(allowed)}")
