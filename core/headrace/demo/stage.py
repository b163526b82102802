"""The demo's run: a scratch folder, an app, worker processes, and what is asked of them.

Everything is the real thing: a configuration file, a `Headrace` that reads it, the
supervisor that ``headrace worker`` runs, and worker processes that it starts. Shows nothing.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, get_args

from headrace.app import Headrace
from headrace.demo import jobs
from headrace.demo.counting import Count, Results, count_file
from headrace.driver import Channel, Info, RestingChannel
from headrace.groups import group_of
from headrace.job import Job
from headrace.logs import PlainFormatter
from headrace.queue import Listed, Queue
from headrace.settings import QueueSettings
from headrace.supervisor import Supervisor

#: A lease of a second, so that what a dead worker held comes back while one watches; the
#: default of 30 is kinder to machines that pause. Other names than "demo" are not shared:
#: on a server, runs of several people must not meet.
_CONFIG: Final = """\
imports = ["headrace.demo.jobs"]
lifespan = "headrace.demo.jobs:lifespan"

[queues.demo]
prefix = "{{demo-{run}}}"
processes = 2
concurrent = {{ limit = 4 }}
lease_seconds = 1
max_redeliveries = 2
shutdown_timeout = 1
"""

#: Jobs of `TROUBLE` that come to rest in ``failed``, and in ``timeout``, until they are mended. The
#: one in ``timeout`` may yet be done, late; but `KillsItsWorker` may end it before, as anything else.
WILL_FAIL: Final = 2
WILL_TIME_OUT: Final = 1
#: Seconds within which each half of the run must be over; far beyond what a slow machine needs.
PATIENCE: Final = 60.0


#: Seconds between two looks at how far the jobs are.
LOOK_SECONDS: Final = 0.1
#: Bytes of the longest log line that is understood.
_LONGEST_LINE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Trouble:
    """A job that makes trouble on purpose."""

    job_class: type[jobs.CountFile]
    does: str
    delay: float = 0.0  #: seconds, of its push


TROUBLE: Final = (
    Trouble(jobs.FailsTwice, "raises an error, is retried, and works at its third run"),
    Trouble(jobs.FailsForGood, "raises an error, and has no retries"),
    Trouble(jobs.StartsLater, "is pushed with a delay of 2 s", delay=2.0),
    Trouble(jobs.RunsTooLong, f"runs for {jobs.TOO_LONG:g} s, of which {jobs.TIMEOUT:g} s are allowed"),
    Trouble(jobs.KillsItsWorker, "kills the process that runs it, each time"),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the jobs are."""

    done: int  #: files that have been counted
    total: int
    info: Info

    @property
    def idle(self) -> bool:
        """Whether nothing is left to run, as far as the backend can know."""
        return not (self.info.waiting or self.info.delayed or self.info.reserved)

    @property
    def channels(self) -> dict[Channel, int]:
        """How many each channel holds, as far as that is known.

        A backend may count what waits only approximately, or late: of that, no more than what has not run.
        """
        known = {channel: getattr(self.info, channel) for channel in get_args(Channel)}
        counts = {channel: count for channel, count in known.items() if count is not None}
        if "waiting" in counts:
            elsewhere = sum(counts.values()) - counts["waiting"]
            counts["waiting"] = max(0, min(counts["waiting"], self.total - self.done - elsewhere))
        return counts


