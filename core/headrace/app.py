"""The application's one object: configuration, backends, queues, workers.

Owns which backends are open on which event loop. What a queue does stands in ``queue.py``,
what a worker does in ``worker.py``.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from headrace import context
from headrace.clock import Clock, MonotonicClock
from headrace.codec import JobCodec
from headrace.config import Config
from headrace.driver import Backend
from headrace.errors import ConfigError, WrongContext
from headrace.events import EventBus, Listener
from headrace.imports import import_module
from headrace.job import Job
from headrace.listeners import load_listeners
from headrace.queue import Queue
from headrace.registry import Registry
from headrace.sync import SyncApp, SyncPortal

if TYPE_CHECKING:
    from headrace.worker import Worker


class Headrace:
    """A configured headrace. Opens what is used, when it is used, and closes it.

    ``async with app:`` binds it to the running event loop and makes it the app that a bare
    ``job.push()`` goes to. It may be entered again later, on another loop.

    ``backends`` are ready-made ones, unopened, by the name that the configuration calls
    them: for those that no plugin can build, such as a wrapper around another.
    """

    #: What its workers time handlers by.
    handler_clock: Clock = MonotonicClock()

    def __init__(
        self, config: Mapping[str, Any] | Config | None = None, *, backends: Mapping[str, Backend] | None = None
    ) -> None:
        if isinstance(config, str | Path):
            raise ConfigError(
                f"a configuration file is read by Headrace.load({str(config)!r}); Headrace() takes a mapping"
            )
        self.config = config if isinstance(config, Config) else Config.from_mapping(config or {})
        self.registry = Registry()
        self.portal = SyncPortal(self._sibling)
        self._backends = dict(backends or {})
        self._codecs: dict[type[Job], JobCodec[Any]] = {}
        self._events: EventBus | None = None
        self._plugin_listeners: list[Listener[Any]] = []
        self._queues: dict[str, Queue] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: dict[str, asyncio.Task[Backend]] = {}
        self._entries = 0
        context.made(self)

    @classmethod
    def load(cls, path: str | Path | None = None) -> Self:
        """An app with the config of ``path``, else of ``HEADRACE_CONFIG``, else found upwards from here."""
        return cls(Config.load(path))

    def __repr__(self) -> str:
        return f"<headrace: {self.config.describe()}>"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if self._entries and self._loop is not loop:
            raise WrongContext("this app is entered on another event loop; give this one a Headrace of its own")
        self._loop = loop
        self._entries += 1
        context.enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entries -= 1
        try:
            if not self._entries:
                await self.close()
        finally:
            context.leave(self)

    async def close(self) -> None:
        """Close what this app has open on this event loop: all of it, and then raises the first error."""
        try:
            # First, since listeners may push.
            if self._events is not None:
                await self._events.drain()
        finally:
            opening, self._opening, self._loop = self._opening, {}, None
            self._queues.clear()
            for task in opening.values():
                task.cancel()
            outcomes = await asyncio.gather(*opening.values(), return_exceptions=True)
            backends = [each for each in outcomes if isinstance(each, Backend)]
            for error in await asyncio.gather(*(each.close() for each in backends), return_exceptions=True):
                if error is not None:
                    raise error

    def queue(self, name: str = "default") -> Queue:
        """The queue of that name. Raises `UnknownQueue`, naming the nearest."""
        try:
            return self._queues[name]
        except KeyError:
            return self._queues.setdefault(name, Queue(self, self.config.queue(name)))

    def sync(self) -> SyncApp:
        """The same app with verbs that block, for code that runs on no event loop."""
        return SyncApp(self.portal)

    def worker(self, *queues: str, concurrency: int | None = None, max_messages: int | None = None) -> "Worker":
        """The consumer engine for one group of queues, served in strict order; ``"default"`` if none is named.

        ``concurrency`` and ``max_messages`` (0: no end) override the configured ones. Raises
        `TypeError` for what is no whole number, and `ValueError` for one that is too small.
        """
        from headrace.worker import Worker

        return Worker(self, queues or ("default",), concurrency=concurrency, max_messages=max_messages)

    @property
    def events(self) -> EventBus:
        """Where listeners hear of jobs; made, with the configured listeners, when first used."""
        if self._events is None:
            self.config.activate()
            self._events = EventBus(load_listeners(self))
            self._hear_plugins(self._events)
        return self._events

    def load_jobs(self) -> None:
        """Import the modules that declare jobs. Raises `ConfigError` naming one that does not import."""
        self.config.activate()
        for name in self.config.imports:
            import_module(name, "imports")

    def backend(self, name: str) -> Backend:
        """The backend of a config entry, not open; raises `ConfigError` if it cannot be had."""
        try:
            return self._backends[name]
        except KeyError:
            backend = self._backends.setdefault(name, self.registry.build(self.config.backend_options(name)))
            if self._events is not None:
                self._hear_plugins(self._events)
            return backend

    def _hear_plugins(self, events: EventBus) -> None:
        """Add the listeners of plugins that were loaded since this was last done."""
        for listener in self.registry.listeners():
            if listener not in self._plugin_listeners:
                self._plugin_listeners.append(listener)
                events.add(listener)

    async def opened(self, name: str) -> Backend:
        """The backend of a config entry, open on this event loop; opened once however many ask."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            raise WrongContext("this app is not entered; put this inside 'async with app:'")
        if self._loop is not loop:
            raise WrongContext("this app is entered on another event loop; give this one a Headrace of its own")
        task = self._opening.get(name)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._opening[name] = loop.create_task(self._open(name))
            # Whoever asked may have stopped waiting; the next one asks anew and is told.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    def codec(self, job_class: type[Job]) -> JobCodec[Any]:
        """How the jobs of one class become bytes; raises `JobError` if they cannot."""
        try:
            return self._codecs[job_class]
        except KeyError:
            return self._codecs.setdefault(job_class, JobCodec(job_class))

    async def _open(self, name: str) -> Backend:
        backend = self.backend(name).clone()
        if self._events is not None:
            # A sibling may have loaded the plugin.
            self._hear_plugins(self._events)
        try:
            await backend.open()
        except BaseException:
            # What half an open has made: threads, sockets. Its own error is the one to be told.
            with contextlib.suppress(Exception):
                await backend.close()
            raise
        return backend

    def _sibling(self, loop: asyncio.AbstractEventLoop) -> "Headrace":
        """This app for another event loop: the same configuration, places and listeners, connections of its own."""
        sibling = Headrace(self.config)
        context.unmade(sibling)
        sibling.registry = self.registry
        sibling._backends = self._backends
        sibling._codecs = self._codecs
        sibling._loop = loop
        # A bus waits for the tasks of its own loop; it cannot be shared.
        sibling._events = EventBus(self.events.listeners)
        sibling._plugin_listeners = self._plugin_listeners.copy()
        return sibling
