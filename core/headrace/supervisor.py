"""Keeps worker processes running: what ``headrace worker`` does.

Owns which places there are, and what is done about all of them: stopping, reloading, adding,
removing, and telling how they are. How one place is kept filled stands in `headrace.place`; what
a process does with jobs is the business of `headrace.worker`, and its own side of what happens
here stands in `headrace.worker_process`. The supervisor takes no jobs, imports none, and holds no
connection, so that there is little that could end it.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from headrace.child import Child
from headrace.errors import BackendError, ConfigError, HeadraceError
from headrace.groups import Group
from headrace.health import Health, Outlet, Phase, health_of
from headrace.log_fields import about_queue
from headrace.logs import LogFormat
from headrace.orders import HURRY, Order
from headrace.place import Place

logger = logging.getLogger("headrace")

#: Seconds that a process has after the second signal: to give its messages back, and no more.
HURRY_SECONDS: Final = 2.0
#: Seconds between two looks at how old and how large processes are.
LOOK_SECONDS: Final = 1.0
#: Seconds between two looks at whether processes show signs of life: as often as these come.
WATCH_SECONDS: Final = 5.0


class Supervisor:
    """Runs the processes of some groups until it is told to stop.

    ``config``: the file that the processes read; ``None`` where there is none.
    ``until_empty``: each process ends when its queues are empty, and the supervisor with the last.
    ``log_format``: of the processes' logs. ``stderr``: a file descriptor for what they write there; by
    default this process' own. ``reread``: the groups as they are configured now, for `reload`; by default
    they stay. ``outlets`` are told how things are.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        config: Path | None,
        until_empty: bool = False,
        log_level: str = "info",
        log_format: LogFormat = "plain",
        stderr: int | None = None,
        reread: Callable[[], Sequence[Group]] | None = None,
        outlets: Sequence[Outlet] = (),
    ) -> None:
        self.until_empty = until_empty
        self.stderr = stderr
        self.children: set[Child] = set()
        self.stopping = asyncio.Event()
        self._groups = groups
        self._config = config
        self._log_level = log_level
        self._log_format: LogFormat = log_format
        self._outlets = outlets
        self._reread = reread or (lambda: self._groups)
        self._places: list[Place] = []
        self._tasks: asyncio.TaskGroup
        self._deserted = asyncio.Event()
        self._reload_asked = asyncio.Event()
        self._reloading = False
        self._changed = asyncio.Event()
        self._signals = 0
        self._refused: HeadraceError | None = None
        self._killed = False

    async def run(self) -> bool:
        """Keep every place filled until `stop`, or until all queues are empty.

        False if a process had to be killed. Raises `ConfigError` or `BackendError`, in its own words,
        when a first process finds the configuration wrong, or its backend refuses it or, with
        ``until_empty``, stays out of reach. Cancelled, it kills what still runs.
        """
        async with asyncio.TaskGroup() as self._tasks:
            for group in self._groups:
                self._add(group, group.processes)
            beside = [self._tasks.create_task(each) for each in (self._upkeep(), self._watch())]
            await self._deserted.wait()
            for each in beside:
                each.cancel()
        if self._refused is not None:
            raise self._refused
        return not self._killed

    # What it is told, by signal handlers on its loop

    def stop(self) -> None:
        """Let the processes end gracefully; called a second time, at once."""
        self._signals += 1
        if self._signals == 1:
            longest = max((each.group.shutdown_timeout for each in self._places), default=0.0)
            logger.info("stopping; handlers have up to %g s to end", longest)
            self._stop_children()
        elif self._signals == 2:
            logger.warning("told to stop a second time: ending at once")
            for child in self.children:
                child.say(HURRY)
            asyncio.get_running_loop().call_later(HURRY_SECONDS, self._kill_children)

    def reload(self) -> None:
        """Replace the processes one by one, by such with fresh code and configuration.

        Where a fresh one cannot work, or the configuration is wrong, that is logged, and the old ones stay.
        """
        self._reload_asked.set()

    def add(self) -> None:
        """Give each group one process more, until the next `reload`."""
        for places in self._present().values():
            group = places[-1].group
            self._add(group, 1, proved=any(each.proved for each in places))
            text = "%s: a process is added, and there are %d now"
            logger.info(text, group.name, len(places) + 1, extra=about_queue(group.name))

    def remove(self) -> None:
        """Drain one process of each group, until the next `reload`. The last one stays."""
        for places in self._present().values():
            name = places[-1].group.name
            if len(places) == 1:
                logger.warning("%s: its last process stays", name, extra=about_queue(name))
            else:
                places[-1].retire()
                text = "%s: a process is removed, and there are %d now"
                logger.info(text, name, len(places) - 1, extra=about_queue(name))

    # What its places ask of it

    def refuse(self, error: ConfigError | BackendError) -> None:
        """A first process cannot work. Every one reads the same configuration: the first speaks for all."""
        if self._refused is None:
            self._refused = error
        elif str(error) != str(self._refused):
            logger.error("%s", error)
        # A backend that failed with ``until_empty`` does not keep the other queues from being emptied.
        if not (self.until_empty and isinstance(error, BackendError)):
            self._stop_children()

    def kill(self, child: Child) -> None:
        """End a process at once, which is no good end for `run`."""
        if child.alive:
            self._killed = True
            text = "killing process %d; its messages come back when their leases end"
            logger.error(text, child.pid, extra=about_queue(child.name))
            child.signal(signal.SIGKILL)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside all else; `run` ends when it has."""
        self._tasks.create_task(work)

    def others_lack(self, place: Place) -> bool:
        """Whether another place of the group has no process that takes jobs, just now."""
        others = (each for each in self._places if each is not place and not each.retired)
        return any(each.lacks for each in others if each.group.queues == place.group.queues)

    def news(self) -> None:
        """Something has changed with a process: each place, and who is told of it, may have something to do."""
        self._changed.set()
        for place in self._places:
            place.look_again()

    def order(self, group: Group) -> Order:
        """What a process of a group is to do."""
        return Order(
            config=None if self._config is None else str(self._config),
            queues=list(group.queues),
            concurrency=group.concurrency,
            max_messages=group.max_messages,
            until_empty=self.until_empty,
            log_level=self._log_level,
            log_format=self._log_format,
        )

    # What probes ask

    def health(self) -> Health:
        """How this and all processes are."""
        phase: Phase = "running"
        if self.stopping.is_set():
            phase = "stopping"
        elif self._reloading:
            phase = "reloading"
        staying = [each for each in self._places if not each.retired]
        return Health(
            live=not any(each.stalled for each in staying),
            ready=phase != "stopping" and bool(staying) and all(each.ready for each in staying),
            phase=phase,
            workers=[health_of(each) for each in sorted(self.children, key=lambda child: child.started)],
        )

    # Its own

    def _stop_children(self) -> None:
        self.stopping.set()
        self.news()
        for place in self._places:
            place.wake()
        for child in self.children:
            child.signal(signal.SIGTERM)

    def _kill_children(self) -> None:
        for child in self.children:
            self.kill(child)

    def _add(self, group: Group, count: int, *, proved: bool = False) -> None:
        for _ in range(count):
            place = Place(self, group, proved=proved)
            self._places.append(place)
            self._tasks.create_task(self._keep_filled(place))

    async def _keep_filled(self, place: Place) -> None:
        try:
            await place.fill()
        finally:
            self._places.remove(place)
            if not self._places:
                self._deserted.set()

    def _present(self) -> dict[tuple[str, ...], list[Place]]:
        """The places that are to stay, by the queues that they serve."""
        found: dict[tuple[str, ...], list[Place]] = {}
        for place in self._places:
            if not place.retired:
                found.setdefault(place.group.queues, []).append(place)
        return found

    async def _watch(self) -> None:
        """Look for processes that show no sign of life, and tell how all are: at once when that changes."""
        every = min([WATCH_SECONDS, *(each.every for each in self._outlets)])
        while True:
            for place in self._places.copy():
                place.look_for_life()
            self._show()
            self._changed.clear()
            # Not by `wait_for`: before Python 3.12 it swallows a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._changed.wait()

    def _show(self) -> None:
        for outlet in self._outlets:
            outlet.show(self.health())

    async def _upkeep(self) -> None:
        """Replace processes, one at a time: that is what keeps the capacity from going down by more than one."""
        while True:
            limited = any(each.group.max_memory or each.group.max_seconds for each in self._places)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if limited else None):
                    await self._reload_asked.wait()
            if self._reload_asked.is_set():
                self._reload_asked.clear()
                self._reloading = True
                # Now, as it may be over before anybody looks.
                self._show()
                await self._reload()
                self._reloading = False
                self._show()
            for place in self._places.copy():
                if (why := place.outworn) is not None:
                    logger.info("%s; it is drained and replaced", why, extra=about_queue(place.group.name))
                    await place.replace(place.group)

    async def _reload(self) -> None:
        logger.info("told to reload; each process is replaced by one with fresh code and configuration")
        try:
            groups = self._reread()
        except HeadraceError as error:
            logger.error("%s; what is there goes on as it is", error)
            return
        present = self._present()
        wanted = {group.queues: group for group in groups}
        for queues, group in wanted.items():
            for place in present.get(queues, [])[: group.processes]:
                if not place.retired and not await place.replace(group):
                    # What one could not do, the others could not.
                    return
        for queues, places in present.items():
            for place in places[wanted[queues].processes if queues in wanted else 0 :]:
                place.retire()
        for queues, group in wanted.items():
            self._add(group, max(0, group.processes - len(present.get(queues, []))), proved=True)
        self._groups = groups
        logger.info("reloaded")