class Late(Exception):
    """The jobs were not done within `PATIENCE`."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for one run, removed with all that is in it however the run ends."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    os.environ[jobs.FOLDER] = str(folder)
    try:
        yield folder
    finally:
        del os.environ[jobs.FOLDER]
        # A process that was killed a moment ago may still have made a file while we removed its folder.
        for _ in range(10):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.05)


class Stage:
    """One run. An async context manager: what it started is stopped, what it stored is deleted."""

    def __init__(self, folder: Path, paths: Sequence[str]) -> None:
        self.config = folder / "headrace.toml"
        self.config.write_text(_CONFIG.format(run=secrets.token_hex(3)), encoding="utf-8")
        self.files = [*paths, *_write_trouble(folder / "files")]
        self.results = Results(folder / "results.db")
        self.app = Headrace.load(self.config)
        self._workers: _Workers | None = None

    @property
    def queue(self) -> Queue:
        return self.app.queue("demo")

    async def __aenter__(self) -> Self:
        settings = self.queue.settings
        self.queue.capabilities.require(settings.backend, "shared", "the demo's workers are processes of their own")
        await self.app.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        try:
            await self.stop_workers()
            await (await self.queue.driver()).destroy()
        finally:
            await self.app.__aexit__(None, None, None)
            self.results.close()

    async def push(self) -> None:
        """Push one job for each file, the difficult ones among them."""
        ordinary = len(self.files) - len(TROUBLE)
        made: list[Job] = [jobs.CountFile(path=path) for path in self.files[:ordinary]]
        for position, (trouble, path) in enumerate(zip(TROUBLE, self.files[ordinary:], strict=True), 1):
            job = trouble.job_class(path=path)
            if trouble.delay:
                await self.queue.push(job, delay=trouble.delay)
            else:
                # Spread over the run, so that each has ordinary jobs for neighbours; the last comes last.
                made.insert(ordinary * position // len(TROUBLE), job)
        await self.queue.push_many(made)

    def start_workers(self, tell: Callable[[str], None]) -> None:
        """Start the processes that the configuration asks for; ``tell`` is given each line of their log."""
        self._workers = _Workers(self.queue.settings, self.config, tell)

    async def stop_workers(self) -> None:
        """Stop them as SIGTERM does, and wait until they are gone."""
        if self._workers is not None:
            workers, self._workers = self._workers, None
            await workers.stop()

    async def until_settled(self, show: Callable[[Progress], None]) -> None:
        """Wait until all is done that can be, and the rest has come to rest."""
        await self._until(
            lambda now: (
                now.idle
                and now.done >= now.total - WILL_FAIL - WILL_TIME_OUT
                and _at_least(now.info.failed, WILL_FAIL)
                and _at_least(now.info.timeout, WILL_TIME_OUT)
            ),
            show,
        )

    async def until_done(self, show: Callable[[Progress], None]) -> None:
        """Wait until every file is counted, and the queue is empty."""
        await self._until(lambda now: now.idle and now.done == now.total, show)

    async def resting(self) -> list[Listed]:
        """What did not end well, where the backend can show it."""
        resting: tuple[RestingChannel, ...] = ("failed", "timeout")
        shown = self.queue.capabilities.peek
        return [listed for channel in resting if channel in shown for listed in await self.queue.list(channel)]

    async def mend_and_reload(self) -> int:
        """Repair what ailed the jobs, and let them run again; how many."""
        jobs.mend()
        return await self.queue.reload("failed") + await self.queue.reload("timeout")

    async def _until(self, reached: Callable[[Progress], bool], show: Callable[[Progress], None]) -> None:
        give_up_at = time.monotonic() + PATIENCE
        while True:
            now = Progress(self.results.done(), len(self.files), await self.queue.info())
            show(now)
            if reached(now):
                return
            if time.monotonic() >= give_up_at:
                raise Late(f"the jobs were not done within {PATIENCE:g} s: {now.done} of {now.total} are")
            if self._workers is not None:
                self._workers.check()
            await asyncio.sleep(LOOK_SECONDS)


class _Workers:
    """The supervisor, in this process, and the log of its processes."""

    def __init__(self, settings: QueueSettings, config: Path, tell: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        reading, self._writing = os.pipe()
        self._supervisor = Supervisor([group_of([settings])], config=config, stderr=self._writing)
        self._handler = LineHandler(tell)
        self._log = logging.getLogger("headrace")
        self._level = self._log.level
        self._log.addHandler(self._handler)
        self._log.setLevel(logging.INFO)
        self._reading = loop.create_task(_read_lines(reading, tell))
        self._running = loop.create_task(self._supervisor.run())

    def check(self) -> None:
        """Raise what ended the supervisor, if anything did."""
        if self._running.done():
            self._running.result()

    async def stop(self) -> None:
        try:
            if not self._running.done():
                self._supervisor.stop()
            await self._running
        finally:
            os.close(self._writing)
            self._log.removeHandler(self._handler)
            self._log.setLevel(self._level)
        # With the last process the other end of the pipe has been closed too.
        await self._reading


class LineHandler(logging.Handler):
    """Hands the supervisor's own log on, line by line, as that of its processes."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell
        self.setFormatter(PlainFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(self.format(record))


async def _read_lines(descriptor: int, tell: Callable[[str], None]) -> None:
    stream = asyncio.StreamReader(limit=_LONGEST_LINE)
    pipe = os.fdopen(descriptor, "rb", 0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), pipe
    )
    try:
        while line := await stream.readline():
            tell(line.decode(errors="replace").rstrip("\n"))
    finally:
        transport.close()


async def plain_counts(paths: Sequence[str]) -> dict[str, Count]:
    """Count the same files one after the other, without a queue."""
    counts: dict[str, Count] = {}
    for path in paths:
        counts[path] = count_file(path)
        # So that Ctrl-C need not wait for the last file.
        await asyncio.sleep(0)
    return counts


def _write_trouble(folder: Path) -> list[str]:
    folder.mkdir()
    paths = []
    for trouble in TROUBLE:
        path = folder / f"{trouble.job_class.__name__}.txt"
        path.write_text(f"{trouble.job_class.__name__} {trouble.does}.\n", encoding="utf-8")
        paths.append(str(path))
    return paths


def _at_least(count: int | None, least: int) -> bool:
    return count is None or count >= least
