"""One queue as an application sees it: pushing jobs, and looking after what is there.

Owns the way from a job to a message, and what core does for every driver alike: options of
a push, size and delay limits, batches, the push timeout, choosing by job or id. Running
jobs is the business of ``consumer.py``.
"""

import asyncio
import builtins
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack, get_args

import msgspec

from headrace.config import QueueSettings
from headrace.context import PushCoroutine, require_loop
from headrace.delays import seconds_of, split
from headrace.driver import NO_HEADERS, Backend, Capabilities, Channel, Driver, Info, Message, RestingChannel, in_order
from headrace.errors import BackendError, BackendUnavailable, ConfigError, JobError, MessageTooLarge, PushFailed
from headrace.events import JobPushed
from headrace.ids import new_id
from headrace.job import Job, JobOptions
from headrace.needs import refuse_too_long
from headrace.options import Delay, OnDuplicate, OnTimeout, PushWords, Schedule, check_words, run_options
from headrace.settings import RunOptions
from headrace.signing import Signer
from headrace.standin import stand_in

if TYPE_CHECKING:
    from headrace.app import Headrace

T = TypeVar("T")

#: What is told of a change that got no answer.
_DOUBT: Final = "whether that was done is unknown"

#: Headers of headrace's own start so; a push may not set them.
RESERVED_HEADER: Final = "headrace-"
#: JSON object of the options that a push stated; they win over the job's and the queue's.
OPTIONS_HEADER: Final = "headrace-options"
#: How many messages are read at a time when a channel is searched, where the backend takes so many.
_PAGE: Final = 500
#: Seconds for the answer to a count, a page, a batch or one message: it takes milliseconds, and
#: who looks after a backend that hangs is told so while still at the screen.
_ANSWER: Final = 30.0
#: Seconds for a verb that moves or deletes a whole channel: a million messages, 2,000 a second.
_WHOLE_CHANNEL: Final = 600.0


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


