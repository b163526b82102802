"""The directory that holds the queues, as one opened backend uses it: its threads, its drafts, its clock."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec
from headrace.errors import BackendError, BackendUnavailable

from headrace_directory.clock import Clock, nanoseconds
from headrace_directory.files import synchronize, time_of, unused, won

T = TypeVar("T")

#: Seconds after which a draft is taken for one that a process left behind.
DRAFT_SECONDS = 3600.0


class Place:
    """One directory, opened and closed."""

    def __init__(self, root: Path, poll_seconds: float) -> None:
        self.root = root
        self.poll_seconds = poll_seconds
        self.clock = Clock()
        self._threads: ThreadPoolExecutor | None = None
        self._disk = ThreadPoolExecutor(16, "headrace-directory-disk")  # starts threads when they are needed

    async def open(self) -> None:
        self._threads = ThreadPoolExecutor(4, "headrace-directory")
        try:
            await self.run(self._prepare)
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        drafts = self.root / "drafts"
        self.root.mkdir(exist_ok=True)
        drafts.mkdir(exist_ok=True)
        self.clock.start(self.root, self.draft())
        for draft in drafts.iterdir():
            if time_of(draft) < time.time_ns() - nanoseconds(DRAFT_SECONDS):
                won(shutil.rmtree if draft.is_dir() else Path.unlink, draft)

    def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads:
            threads.shutdown()
        self._disk.shutdown()

    def draft(self) -> Path:
        """Where something may be written, or removed, that nobody is to see yet, or any more."""
        return unused(self.root / "drafts")

    def synchronize(self, paths: Iterable[Path]) -> None:
        """Let files or folders outlive a power cut; all at once, which the disk does in the time of a few."""
        list(self._disk.map(synchronize, paths))

    async def run(self, work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Work in a thread. Cancelled, the call waits until that has ended, and undoes it if it can."""
        if self._threads is None:
            raise BackendUnavailable(f"{self.root} is not open")
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            with self.translated():
                return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            if running.exception() is None and undo:
                with suppress(OSError):  # then leases end by themselves
                    undo(running.result())
            raise

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of files as the contract's."""
        try:
            yield
        except OSError as error:
            raise BackendUnavailable(f"{self.root}: {error}") from error
        except msgspec.MsgspecError as error:
            raise BackendError(f"{self.root} holds a damaged message: {error}") from error
