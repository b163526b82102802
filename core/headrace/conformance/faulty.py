"""A backend that misbehaves as it is told, around one that does not.

The kit holds the engine against it. So can you, to see what your own jobs do when a broker fails them::

    from headrace import Headrace
    from headrace.conformance import Fault, FaultyBackend

    inner = Headrace({"backend": "memory"}).backend("memory")
    shaky = FaultyBackend(inner, Fault("ack", "fail", when="after", every=3))
    app = Headrace({"backend": "shaky"}, backends={"shaky": shaky})

Here each third ack takes effect, and its answer is lost. With ``shaky.disconnect()`` nothing can be
reached, until ``shaky.heal()``. Faults can be pickled, so that a process which is to be killed by one can be
told of it.

What is lost after a pop had taken effect, be it the answer or the time to take it, keeps its deliveries
reserved until their lease ends, as on a network.
"""

import asyncio
import contextlib
import math
import os
import random
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar, get_args

from headrace.conformance.wrapping import WrappedBackend
from headrace.driver import Backend, Channel, Delivery, Driver, Info, Message, Page, RestingChannel, Result
from headrace.errors import BackendError, BackendUnavailable

T = TypeVar("T")

#: What can go wrong: the verbs of `Driver`, `Backend.open`, and any of them.
Verb = Literal[
    "push",
    "delay",
    "pop",
    "ack",
    "retry",
    "fail",
    "extend",
    "reload",
    "flush",
    "info",
    "destroy",
    "peek",
    "cancel",
    "forget",
    "wait_ready",
    "store",
    "lend",
    "open",
    "*",
]

#: How it goes wrong; see `Fault`.
Deed = Literal["delay", "fail", "duplicate", "reorder", "disconnect", "kill"]

#: Deeds that are done with the call itself, neither before nor after it.
_WITH_THE_CALL: Final = ("duplicate", "reorder")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong: which verb, what becomes of the call, and which calls are struck.

    - ``delay``: it takes ``seconds`` longer.
    - ``fail``: `BackendUnavailable`. Before: nothing was done. After: it was, and nobody is told.
    - ``duplicate``: it is sent twice, and the second answer is given: a client that repeats what got no answer.
    - ``reorder``: what a pop brings is shuffled.
    - ``disconnect``: as `FaultyBackend.disconnect`, for ``seconds``; 0: until `FaultyBackend.heal`.
    - ``kill``: a process ends by SIGKILL: this one, or ``pid``, a server's say, after which the call goes on.

    Of the calls of that verb, those of all drivers and clones together, it strikes the one numbered ``at``
    (the first is 1), ``every`` so many, or each with a ``probability``; if none of these is given, all.
    """

    verb: Verb
    do: Deed
    when: Literal["before", "after"] = "before"
    at: int | None = None
    every: int | None = None
    probability: float | None = None
    seed: int = 0  #: of what is left to chance: the same calls then meet the same faults
    seconds: float = 0.0
    #: A file: of all the processes that have this fault it strikes only the first, and that once; see `claim`.
    once: Path | None = None
    pid: int = 0  #: whom a kill ends; 0: this process

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("verb", self.verb, get_args(Verb)),
            ("do", self.do, get_args(Deed)),
            ("when", self.when, ("before", "after")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
        if sum(each is not None for each in (self.at, self.every, self.probability)) > 1:
            raise ValueError("of at, every and probability only one can be given")
        for name, number in (("at", self.at), ("every", self.every)):
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}; it must be 1 or more")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"probability is {self.probability}; it must be between 0 and 1")
        if not 0 <= self.seconds < math.inf:
            raise ValueError(f"seconds is {self.seconds}; it must be 0 or more")
        if self.do == "reorder" and self.verb != "pop":
            raise ValueError(f"only what a pop brings can be reordered; the verb is {self.verb!r}")
        if self.do in _WITH_THE_CALL and self.when == "after":
            raise ValueError(f"a {self.do} happens with the call, not after it")
        if self.pid < 0 or (self.pid and self.do != "kill"):
            raise ValueError(f"pid is {self.pid}; it must be that of a process, and only a kill has one")

    def concerns(self, verb: str) -> bool:
        """Whether it may strike calls of this verb."""
        return self.verb in (verb, "*")

    def may_strike(self) -> bool:
        """Whether it has not struck yet, anywhere, if it may only once. Asked when it is to: a yes counts as that."""
        return self.once is None or claim(self.once)


def claim(path: Path) -> bool:
    """Make a file, unless it is there: of all who try, in whatever process, one is told that it did.

    The file tells when that was, in seconds on `time.monotonic`, which the processes of one machine share.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_text(repr(time.monotonic()))
    try:
        # A link is made in one step, so that nobody reads half of it.
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


class FaultyBackend(WrappedBackend):
    """Passes on to ``inner`` what its faults let through. Its clones share their count, and are lost with it."""

    def __init__(self, inner: Backend, *faults: Fault) -> None:
        super().__init__(inner)
        self._course = _Course(faults)

    @property
    def happened(self) -> tuple[Fault, ...]:
        """The faults that have struck so far, in that order, each as often as it did."""
        return tuple(self._course.happened)

    def disconnect(self, seconds: float = 0.0) -> None:
        """Let all calls fail with `BackendUnavailable`, and those that run: for ``seconds``; 0: until `heal`.

        From any thread. A call that runs is cancelled: it has taken effect or has not. Deliveries keep their leases.
        """
        self._course.disconnect(seconds)

    def heal(self) -> None:
        """Let calls through again."""
        self._course.heal()

    async def open(self) -> None:
        await self._course.run("open", super().open)

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> Driver:
        return _FaultyDriver(super().driver(prefix, lease_seconds=lease_seconds), self._course)

    def _around(self, inner: Backend) -> Self:
        clone = type(self)(inner)
        clone._course = self._course
        return clone


