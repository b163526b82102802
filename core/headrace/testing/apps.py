"""Apps for tests: any configuration, with every queue in memory and its time in the test's hands."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, runtime_checkable

from headrace import context
from headrace.app import Headrace
from headrace.clock import Clock
from headrace.config import Config
from headrace.driver import Backend
from headrace.events import JobEvent, listen
from headrace.queue import Queue
from headrace.registry import Registry
from headrace.testing.blocking import refuse_loop, run_blocking
from headrace.testing.clock import FakeClock
from headrace.testing.outcomes import Ran, Run, run_of
from headrace.worker import Worker

#: What says how an app is configured: a mapping, a file, a configuration that was read; or nothing,
#: for what is found upwards from the working directory.
Configuration = Mapping[str, Any] | str | Path | Config | None

#: The backend whose time can be another's: it is the reference that all others are held against.
_BACKEND: Final = "memory"
#: Seconds of a lease that no test outlives.
_LASTING: Final = 100 * 365 * 24 * 3600.0
#: Seconds of real time between two looks at whether the workers are done: little beside a test.
_LOOK: Final = 0.001
#: Seconds of real time for which handlers are waited for after a clock was moved. Beyond that they
#: most likely wait for the test.
_PATIENCE: Final = 1.0
#: How many runs a test means at most, unless it says so: more are jobs that push one another for ever.
MOST_RUNS: Final = 10_000


@runtime_checkable
class _Clocked(Protocol):
    """A backend that can be had on another clock."""

    def with_clock(self, clock: Callable[[], float]) -> Backend: ...

    def clock_moved(self) -> None: ...


def app(config: Configuration = None, *, clock: FakeClock | None = None, leases: bool = False) -> "MemoryApp":
    """An app as ``config`` describes it, but with all queues in memory and on a clock that stands still.

    Without ``config``, that which is found upwards from the working directory. Jobs, queues,
    middleware, lifespan and listeners are as configured; backends are neither loaded nor reached.

    ``clock`` moves delays, retries and ``handle_timeout``. With ``leases`` it moves leases too: to
    advance past ``lease_seconds`` while a handler runs is then what a stalled worker looks like,
    and the job is delivered again. Without, workers keep what they have, as living ones do.
    """
    return MemoryApp(read_config(config), clock or FakeClock(), leases=leases)


def read_config(config: Configuration) -> Config:
    """The configuration that is meant. Raises `ConfigError`."""
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        return Config.from_mapping(config)
    return Config.load(config)


class MemoryApp(Headrace):
    """An app whose queues are in memory. Made by `app`.

    ``with app:`` makes it the app that a bare push goes to, on whatever event loop, or on
    none; ``async with app:`` does so as for any other app.
    """

    def __init__(
        self, config: Config, clock: FakeClock, *, leases: bool = False, handler_clock: Clock | None = None
    ) -> None:
        """``handler_clock``: what workers time handlers by, if not ``clock``."""
        names = {config.backend, *(each.backend for each in config.queues.values())}
        self._memories = {name: _memory(clock) for name in names}
        super().__init__(config, backends=self._memories)
        self.clock = clock
        self.handler_clock = handler_clock or clock
        self._leases = leases
        self._named: dict[str, None] = dict.fromkeys(config.queues)
        self._working: list[Worker] = []
        self._runs: list[Run] | None = None
        clock.follow(self)

    def __enter__(self) -> Self:
        context.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        context.leave(self)
        self.portal.close()

    def queue(self, name: str = "default") -> Queue:
        queue = super().queue(name)
        self._named.setdefault(name)
        if not self._leases and queue.settings.lease_seconds != _LASTING:
            queue.settings = dataclasses.replace(queue.settings, lease_seconds=_LASTING)
        return queue

    async def opened(self, name: str) -> Backend:
        """The backend, which needs no opening: so the queues serve every event loop, with the app entered or not."""
        return self.backend(name)

    def worker(self, *queues: str, concurrency: int | None = None, max_messages: int | None = None) -> Worker:
        return _TrackedWorker(
            self, queues or ("default",), concurrency=concurrency, max_messages=max_messages, working=self._working
        )

    @property
    def queue_names(self) -> list[str]:
        """The queues that are configured, and those that were asked for beside them."""
        return list(self._named)

    async def run_due(
        self, *queues: str, concurrency: int = 1, raise_errors: bool = True, limit: int = MOST_RUNS
    ) -> Ran:
        """Run all that is due now, and what it pushes that is due at once, as a worker would; what became of it.

        Of all queues, or of those that are named, in strict order. One job after the other, unless
        ``concurrency`` says otherwise. What is delayed, retries among it, waits for the clock.

        Raises the error of the first job that failed for good, once all have run, unless
        ``raise_errors`` is false; and `AssertionError` after ``limit`` runs.
        """
        ran = await self._run(queues or tuple(self.queue_names), concurrency, limit, leap=False)
        if raise_errors:
            ran.raise_errors()
        return ran

    def run_due_sync(
        self, *queues: str, concurrency: int = 1, raise_errors: bool = True, limit: int = MOST_RUNS
    ) -> Ran:
        """As `run_due`, from code that runs on no event loop."""
        refuse_loop("run_due()")
        return run_blocking(
            lambda: self.run_due(*queues, concurrency=concurrency, raise_errors=raise_errors, limit=limit)
        )

    async def run_all(self, *, concurrency: int = 1, raise_errors: bool = True, limit: int = MOST_RUNS) -> Ran:
        """As `run_due`, on all queues; whenever nothing is due, the clock leaps to what is next, until all is done."""
        ran = await self._run(tuple(self.queue_names), concurrency, limit, leap=True)
        if raise_errors:
            ran.raise_errors()
        return ran

    async def _run(self, names: Sequence[str], concurrency: int, limit: int, *, leap: bool) -> Ran:
        runs = self._recorded()
        first = len(runs)
        async with self:
            while True:
                # Again and again: `failed` may push, and a worker whose slots are all overrun ends early.
                while not await self._quiet(names):
                    if len(runs) - first >= limit:
                        raise AssertionError(str(Ran(runs[first:])) + "\nand it goes on: do jobs push themselves?")
                    await self._work(names, concurrency, limit - (len(runs) - first))
                pause = await self._until_next(names) if leap else None
                if pause is None:
                    return Ran(tuple(runs[first:]))
                self.clock.advance(pause)

    async def _work(self, names: Sequence[str], concurrency: int, limit: int) -> None:
        """Let a worker work until nothing is due, or so many messages were handled."""
        worker = self.worker(*names, concurrency=concurrency, max_messages=limit)
        running = asyncio.create_task(worker.run())
        try:
            while not running.done() and not await self._quiet(names):
                await asyncio.wait((running,), timeout=_LOOK)
        finally:
            worker.stop()
            await running

    async def _quiet(self, names: Sequence[str]) -> bool:
        """Whether nothing is due on these queues, nor in a worker's hands."""
        for name in names:
            info = await self.queue(name).info()
            if info.waiting or info.reserved:
                return False
        return True

    async def _until_next(self, names: Sequence[str]) -> float | None:
        """Seconds until something falls due; ``None`` if nothing is delayed."""
        delayed = [each for name in names for each in await self.queue(name).list("delayed", limit=1)]
        return min((each.message.delay for each in delayed), default=None)

    def _recorded(self) -> list[Run]:
        """Every run of this app's workers from now on."""
        if self._runs is None:
            runs = self._runs = []

            @listen(JobEvent)
            def note(event: JobEvent) -> None:
                run = run_of(event)
                if run is not None:
                    runs.append(run)

            self.events.add(note)
        return self._runs

    # Following the clock.

    def clock_moved(self) -> None:
        """Wake the workers that wait."""
        for memory in self._memories.values():
            assert isinstance(memory, _Clocked)
            memory.clock_moved()

    async def settled(self) -> None:
        """Wait until this app's workers have done what is due, or for as long as patience lasts."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + _PATIENCE
        await asyncio.sleep(_LOOK)  # timers that fired call back, and workers that were made begin
        while self._working and loop.time() < give_up_at:
            if await self._quiet([queue.name for worker in self._working for queue in worker.queues]):
                return
            await asyncio.sleep(_LOOK)


class _TrackedWorker(Worker):
    """A worker that its app knows of while it runs."""

    def __init__(
        self,
        app: MemoryApp,
        queues: Sequence[str],
        *,
        concurrency: int | None,
        max_messages: int | None,
        working: list[Worker],
    ) -> None:
        super().__init__(app, queues, concurrency=concurrency, max_messages=max_messages)
        self._working = working

    async def run(self, *, until_empty: bool = False) -> int:
        self._working.append(self)
        try:
            return await super().run(until_empty=until_empty)
        finally:
            self._working.remove(self)


def _memory(clock: FakeClock) -> Backend:
    """The reference backend on a clock, found as a configuration would find it."""
    options = Config.from_mapping({}, environ={}).backend_options(_BACKEND)
    backend = Registry().build(options)
    assert isinstance(backend, _Clocked)
    return backend.with_clock(clock)