class Queue:
    """A named queue of the configuration. Its verbs belong to the event loop that the app was entered on."""

    def __init__(self, app: "Headrace", settings: QueueSettings) -> None:
        self._app = app
        self.settings = settings
        self.name = settings.name
        keys = app.config.signing_keys
        #: Signs what is pushed, and verifies what is to be run; ``None`` where nothing is signed.
        self.signer = Signer(keys, settings.prefix) if keys else None
        self._driver: tuple[Backend, Driver] | None = None

    def __repr__(self) -> str:
        return f"<queue {self.name!r} on {self.settings.backend!r}>"

    @property
    def capabilities(self) -> Capabilities:
        """What the queue's backend can do; once it is open, as it knows it then."""
        backend = self._app.backend(self.settings.backend) if self._driver is None else self._driver[0]
        return backend.capabilities

    @property
    def place(self) -> str:
        """Where the queue's messages are kept, without secrets."""
        return self._app.backend(self.settings.backend).place

    def push(self, job: Job, **words: Unpack[PushWords]) -> PushCoroutine:
        """Store a job, and return its message's id once the backend has confirmed it.

        ``delay``: seconds, a timedelta, or an aware datetime; what has passed is due now.
        ``id``: makes repeating the push safe on a backend that is ``idempotent``.
        ``unique``: of one job and key only one message is pending; ``on_duplicate`` says
        whether this push replaces it or keeps it, and the surviving id is returned.
        ``headers``: text that goes with the job, for `current().headers`.
        ``max_retries``, ``retry_seconds``, ``handle_timeout`` and ``on_timeout`` win over the
        job's and the queue's own.

        Raises `BackendUnavailable` within the queue's ``push_timeout``, outcome then
        unknown; `MessageTooLarge`, `JobError`, `CapabilityError` before anything is sent, and
        `ConfigError` for a ``handle_timeout`` above what the backend can hold a delivery.
        """
        # Not an `async def`: without a loop, nobody would await it and hear of the mistake.
        require_loop("push")
        return self._push(job, **words)

    async def push_many(self, jobs: Iterable[Job], *, delay: Delay | None = None) -> builtins.list[str]:
        """Store many jobs with as few calls as the backend allows; the ids, in order.

        Raises `PushFailed` where the backend took only a part: it tells what was stored, what
        was not, and of what that is unknown. Each call to the backend has the queue's
        ``push_timeout``, and none follows one that got no answer.
        """
        seconds = seconds_of(delay)
        jobs = list(jobs)
        messages = [self._message(job, seconds) for job in jobs]
        if not messages:
            return []
        results = await self._store(messages)
        failed = {position: each for position, each in enumerate(results) if not isinstance(each, str)}
        stored = [each for each in results if isinstance(each, str)]
        await self._tell_pushed(messages, jobs, results)
        if failed:
            raise PushFailed(stored, failed)
        return stored

    async def info(self) -> Info:
        """Count every channel; see `Capabilities.counts` for how exact that is."""
        driver = await self._within(self.driver())
        return await self._within(driver.info())

    async def list(self, channel: Channel, *, limit: int = 100, job: str | None = None) -> builtins.list[Listed]:
        """At most ``limit`` messages of a channel, oldest first; of one job if named.

        Raises `CapabilityError` where capability ``peek`` does not have the channel.
        """
        _check_channel(channel, get_args(Channel))
        _check_limit(limit)
        return [Listed(channel, message) async for message in self._scan(channel, job, limit)]

    async def find(self, id: str) -> Listed | None:  # noqa: A002
        """The message of that id in whichever channel it is; ``None`` if it is done or was never there.

        Looks through the channels that capability ``peek`` has, and raises `CapabilityError` if
        there is none: where it has not all of them, ``None`` tells nothing of the others.
        """
        self.capabilities.require(self.settings.backend, "peek")
        driver = await self._within(self.driver())
        for channel in in_order(self.capabilities.peek):
            page = await self._within(driver.peek(channel, 1, ids=[id]))
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
        """Move messages of ``failed`` or ``timeout`` back to ``waiting``, oldest first, as if new; how many.

        Those of one job or of some ids, where capability ``selective`` has the channel, and for a
        job ``peek`` too; else `CapabilityError`. The number is as exact as the backend's counts are.
        """
        _check_channel(channel, get_args(RestingChannel))
        _check_limit(limit)
        _check_ids(ids)
        driver = await self._within(self.driver())
        if job is None and ids is None:
            return await self._within(driver.reload(channel, limit), _WHOLE_CHANNEL, _DOUBT) if limit != 0 else 0
        self.capabilities.require(self.settings.backend, "selective", channel=channel)
        moved = 0
        async for chosen in self._chosen(channel, job, ids, limit):
            left = None if limit is None else limit - moved
            if left != 0:
                moved += await self._within(driver.reload(channel, left, chosen), doubt=_DOUBT)
        return moved

    async def flush(self, channel: Channel, *, job: str | None = None, ids: Sequence[str] | None = None) -> int:
        """Delete the messages of a channel, or those of one job or of some ids; how many. Not of ``reserved``.

        Capabilities and the number are as for `reload`.
        """
        _check_channel(channel, tuple(each for each in get_args(Channel) if each != "reserved"))
        _check_ids(ids)
        driver = await self._within(self.driver())
        if job is None and ids is None:
            self.capabilities.require(self.settings.backend, "flush", channel=channel)
            return await self._within(driver.flush(channel), _WHOLE_CHANNEL, _DOUBT)
        self.capabilities.require(self.settings.backend, "selective", channel=channel)
        deleted = 0
        async for chosen in self._chosen(channel, job, ids, None):
            deleted += await self._within(driver.forget(channel, chosen), doubt=_DOUBT)
        return deleted

    async def cancel(self, id: str) -> bool:  # noqa: A002
        """Remove a message that has not started; false if there is none of that id. Capability ``cancel``."""
        self.capabilities.require(self.settings.backend, "cancel")
        driver = await self._within(self.driver())
        return await self._within(driver.cancel(id), doubt=_DOUBT)

    def push_sync(self, job: Job, **words: Unpack[PushWords]) -> str:
        """As `push`, from code that runs on no event loop. Raises `WrongContext` on a loop's own thread."""
        return self._app.portal.call(lambda app: app.queue(self.name).push(job, **words), "push()")

    async def driver(self) -> Driver:
        """The queue's driver, its backend opened if it was not."""
        if (standing := stand_in()) is not None:
            return standing.driver(self._app, self.settings)
        backend = await self._app.opened(self.settings.backend)
        if self._driver is None or self._driver[0] is not backend:
            self._driver = backend, backend.driver(self.settings.prefix, lease_seconds=self.settings.lease_seconds)
        return self._driver[1]

    def _message(
        self,
        job: Job,
        delay: Delay | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the field's own word
        unique: str | None = None,
        on_duplicate: OnDuplicate | None = None,
        max_retries: int | None = None,
        retry_seconds: Schedule | None = None,
        handle_timeout: float | None = None,
        on_timeout: OnTimeout | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """The job as a message, everything checked that can be checked before sending."""
        if not isinstance(job, Job):
            raise JobError(f"push takes a job, not {job!r}; of a @job function, use .job(...) or .push(...)")
        declared, capabilities = job.job_options, self.capabilities
        seconds = seconds_of(delay)
        if id is not None and (not isinstance(id, str) or not id):
            raise JobError(f"id is {id!r}; it must be a string that is not empty")
        if id is not None:
            _check_text("id", id)
        if on_duplicate not in (None, "replace", "keep"):
            raise JobError(f"on_duplicate is {on_duplicate!r}; it must be 'replace' or 'keep'")
        merged = NO_HEADERS if headers is None else _checked_headers(headers)
        if not (max_retries is None and retry_seconds is None and handle_timeout is None and on_timeout is None):
            stated = {
                "max_retries": max_retries,
                "retry_seconds": retry_seconds,
                "handle_timeout": handle_timeout,
                "on_timeout": on_timeout,
            }
            options = _stated_options(declared, stated)
            push = f"a push of {declared.name}"
            refuse_too_long(push, options.handle_timeout, self.settings.backend, capabilities)
            merged = {**merged, OPTIONS_HEADER: _options_header(options, stated)}
        body = self._app.codec(type(job)).encode(job)
        if len(body) > capabilities.max_body:
            raise MessageTooLarge(self.settings.backend, len(body), capabilities.max_body)
        unique_key = self._unique_key(job, unique)
        if on_duplicate is not None and unique_key is None:
            raise JobError(
                f"on_duplicate is {on_duplicate!r}, but without unique there are no duplicates; "
                f"say unique= too, or declare it of {declared.name}"
            )
        message = Message(
            id=new_id() if id is None else id,
            name=declared.name,
            body=body,
            delay=seconds,
            unique_key=unique_key,
            on_duplicate=on_duplicate or declared.on_duplicate,
            headers=merged,
        )
        if self.signer is not None:
            message = self.signer.sign(message)
        return message if seconds <= capabilities.max_delay else split(message, seconds, capabilities.max_delay)

    def _unique_key(self, job: Job, stated: str | None) -> str | None:
        """The key that a push states, or that the job's fields make; different for different jobs."""
        declared = job.job_options
        if stated is None and declared.unique:
            stated = msgspec.json.encode([getattr(job, field) for field in declared.unique]).decode()
        if stated is None:
            return None
        if not isinstance(stated, str):
            raise JobError(f"unique is {stated!r}; it must be a string")
        _check_text("unique", stated)
        self.capabilities.require(self.settings.backend, "unique", f"push {declared.name} without unique")
        return f"{declared.name}:{stated}"

    async def _push(self, job: Job, **words: Unpack[PushWords]) -> str:
        if words:
            check_words(words)
        message = self._message(job, **words)
        (result,) = await self._store([message])
        if not isinstance(result, str):
            raise result
        await self._tell_pushed([message], [job], [result])
        return result

    async def _store(self, messages: Sequence[Message]) -> builtins.list[str | BackendError]:
        """Push messages, or delay them if they have a delay, which is one for all. A result for each.

        What is wrong with the only message is raised.
        """
        results: builtins.list[str | BackendError] = []
        size = self.capabilities.max_batch
        lost: BackendError | None = None
        for start in range(0, len(messages), size):
            batch = messages[start : start + size]
            if lost is not None:
                results += [lost] * len(batch)
                continue
            try:
                results += await self._within(
                    self._send(batch), self.settings.push_timeout, "whether the push was stored is unknown"
                )
            except BackendError as error:
                if len(messages) == 1:
                    raise
                results += [error] * len(batch)
                if isinstance(error, BackendUnavailable):
                    lost = BackendError(f"not sent, since a batch before it failed: {error}")
        return results

    async def _send(self, batch: Sequence[Message]) -> Sequence[str | BackendError]:
        driver = await self.driver()
        results = await (driver.delay(batch) if batch[0].delay > 0 else driver.push(batch))
        if len(results) != len(batch):
            raise BackendError(
                f"the backend {self.settings.backend!r} returned {len(results)} results for {len(batch)} messages"
            )
        return results

    async def _within(self, call: Awaitable[T], seconds: float | None = None, doubt: str = "") -> T:
        """The door that every verb passes: whatever the backend does, it ends within ``seconds``."""
        limit = _ANSWER if seconds is None else seconds
        try:
            async with asyncio.timeout(limit):
                return await call
        except TimeoutError:
            raise BackendUnavailable(
                f"the backend {self.settings.backend!r} at {self.place} gave no answer within {limit:g} s"
                + (f"; {doubt}" if doubt else "")
            ) from None

    async def _tell_pushed(
        self, messages: Sequence[Message], jobs: Sequence[Job], results: Sequence[str | BackendError]
    ) -> None:
        """Tell listeners, and what stands in for the backends in tests, of what was stored."""
        if self._app.events.hears(JobPushed):
            for message, job, result in zip(messages, jobs, results, strict=True):
                if result == message.id:
                    self._app.events.emit(JobPushed(queue=self.name, worker=None, message=message, job=job))
        if (standing := stand_in()) is not None:
            triples = zip(messages, jobs, results, strict=True)
            stored = [(message, job) for message, job, result in triples if result == message.id]
            await standing.pushed(self._app, self.settings, stored)

    async def _scan(self, channel: Channel, job: str | None, limit: int | None) -> AsyncIterator[Message]:
        """At most ``limit`` messages of a channel, oldest first; of one job if named."""
        self.capabilities.require(self.settings.backend, "peek", channel=channel)
        if limit == 0:
            return
        driver = await self._within(self.driver())
        size = self._page_size()
        if job is None and limit is not None:
            size = min(size, limit)
        cursor: str | None = None
        count = 0
        while True:
            page = await self._within(driver.peek(channel, size, cursor=cursor))
            for message in page.messages:
                if job is None or message.name == job:
                    yield message
                    count += 1
                    if count == limit:
                        return
            cursor = page.cursor
            if cursor is None:
                return

    async def _chosen(
        self, channel: Channel, job: str | None, ids: Sequence[str] | None, limit: int | None
    ) -> AsyncIterator[Sequence[str]]:
        """Ids, or those of a job's messages, a page at a time; all are read before any is moved."""
        if job is not None:
            wanted = None if ids is None else set(ids)
            # With ids, the limit counts only those of the job.
            scan = self._scan(channel, job, limit if wanted is None else None)
            ids = [each.id async for each in scan if wanted is None or each.id in wanted]
        size = self._page_size()
        for start in range(0, len(ids or ()), size):
            yield (ids or ())[start : start + size]

    def _page_size(self) -> int:
        return min(_PAGE, self.capabilities.max_batch)


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise JobError(f"headers is a {type(headers).__name__}; it must be a mapping of strings to strings")
    for key, value in headers.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise JobError(f"the header {key!r} is {value!r}; names and values must be strings")
        if key.lower().startswith(RESERVED_HEADER):
            raise JobError(f"the header {key!r} is headrace's own")
        _check_text("the name of a header", key)
        _check_text(f"the header {key!r}", value)
    return dict(headers)


def _check_text(what: str, text: str) -> None:
    """Refuse what is no text in any encoding, here and once: backends fail at it each in its own way."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        lone = text[error.start]
        raise JobError(
            f"{what} is {text!r}; it cannot be stored as text, for {lone!r} at {error.start} is half a character"
        ) from None


def _stated_options(declared: JobOptions, stated: Mapping[str, Any]) -> RunOptions:
    """What a push states of its run, checked."""
    options = run_options(f"push of {declared.name}", stated)
    if options.on_timeout == "cancel" and not declared.is_async:
        raise JobError(
            f"push of {declared.name}: on_timeout='cancel' needs an async handler, since a thread cannot be "
            f"cancelled; make the one of {declared.source} an 'async def'"
        )
    return options


def _options_header(options: RunOptions, stated: Mapping[str, Any]) -> str:
    """What a push states of its run, as the worker will read it."""
    return msgspec.json.encode({name: getattr(options, name) for name in stated if stated[name] is not None}).decode()


def _check_channel(channel: str, allowed: Sequence[str]) -> None:
    if channel not in allowed:
        raise ConfigError(f"there is no channel {channel!r} to do that with; there are {', '.join(allowed)}")


def _check_ids(ids: Sequence[str] | None) -> None:
    if isinstance(ids, str | bytes):  # a sequence too, whose characters would be taken for ids
        raise TypeError(f"ids is {ids!r}; it must be a list of ids: [{ids!r}]")


def _check_limit(limit: int | None) -> None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise ConfigError(f"limit is {limit!r}; it must be a whole number, 0 or more")


def without_own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What a push was given as ``headers``; none of headrace's own."""
    return {name: value for name, value in headers.items() if not name.startswith(RESERVED_HEADER)}