class _Course:
    """What has happened so far, to a backend and its clones, on whatever threads they are."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.happened: list[Fault] = []
        self._lock = threading.Lock()
        self._faults = [(fault, random.Random(fault.seed)) for fault in faults]
        self._calls = [0] * len(faults)
        self._lost_until = -math.inf  #: on `time.monotonic`
        self._running: set[tuple[asyncio.AbstractEventLoop, asyncio.Timeout]] = set()

    async def run(self, verb: Verb, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, with the faults that strike it."""
        struck = self._struck(verb)
        for fault, _ in struck:
            if fault.when == "before" and fault.do not in _WITH_THE_CALL:
                await self._strike(fault, f"{verb} was not sent")
        answer = await self._connected(call)
        for fault, chance in struck:
            if fault.do == "duplicate" and fault.may_strike():
                self.happened.append(fault)
                answer = await self._connected(call)
            elif fault.do == "reorder" and fault.may_strike():
                self.happened.append(fault)
                answer = _shuffled(answer, chance)
        for fault, _ in struck:
            if fault.when == "after":
                await self._strike(fault, f"the answer to {verb} was lost")
        return answer

    def disconnect(self, seconds: float) -> None:
        with self._lock:
            self._lost_until = time.monotonic() + seconds if seconds else math.inf
            running = tuple(self._running)
        for loop, scope in running:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(_end_now, scope)

    def heal(self) -> None:
        with self._lock:
            self._lost_until = -math.inf

    def _struck(self, verb: str) -> list[tuple[Fault, random.Random]]:
        """The faults that strike this call, which is counted for each that it concerns."""
        with self._lock:
            found = []
            for place, (fault, chance) in enumerate(self._faults):
                if not fault.concerns(verb):
                    continue
                self._calls[place] += 1
                number = self._calls[place]
                if fault.at is not None:
                    strikes = number == fault.at
                elif fault.every is not None:
                    strikes = number % fault.every == 0
                else:
                    strikes = fault.probability is None or chance.random() < fault.probability
                if strikes:
                    found.append((fault, chance))
            return found

    async def _strike(self, fault: Fault, what: str) -> None:
        if not fault.may_strike():
            return
        self.happened.append(fault)
        if fault.do == "delay":
            await asyncio.sleep(fault.seconds)
        elif fault.do == "kill":
            os.kill(fault.pid or os.getpid(), signal.SIGKILL)
        else:
            if fault.do == "disconnect":
                self.disconnect(fault.seconds)
            raise BackendUnavailable(f"a fault was asked for: {what}")

    async def _connected(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call unless the connection is lost, and as long as it is not."""
        # A timeout cancels in the same task, so that a pop can give back what it has.
        scope = asyncio.timeout(None)
        try:
            async with scope:
                with self._watched(scope):
                    return await call()
        except TimeoutError:
            if scope.expired():
                raise BackendUnavailable("a fault was asked for: the connection was lost during the call") from None
            raise

    @contextlib.contextmanager
    def _watched(self, scope: asyncio.Timeout) -> Iterator[None]:
        entry = (asyncio.get_running_loop(), scope)
        with self._lock:
            if time.monotonic() < self._lost_until:
                raise BackendUnavailable("a fault was asked for: there is no connection")
            self._running.add(entry)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(entry)


def _end_now(scope: asyncio.Timeout) -> None:
    with contextlib.suppress(RuntimeError):  # the call has ended by itself
        scope.reschedule(0.0)


def _shuffled(answer: Any, chance: random.Random) -> Any:
    return chance.sample(answer, len(answer))


class _FaultyDriver(Driver):
    """Passes every call on to ``driver``, by way of the course."""

    def __init__(self, driver: Driver, course: _Course) -> None:
        self._driver = driver
        self._run = course.run

    async def push(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        return await self._run("push", lambda: self._driver.push(messages))

    async def delay(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        return await self._run("delay", lambda: self._driver.delay(messages))

    async def pop(self, limit: int, wait: float) -> Sequence[Delivery]:
        return await self._run("pop", lambda: self._driver.pop(limit, wait))

    async def ack(self, receipts: Sequence[Any]) -> Sequence[Result]:
        return await self._run("ack", lambda: self._driver.ack(receipts))

    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> Sequence[Result]:
        return await self._run("retry", lambda: self._driver.retry(pairs))

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> Sequence[Result]:
        return await self._run("fail", lambda: self._driver.fail(pairs, channel))

    async def extend(self, receipts: Sequence[Any], seconds: float) -> Sequence[Result]:
        return await self._run("extend", lambda: self._driver.extend(receipts, seconds))

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        return await self._run("reload", lambda: self._driver.reload(channel, limit, ids))

    async def flush(self, channel: Channel) -> int:
        return await self._run("flush", lambda: self._driver.flush(channel))

    async def info(self) -> Info:
        return await self._run("info", lambda: self._driver.info())

    async def destroy(self) -> None:
        await self._run("destroy", lambda: self._driver.destroy())

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        return await self._run("peek", lambda: self._driver.peek(channel, limit, cursor=cursor, ids=ids))

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the contract's word
        return await self._run("cancel", lambda: self._driver.cancel(id))

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        return await self._run("forget", lambda: self._driver.forget(channel, ids))

    async def wait_ready(self, seconds: float) -> bool:
        return await self._run("wait_ready", lambda: self._driver.wait_ready(seconds))

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> Sequence[str | BackendError]:
        return await self._run("store", lambda: self._driver.store(messages, channel))

    async def lend(self, channel: Channel, limit: int) -> Sequence[Delivery]:
        return await self._run("lend", lambda: self._driver.lend(channel, limit))
