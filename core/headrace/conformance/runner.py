"""Runs cases, each in a thread and an event loop of its own, within its time limit, whatever the backend does.

Owns the verdict: an expectation that failed, an error of the backend, a harness that raises, a call that
never ends. None of them keeps the other cases from running.
"""

import asyncio
import concurrent.futures
import contextlib
import fnmatch
import inspect
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace.conformance.case import Case, all_cases
from headrace.conformance.harness import Harness
from headrace.conformance.lab import Lab, Mismatch
from headrace.conformance.outcome import Outcome, Status
from headrace.conformance.recording import BrokenForm

#: Seconds beyond its time limit that a case gets to be cancelled and to clean up. What has not ended
#: then blocks its thread: it is left behind, since Python cannot end it.
GRACE: Final = 40.0

#: Calls of a traceback that a report shows: the outermost, from the case into the backend, and the innermost,
#: which may be deep in a client library.
OUTER_CALLS: Final = 4
INNER_CALLS: Final = 2

#: Of the kit's own files only the cases say anything to an author.
_KIT: Final = Path(__file__).parent


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
    return Running(harness, cases, long=long, at_once=at_once, began=began).outcomes()


def run_case(harness: Harness, case: Case, *, long: bool = False) -> Outcome:
    """Run one case. Never raises: what goes wrong is the outcome."""
    return _Attempt(harness, case, long).run()


class Running:
    """What `run_cases` does, for whoever has to stop it from another thread."""

    def __init__(
        self, harness: Harness, cases: Iterable[Case], *, long: bool, at_once: int, began: Callable[[Case], None]
    ) -> None:
        self._harness = harness
        self._cases = list(cases)
        self._long = long
        self._at_once = at_once
        self._began = began
        self._lock = threading.Lock()
        self._is_stopped = False
        self._attempts: set[_Attempt] = set()
        self._processors = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Run the cases; to be called once. When it ends, in whatever way, none runs any more."""
        together = [case for case in self._cases if self._at_once > 1 and not case.alone]
        pool = concurrent.futures.ThreadPoolExecutor(max(self._at_once, 1), thread_name_prefix="headrace-conform")
        try:
            for future in concurrent.futures.as_completed([pool.submit(self._run, case) for case in together]):
                if (outcome := future.result()) is not None:
                    yield outcome
            for case in self._cases:
                # On the pool too: waiting for a future can be interrupted, running a case cannot.
                if case not in together and (outcome := pool.submit(self._run, case).result()) is not None:
                    yield outcome
        finally:
            self.stop()
            pool.shutdown(wait=True)

    def stop(self) -> None:
        """Start no further case, and cancel those that run, which then clean up; returns at once. From any thread."""
        with self._lock:
            self._is_stopped = True
            running = tuple(self._attempts)
        for attempt in running:
            attempt.cancel()

    def _run(self, case: Case) -> Outcome | None:
        """A case's outcome; none if it was stopped before it began."""
        with self._processors if case.processes else contextlib.nullcontext():
            return self._run_now(case)

    def _run_now(self, case: Case) -> Outcome | None:
        attempt = _Attempt(self._harness, case, self._long)
        with self._lock:
            if self._is_stopped:
                return None
            self._attempts.add(attempt)
        try:
            self._began(case)
            return attempt.run()
        finally:
            with self._lock:
                self._attempts.discard(attempt)


class _Attempt:
    """One run of one case, in a folder, a thread and an event loop of its own."""

    def __init__(self, harness: Harness, case: Case, long: bool) -> None:
        self._harness = copy(harness)  # cases that run side by side have different folders
        self._case = case
        self._long = long
        self._limit = case.time_limit * (case.long_factor if long else 1)
        self._lab: Lab | None = None
        self._over = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None  #: on the loop, until cleaning up begins
        self._outcome: Outcome | None = None

    def run(self) -> Outcome:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="headrace-conform-", ignore_cleanup_errors=True) as folder:
            self._harness.folder = Path(folder)
            thread = threading.Thread(target=self._to_its_end, name=f"headrace-case-{self._case.name}", daemon=True)
            thread.start()
            self._over.wait(self._limit)
            thread.join(GRACE)
            outcome = self._outcome or self._hung(thread)
        return msgspec.structs.replace(outcome, seconds=round(time.monotonic() - began, 3))

    def cancel(self) -> None:
        """End the case before its time, from any thread; harmless when it has ended. It cleans up all the same."""
        # In this order, and the other way round where the loop begins: one of the two sees what the other did.
        self._over.set()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _to_its_end(self) -> None:
        try:
            self._attempt()
        finally:
            self._over.set()

    def _attempt(self) -> None:
        try:
            lab = self._lab = Lab(self._harness, long=self._long, over=self._over)
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
                self._without_loop(lab)
        except BaseException as error:
            self._outcome = self._failed("", error)
        else:
            self._outcome = self._told("passed")

    def _without_loop(self, lab: Lab) -> None:
        proved = False
        try:
            self._case.run(lab)
            proved = True
        finally:
            asyncio.run(self._clean_up(lab, proved=proved))

    async def _in_loop(self, lab: Lab) -> None:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        if self._over.is_set():
            self._end()
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
            self._task = None
            self._over.set()
            await self._clean_up(lab, proved=proved)

    async def _clean_up(self, lab: Lab, *, proved: bool) -> None:
        try:
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
        details = _shown(traceback.extract_tb(error.__traceback__))
        return self._told("failed", reason=f"{place}: {text}" if place else f"raised {text}", details=details)

    def _hung(self, thread: threading.Thread) -> Outcome:
        """The outcome of a case whose thread has not ended: where it is stuck."""
        frame = sys._current_frames().get(thread.ident or 0)
        reason = f"hangs: it blocks its thread, {GRACE:g} s after it was over, or after its limit of {self._limit:g} s"
        return self._told("failed", reason=reason, details=_shown(traceback.extract_stack(frame)) if frame else None)

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


def _shown(calls: traceback.StackSummary) -> str:
    """The calls that lead from a case to where it ended, without the kit's own and those beneath it."""
    ours = [at for at, call in enumerate(calls) if Path(call.filename).is_relative_to(_KIT)]
    cases = [at for at in ours if Path(calls[at].filename).is_relative_to(_KIT / "cases")]
    begun = min(cases, default=max(ours, default=-1) + 1)
    told = [calls[at] for at in range(begun, len(calls)) if at in cases or at not in ours]
    if len(told) <= OUTER_CALLS + INNER_CALLS:
        return "".join(traceback.format_list(told)).rstrip()
    outer, inner = traceback.format_list(told[:OUTER_CALLS]), traceback.format_list(told[-INNER_CALLS:])
    left_out = f"  ... {len(told) - OUTER_CALLS - INNER_CALLS} calls left out\n"
    return "".join([*outer, left_out, *inner]).rstrip()
