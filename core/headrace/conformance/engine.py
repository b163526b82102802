"""A whole headrace on the backend under test: what the cases about the engine work with.

Owns an app whose configuration is in code, the record of its events, and the ledger of its jobs.
Nothing here trusts counts to tell when work is done: not every backend has any.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from headrace.app import Headrace
from headrace.config import Config
from headrace.conformance.jobs import QUEUE, Noting
from headrace.conformance.lab import LONG_LEASE, PATIENCE, Lab, Mismatch
from headrace.conformance.ledger import Ledger
from headrace.conformance.wrapping import RecordingBackend
from headrace.driver import Backend, Delivery, Driver
from headrace.events import Event, Listener
from headrace.job import Job
from headrace.queue import Queue
from headrace.worker import Worker

E = TypeVar("E", bound=Event)

#: What the configuration calls the backend under test.
BACKEND: Final = "tested"

#: Seconds that a pop may wait: whole, since some servers count so, and short, since some cannot be interrupted.
POP_TIMEOUT: Final = 1.0

#: Seconds between looks at what a case waits for.
LOOK_EVERY: Final = 0.02


def make_app(backend: Backend, prefixes: Mapping[str, str], settings: Mapping[str, Any]) -> Headrace:
    """An app whose queues, by name, have these prefixes on ``backend``, and all of them these settings."""
    shared = {"pop_timeout": POP_TIMEOUT, "lease_seconds": LONG_LEASE, "queue_length_seconds": 0, **settings}
    config = {
        "backend": BACKEND,
        "listeners": [],
        "queues": {name: {"prefix": prefix, **shared} for name, prefix in prefixes.items()},
    }
    return Headrace(Config.from_mapping(config, environ={}), backends={BACKEND: backend})


class Engine:
    """An app for one case: ``async with Engine(lab, max_retries=2) as engine``."""

    def __init__(
        self, lab: Lab, *, backend: Backend | None = None, queues: Sequence[str] = (QUEUE,), **settings: Any
    ) -> None:
        """``backend``: one around the lab's; ``settings``: those of each queue."""
        self.lab = lab
        self.settings = settings
        #: Seconds until a wait for what must come is given up; it may have to come back by its lease first.
        self.patience = PATIENCE + float(settings.get("lease_seconds", 0.0))
        self.prefixes = {name: lab.prefix() for name in queues}
        self.app = make_app(RecordingBackend(backend or lab.backend, lab.calls, "engine"), self.prefixes, settings)
        self.ledger = Ledger(lab.harness.folder / f"{self.prefixes[queues[0]].strip('{}')}.ledger")
        self.events: list[Event] = []
        self._running: list[asyncio.Task[int]] = []
        self.app.events.add(Listener((Event,), self.events.append))

    async def __aenter__(self) -> Self:
        await self.app.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.app.portal.close()
        await self.app.__aexit__(kind, error, trace)

    @property
    def queue(self) -> Queue:
        """The only queue, or the first."""
        return self.app.queue(next(iter(self.prefixes)))

    @property
    def driver(self) -> Driver:
        """That queue as a case sees it: on the lab's own backend, past all that is around it."""
        return self.lab.queue(self.prefixes[self.queue.name])

    def job(self, kind: type[Noting], key: str, **fields: Any) -> Job:
        """A job that writes in this engine's ledger."""
        return kind(ledger=str(self.ledger.path), key=key, **fields)

    async def push(self, kind: type[Noting], keys: Iterable[str], **fields: Any) -> list[str]:
        """Push a job for each key; their ids."""
        return await self.queue.push_many([self.job(kind, key, **fields) for key in keys])

    async def push_one(self, kind: type[Noting], key: str, **fields: Any) -> str:
        """Push one job as applications do; raises what that raises."""
        return await self.queue.push(self.job(kind, key, **fields))

    def heard(self, *types: type[E]) -> list[E]:
        """The events of these types so far."""
        return [each for each in self.events if isinstance(each, types)]

    @property
    def ran(self) -> dict[str, int]:
        """How often each job ran to its end."""
        return dict(self.ledger.counts("ran"))

    def expect_ran_once(self, keys: Iterable[str]) -> None:
        """Fail unless these jobs, and no others, ran to their end, each one time."""
        self.lab.expect("how often each job ran", self.ran, dict.fromkeys(keys, 1))

    @asynccontextmanager
    async def working(self, **options: Any) -> AsyncIterator[Worker]:
        """A worker of all queues, which is stopped at the end: gracefully, or at once if something went wrong."""
        worker = self.app.worker(*self.prefixes, **options)
        running = asyncio.create_task(worker.run())
        self._running.append(running)
        try:
            yield worker
        except BaseException:
            worker.stop()  # and once more below, which means at once
            raise
        finally:
            self._running.remove(running)
            worker.stop()
            await asyncio.gather(running, return_exceptions=True)
        running.result()

    async def work_until(self, about: str, condition: Callable[[], Any], **options: Any) -> None:
        """Have a worker work until a condition holds."""
        async with self.working(**options):
            await self.until(about, condition)

    async def work_off(self, keys: Iterable[str], **options: Any) -> None:
        """Have a worker work until every one of these jobs has run to its end."""
        expected = set(keys)
        await self.work_until("the jobs that ran", lambda: expected <= set(self.ledger.keys("ran")), **options)

    async def finish(self, seconds: float) -> None:
        """Have a worker work until nothing is left but what rests.

        ``seconds``: when all that others held has come back, for backends whose counts cannot be trusted to tell.
        """
        if self.lab.capabilities.counts != "exact":
            async with self.working():
                await self.lab.elapse(seconds)
        if self.lab.capabilities.counts != "unknown":
            await self.app.worker(*self.prefixes).run(until_empty=True)

    async def until(self, about: str, condition: Callable[[], Any], *, patience: float | None = None) -> None:
        """Wait for what must come. Fails, with what the ledger and the events tell, if it does not."""
        patience = self.patience if patience is None else patience
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                raise Mismatch(f"{about}, after {patience:g} s", self.told(), "it has happened")
            for running in self._running:
                if running.done():
                    running.result()
            await asyncio.sleep(LOOK_EVERY)

    def told(self) -> str:
        """What happened, in short."""
        entries = [f"{each.word} {each.key}" for each in self.ledger.entries()]
        events = Counter(type(each).__name__ for each in self.events)
        return f"ledger: {_shortened(entries)}; events: {_shortened([f'{events[name]} {name}' for name in events])}"


def expect_uncounted(lab: Lab, deliveries: Sequence[Delivery]) -> None:
    """Fail unless it has cost these messages nothing to have been handed out before."""
    for each in deliveries:
        found = (each.message.attempt, each.message.deaths, each.count)
        lab.expect(f"attempt, deaths and count of {each.message.id}", found, (0, 0, 1))


def _shortened(texts: Sequence[str]) -> str:
    if not texts:
        return "nothing"
    return ", ".join(texts if len(texts) <= 20 else [*texts[:8], f"... {len(texts)} in all ...", *texts[-8:]])


def keys_of(count: int, stem: str = "") -> list[str]:
    """Names for so many jobs."""
    return [f"{stem}{number}" for number in range(count)]
