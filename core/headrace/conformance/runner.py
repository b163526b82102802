"""Runs cases, each in a thread and an event loop of its own, within its time limit, whatever the backend does.

Owns the verdict: an expectation that failed, an error of the backend, a harness that raises, a call that
never ends. None of them keeps the other cases from running.
"""

import asyncio
import concurrent.futures
import fnmatch
import inspect
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from copy import copy
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec

from headrace.conformance.case import Case, all_cases
from headrace.conformance.harness import Harness
from headrace.conformance.lab import Lab, Mismatch
from headrace.conformance.outcome import Outcome, Status
from headrace.conformance.recording import BrokenForm

#: Seconds beyond its time limit that a case gets to be cancelled and to clean up. What has not ended
#: then blocks its thread: it is left behind, since Python cannot end it.
GRACE: Final = 15.0

#: Lines of a traceback that a report shows: the innermost, which are the backend's.
TRACEBACK_LINES: Final = 4


class UnknownCase(ValueError):
    """No case has that name."""


class Overrun(AssertionError):
    """A case did not end within its time limit."""


def select(names: Sequence[str] = ()) -> tuple[Case, ...]:
    """All cases, or those of these names, which may have wildcards as files' have. Raises `UnknownCase`."""
    cases = all_cases()
    chosen: set[str] = set()
    for name in names:
        matching = {case.name for case in cases if fnmatch.fnmatchcase(case.name, name)}
        if not matching:
            raise UnknownCase(name)
        chosen |= matching
    return tuple(case for case in cases if not names or case.name in chosen)


def run_cases(
    harness: Harness,
    cases: Iterable[Case],
    *,
    long: bool = False,
    at_once: int = 1,
    began: Callable[[Case], None] = lambda case: None,
) -> Generator[Outcome, None, None]:
    """Run cases, ``at_once`` of them side by side but for those that must be alone; outcomes in the order of their end.

    ``began`` is called, on some thread, when a case is started. Leaving the iteration early, by
    Ctrl-C too, cancels what runs and lets it clean up.
    """
    attempts: list[_Attempt] = []

    def run(case: Case) -> Outcome:
        began(case)
        attempt = _Attempt(harness, case, long)
        attempts.append(attempt)
        return attempt.run()

    waiting = list(cases)
    together = [case for case in waiting if not case.alone] if at_once > 1 else []
    pool = concurrent.futures.ThreadPoolExecutor(max(at_once, 1), thread_name_prefix="headrace-conform")
    try:
        for future in concurrent.futures.as_completed([pool.submit(run, case) for case in together]):
            yield future.result()
        for case in waiting:
            if case not in together:
                # On the pool too: waiting for a future can be interrupted, running a case cannot.
                yield pool.submit(run, case).result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for attempt in attempts:
            attempt.cancel()
        pool.shutdown(wait=True)


def run_case(harness: Harness, case: Case, *, long: bool = False) -> Outcome:
    """Run one case. Never raises: what goes wrong is the outcome."""
    return _Attempt(harness, case, long).run()


class _Attempt:
    """One run of one case, in a folder, a thread and an event loop of its own."""

    def __init__(self, harness: Harness, case: Case, long: bool) -> None:
        self._harness = copy(harness)  # cases that run side by side have different folders
        self._case = case
        self._long = long
        self._limit = case.time_limit * (case.long_factor if long else 1)
        self._lab: Lab | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._outcome: Outcome | None = None

    def run(self) -> Outcome:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="headrace-conform-", ignore_cleanup_errors=True) as folder:
            self._harness.folder = Path(folder)
            thread = threading.Thread(target=self._attempt, name=f"headrace-case-{self._case.name}", daemon=True)
            thread.start()
            thread.join(self._limit + GRACE)
            outcome = self._outcome or self._hung(thread)
        return msgspec.structs.replace(outcome, seconds=round(time.monotonic() - began, 3))

    def cancel(self) -> None:
        """End the case before its time; harmless when it has ended."""
        loop, task = self._loop, self._task
        if loop is not None and task is not None and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)

    def _attempt(self) -> None:
        try:
            lab = self._lab = Lab(self._harness, long=self._long)
            obstacle = self._case.obstacle(lab.capabilities, self._harness, long=self._long)
        except Exception as error:
            self._outcome = self._failed("the harness could not make a backend", error)
            return
        if obstacle:
            self._outcome = self._told("skipped", reason=obstacle)
            return
        try:
            if inspect.iscoroutinefunction(self._case.run):
                asyncio.run(self._in_loop(lab))
            else:
                self._case.run(lab)
        except BaseException as error:
            self._outcome = self._failed("", error)
        else:
            self._outcome = self._told("passed")

    async def _in_loop(self, lab: Lab) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        proved = False
        clock = asyncio.timeout(self._limit)
        try:
            async with clock:
                await lab.open()
                await self._case.run(lab)  # type: ignore[misc]
            proved = True
        except TimeoutError as error:
            if clock.expired():
                raise Overrun(f"was not done after {self._limit:g} s") from error
            raise
        finally:
            try:
                async with asyncio.timeout(GRACE / 2):
                    await lab.close()
            except Exception:
                # What a case found goes before what cleaning up after it meets.
                if proved:
                    raise

    def _failed(self, place: str, error: BaseException) -> Outcome:
        if isinstance(error, Mismatch):
            return self._told("failed", reason=error.about, expected=error.expected, found=error.found)
        if isinstance(error, BrokenForm | Overrun):
            return self._told("failed", reason=str(error))
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        details = "".join(traceback.format_tb(error.__traceback__)[-TRACEBACK_LINES:]).rstrip()
        return self._told("failed", reason=f"{place}: {text}" if place else f"raised {text}", details=details)

    def _hung(self, thread: threading.Thread) -> Outcome:
        """The outcome of a case whose thread has not ended: where it is stuck."""
        frame = sys._current_frames().get(thread.ident or 0)
        reason = f"hangs: it blocks its thread, and did not end {GRACE:g} s after its limit of {self._limit:g} s"
        return self._told("failed", reason=reason, details=_stack(frame))

    def _told(self, status: Status, **fields: Any) -> Outcome:
        case = self._case
        calls = self._lab.calls.shown() if self._lab and status == "failed" else []
        return Outcome(
            case=case.name,
            promise=case.promise.key,
            sentence=case.sentence,
            status=status,
            needs=list(case.needs),
            lacks=list(case.lacks),
            calls=calls,
            **fields,
        )


def _stack(frame: FrameType | None) -> str | None:
    return "".join(traceback.format_stack(frame)[-TRACEBACK_LINES:]).rstrip() if frame else None
