"""What a case works with: fresh queues on the backend under test, time, expectations, and a broom.

A `Lab` belongs to one case and one event loop. Everything that it made is removed when the case is over.
"""

import asyncio
import itertools
import secrets
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar
from unittest.mock import patch

import msgspec

from headrace.conformance.harness import Harness
from headrace.conformance.recording import Calls, RecordingDriver
from headrace.conformance.threads import on_another_loop
from headrace.driver import Backend, Capabilities, Channel, Delivery, Driver, Info, Message, in_order
from headrace.errors import HeadraceError

Answer = TypeVar("Answer")

#: Seconds that the lease of a case's deliveries lasts where the case is not about leases.
LONG_LEASE: Final = 60.0

#: Seconds until a wait for something that must come is given up. Generous: it only costs time when a case fails.
PATIENCE: Final = 10.0

#: Seconds that cleaning up may take, in this order: to end what was started, to remove queues, to close backends.
#: Together less than what the runner grants a case beyond its time.
ENDING: Final = 5.0
SWEEPING: Final = 25.0
CLOSING: Final = 5.0

CHANNELS: Final[tuple[Channel, ...]] = ("waiting", "reserved", "delayed", "failed", "timeout")


class Mismatch(AssertionError):
    """What was found is not what the contract says."""

    def __init__(self, about: str, found: object, expected: object) -> None:
        super().__init__(f"{about}: expected {expected}, found {found}")
        self.about = about
        self.found = str(found)
        self.expected = str(expected)


