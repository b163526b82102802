"""What stands in for the backends while a test fakes them: it records pushes, and keeps them to be run.

Each configuration that pushes gets a *twin*: an app with the same jobs and queues whose backends
are in memory. So what a push may say is checked as in production, by the backends that are
configured; and ids, unique keys, `info` and `cancel` behave.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from headrace.app import Headrace
from headrace.clock import MonotonicClock
from headrace.config import Config, QueueSettings
from headrace.driver import Driver, Message
from headrace.job import Job
from headrace.standin import StandIn
from headrace.testing.apps import Configuration, MemoryApp, read_config
from headrace.testing.blocking import run_blocking
from headrace.testing.clock import FakeClock
from headrace.testing.records import Pushed, record_of

T = TypeVar("T")


class Recorder(StandIn):
    """Records what is pushed by any app, on any thread. ``config``: for bare pushes where no app is entered."""

    def __init__(self, config: Configuration) -> None:
        self._config = config
        self._lock = threading.RLock()
        self._app: Headrace | None = None
        self._records: list[Pushed[Job]] = []
        self._twins: list[MemoryApp] = []

    @property
    def records(self) -> list[Pushed[Job]]:
        """Every push, oldest first."""
        with self._lock:
            return self._records.copy()

    @property
    def twins(self) -> list[MemoryApp]:
        """The apps that hold what was pushed."""
        with self._lock:
            return self._twins.copy()

    def clear(self) -> None:
        """Forget every push, and what waits to be run."""
        with self._lock:
            self._records.clear()
            self._twins.clear()

    def app(self) -> Headrace:
        with self._lock:
            if self._app is None:
                self._app = Headrace(read_config(self._config))
            return self._app

    def driver(self, app: Headrace, settings: QueueSettings) -> Driver:
        twin = self._twin(app.config)
        own = twin.queue(settings.name).settings
        return twin.backend(own.backend).driver(own.prefix, lease_seconds=own.lease_seconds)

    async def pushed(self, app: Headrace, settings: QueueSettings, stored: Sequence[tuple[Message, Job]]) -> None:
        records = [record_of(settings.name, each, app.codec(type(job)).decode(each.body)) for each, job in stored]
        with self._lock:
            self._records += records

    def call(
        self, make_app: Callable[[asyncio.AbstractEventLoop], Headrace], action: Callable[[Headrace], Awaitable[T]]
    ) -> T:
        """Do a blocking call in the calling thread: there is nothing to connect to, and so no thread to keep."""

        async def act() -> T:
            app = make_app(asyncio.get_running_loop())
            try:
                return await action(app)
            finally:
                await app.close()  # listeners of the push may still run

        return run_blocking(act)

    def _twin(self, config: Config) -> MemoryApp:
        with self._lock:
            for twin in self._twins:
                if twin.config is config:
                    return twin
            # Handlers are timed by the machine's clock: theirs is the only time that really passes.
            twin = MemoryApp(config, FakeClock(), handler_clock=MonotonicClock())
            self._twins.append(twin)
            return twin