class Lab:
    """The workplace of one case."""

    def __init__(self, harness: Harness, *, long: bool = False, over: threading.Event | None = None) -> None:
        self.harness = harness
        self.long = long
        #: Set when the case is over, or was stopped: for what waits outside its event loop, and is not cancelled.
        self.over = over or threading.Event()
        self.calls = Calls()
        self.backend = harness.backend()
        self.capabilities: Capabilities = self.backend.capabilities
        #: The channels that `Driver.peek` shows, those that `Driver.forget` deletes chosen messages of, and those
        #: that `Driver.flush` empties.
        self.shown: Sequence[Channel] = in_order(self.capabilities.peek)
        self.choosable: Sequence[Channel] = in_order(self.capabilities.selective)
        self.removable: Sequence[Channel] = in_order(self.capabilities.flush)
        self.tick = max(harness.tick, self.capabilities.granularity)
        self.tolerance = self.tick / 5  #: seconds by which two clocks may differ over the short time of a case
        self._prefixes: list[str] = []
        self._prefix_numbers = itertools.count(1)
        self._opened: list[Backend] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._numbers = itertools.count(1)
        self._run = secrets.token_hex(4)

    # Making things.

    async def open(self) -> None:
        """Open the backend. Called before the case."""
        await self._open(self.backend)

    async def clone(self) -> Backend:
        """Another opened backend for the same place, as another process would have."""
        return await self._open(self.backend.clone())

    async def reopen(self) -> None:
        """Close all that is open, and go on with a new backend, as when every process of ours has ended.

        Drivers that were made before are of no more use.
        """
        self.calls.note("everything is closed, and opened again")
        while self._opened:
            await self._opened.pop().close()
        self.backend = self.harness.backend()
        await self.open()

    async def _open(self, backend: Backend) -> Backend:
        self._opened.append(backend)
        await backend.open()
        return backend

    async def shut(self, backend: Backend) -> None:
        """Close a backend before the case is over, as a process that stops would."""
        self.calls.note("a backend is closed")
        self._opened.remove(backend)
        await backend.close()

    async def elsewhere(self, work: Callable[[Backend], Awaitable[Answer]]) -> Answer:
        """What ``work`` makes of a clone that lives on another thread and event loop, as in another process."""
        return await on_another_loop(self.backend, work)

    async def on_threads(self, count: int, work: Callable[[Backend], Awaitable[Answer]]) -> list[Answer]:
        """Run ``work`` side by side on threads, each with an event loop and an opened clone of its own."""
        return await asyncio.gather(*(self.elsewhere(work) for _ in range(count)))

    def prefix(self, text: str = "") -> str:
        """A prefix that nobody else uses, removed after the case. ``text`` becomes part of it."""
        return self.prefixes(text)[0]

    def prefixes(self, *texts: str) -> list[str]:
        """Prefixes that nobody else uses, and that differ in nothing but these texts."""
        number = next(self._prefix_numbers)
        made = [f"{{conform-{self._run}-{number}{text}}}" for text in texts]
        self._prefixes += made
        return made

    def removed(self, prefix: str) -> None:
        """A case has destroyed the queue of this prefix: nobody has to do it after the case."""
        self._prefixes.remove(prefix)

    def queue(
        self,
        prefix: str | None = None,
        *,
        lease_seconds: float = LONG_LEASE,
        on: Backend | None = None,
        title: str = "queue",
    ) -> Driver:
        """A driver whose calls are recorded: of a fresh queue, or of ``prefix``, on ``on`` or the case's backend."""
        driver = (on or self.backend).driver(prefix or self.prefix(), lease_seconds=lease_seconds)
        return RecordingDriver(driver, self.calls, title)

    def message(self, id: str | None = None, **fields: Any) -> Message:  # noqa: A002 - the contract's word
        """A message with an id of its own, unless one is given."""
        fields = {"name": "conformance.Job", "body": b"{}", **fields}
        return Message(id=id or f"m{next(self._numbers)}", **fields)

    def messages(self, count: int, **fields: Any) -> list[Message]:
        return [self.message(**fields) for _ in range(count)]

    # The server, where the harness can do something to it.

    async def restart(self) -> None:
        """End the server without grace, and start it again."""
        self.calls.note("the server is restarted")
        await self.harness.restart()
        self.calls.note("the server is back")

    async def disconnect(self) -> None:
        """Break every connection to the server."""
        self.calls.note("every connection is broken")
        await self.harness.disconnect()

    # Time.

    async def elapse(self, seconds: float) -> None:
        """Let time pass, for the backend and for us."""
        self.calls.note(f"{seconds:g} s pass")
        await asyncio.sleep(seconds)

    @contextmanager
    def wall_clock_moved(self, seconds: float) -> Iterator[None]:
        """Put this process's wall clock forward or back, for all that asks ``time.time``: in a case that is alone."""
        honest = time.time
        self.calls.note(f"the wall clock jumps by {seconds:g} s")
        with patch.object(time, "time", lambda: honest() + seconds):
            yield
        self.calls.note("the wall clock is right again")

    # Doing things that many cases do.

    def start(self, coroutine: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        """Let something run beside the case; ended with it."""
        task = asyncio.create_task(coroutine)
        self._tasks.append(task)
        return task

    async def waiting_pop(self, queue: Driver, *, wait: float = PATIENCE) -> asyncio.Task[Sequence[Delivery]]:
        """A pop of one message that has found nothing and waits. Fails if it does not wait."""
        pop = self.start(queue.pop(1, wait))
        await asyncio.sleep(self.tick)
        self.expect_that(not pop.done(), "a pop that finds nothing", "it has ended", "it waits")
        return pop

    async def take(self, queue: Driver, count: int, *, patience: float = PATIENCE) -> list[Delivery]:
        """Pop until ``count`` deliveries are there: a pop may give fewer than it could.

        Fails if none comes for ``patience`` seconds.
        """
        taken: list[Delivery] = []
        deadline = time.monotonic() + patience
        while len(taken) < count:
            limit = min(count - len(taken), self.capabilities.max_batch)
            if deliveries := await queue.pop(limit, min(1.0, patience)):
                taken += deliveries
                deadline = time.monotonic() + patience
            elif time.monotonic() > deadline:
                break
        self.expect("how many deliveries came", len(taken), count)
        return taken

    async def take_one(self, queue: Driver, *, patience: float = PATIENCE) -> Delivery:
        (delivery,) = await self.take(queue, 1, patience=patience)
        return delivery

    async def drain(self, queue: Driver) -> list[Delivery]:
        """Pop until nothing comes any more."""
        taken: list[Delivery] = []
        while deliveries := await queue.pop(min(100, self.capabilities.max_batch), self.tick):
            taken += deliveries
        return taken

    async def in_batches(self, verb: Any, items: Sequence[Any], *arguments: Any) -> list[Any]:
        """Call a batch verb with any number of items, as many at a time as the backend takes."""
        results: list[Any] = []
        for start in range(0, len(items), self.capabilities.max_batch):
            results += await verb(items[start : start + self.capabilities.max_batch], *arguments)
        return results

    # Expecting.

    def expect(self, about: str, found: object, expected: object) -> None:
        """Fail unless both are equal."""
        if found != expected:
            raise Mismatch(about, _readable(found), _readable(expected))

    def expect_number(self, about: str, found: int, expected: int) -> None:
        """Fail unless reload, flush or forget returned this; where counts are not exact nothing can be said of it."""
        if self.capabilities.counts == "exact":
            self.expect(about, found, expected)

    def expect_that(self, condition: bool, about: str, found: object, expected: str) -> None:
        """Fail unless the condition holds; ``expected`` says it in words."""
        if not condition:
            raise Mismatch(about, _readable(found), expected)

    def expect_same(self, about: str, found: Message, expected: Message) -> None:
        """Fail unless two messages agree in every field, naming those in which they do not."""
        fields = [name for name in Message.__struct_fields__ if getattr(found, name) != getattr(expected, name)]
        if fields:
            raise Mismatch(
                f"{about}, field {' and '.join(fields)}",
                ", ".join(_readable(getattr(found, name)) for name in fields),
                ", ".join(_readable(getattr(expected, name)) for name in fields),
            )

    async def expect_back(self, queue: Driver, sent: Iterable[Message]) -> list[Delivery]:
        """Take as many messages as were sent, and fail unless they are those, in whatever order, and due."""
        expected = {message.id: message for message in sent}
        deliveries = await self.take(queue, len(expected))
        self.expect("the ids that came", sorted(ids(deliveries)), sorted(expected))
        for delivery in deliveries:
            message = msgspec.structs.replace(expected[delivery.message.id], delay=0.0)
            self.expect_same(f"the message {_readable(message.id)}", delivery.message, message)
        return deliveries

    async def expect_nothing(self, about: str, queue: Driver) -> None:
        """Fail if the queue hands something out. Where counts lag behind messages may too, and get a tick to come."""
        wait = 0 if self.capabilities.counts == "exact" else self.tick
        self.expect(f"what is handed out {about}", ids(await queue.pop(1, wait)), [])

    async def expect_counts(self, about: str, queue: Driver, **counts: int) -> None:
        """Hold `Driver.info` against the counts that must be; channels that are not named are empty.

        Exact counts at once, approximate ones within `PATIENCE`; what is unknown is not asked.
        """
        expected: dict[str, int] = {channel: counts.get(channel, 0) for channel in CHANNELS}
        found: Mapping[str, int] = {}
        deadline = time.monotonic() + (0 if self.capabilities.counts == "exact" else PATIENCE)
        while True:
            info = await queue.info()
            found = {name: getattr(info, name) for name in expected if getattr(info, name) is not None}
            if all(expected[name] == count for name, count in found.items()):
                return
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(self.tick)
        known = {name: expected[name] for name in found}
        raise Mismatch(f"the counts {about}", _filled(found), _filled(known))

    @asynccontextmanager
    async def expect_raises(self, about: str, *kinds: type[BaseException]) -> AsyncIterator[None]:
        """Fail unless the block raises one of these errors."""
        names = " or ".join(kind.__name__ for kind in kinds)
        try:
            yield
        except kinds:
            return
        except Exception as error:
            raise Mismatch(about, f"{type(error).__module__}.{type(error).__name__}: {error}", names) from error
        raise Mismatch(about, "no error", names)

    # Cleaning up.

    async def close(self) -> None:
        """End what was started, remove every queue that was made, and close what was opened.

        Raises the first error, after all was tried. Called again it finds nothing left to do.
        """
        errors: list[Exception] = []
        for step, limit in ((self._end, ENDING), (self._sweep, SWEEPING), (self._close_all, CLOSING)):
            clock = asyncio.timeout(limit)
            try:
                async with clock:
                    errors += [each for each in await step() if isinstance(each, Exception)]
            except TimeoutError as error:
                expected = "an end of what was cancelled, of destroy, and of close"
                late = Mismatch("cleaning up", f"it goes on after {limit:g} s", expected)
                errors.append(late if clock.expired() else error)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    async def _end(self) -> Sequence[object]:
        """What they end with is no business of the case's any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return ()

    async def _sweep(self) -> Sequence[object]:
        if not self._prefixes:
            return ()
        prefixes, self._prefixes = self._prefixes, []
        broom = await self._open(self.backend.clone())
        return await asyncio.gather(*(broom.driver(prefix).destroy() for prefix in prefixes), return_exceptions=True)

    async def _close_all(self) -> Sequence[object]:
        opened, self._opened = self._opened, []
        return await asyncio.gather(*(backend.close() for backend in opened), return_exceptions=True)


def ids(deliveries: Iterable[Delivery]) -> list[str]:
    return [delivery.message.id for delivery in deliveries]


def receipts(deliveries: Iterable[Delivery]) -> list[Any]:
    return [delivery.receipt for delivery in deliveries]


def pairs(deliveries: Iterable[Delivery], **changes: Any) -> list[tuple[Any, Message]]:
    """Receipts with their messages, with fields changed: what `Driver.retry` and `Driver.fail` take."""
    return [(each.receipt, msgspec.structs.replace(each.message, **changes)) for each in deliveries]


def _readable(value: object) -> str:
    if isinstance(value, bytes) and len(value) > 100:
        return f"{len(value)} bytes, {value[:20]!r}..."
    if isinstance(value, Counter):
        return _readable(dict(value))
    text = str(value) if isinstance(value, HeadraceError | Info) else repr(value)
    return text if len(text) <= 600 else f"{text[:600]}... ({len(text)} characters)"


def _filled(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "all empty"
