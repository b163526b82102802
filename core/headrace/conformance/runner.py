"""Runs cases, each in a thread and an event loop of its own, within its time limit, whatever the backend does.

Owns the verdict: an expectation that failed, an error of the backend, a harness that raises, a call that
never ends. None of them keeps the other cases from running.
"""

import asyncio
import inspect
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from types import FrameType
from typing import Any, Final

from headrace.conformance.case import Case, all_cases
from headrace.conformance.harness import Harness
from headrace.conformance.lab import Lab, Mismatch
from headrace.conformance.outcome import Outcome, skipped
from headrace.conformance.recording import BrokenForm

#: Seconds beyond its time limit that a case gets to be cancelled and to clean up. What has not ended
#: then blocks its thread: it is left behind, since Python cannot end it.
GRACE: Final = 15.0


class UnknownCase(ValueError):
    """No case has that name."""


def select(names: Sequence[str] = ()) -> tuple[Case, ...]:
    """All cases, or those of these names; a name may end with ``*``. Raises `UnknownCase`."""
    cases = all_cases()
    if not names:
        return cases
    chosen: dict[str, Case] = {}
    for name in names:
        stem = name.removesuffix("*")
        matching = [case for case in cases if case.name == name or (name != stem and case.name.startswith(stem))]
        if not matching:
            raise UnknownCase(name)
        chosen.update((case.name, case) for case in matching)
    return tuple(case for case in cases if case.name in chosen)


def run_cases(
    harness: Harness,
    cases: Iterable[Case],
    *,
    long: bool = False,
    at_once: int = 1,
    began: Callable[[Case], None] = lambda case: None,
) -> Iterator[Outcome]:
    """Run cases, ``at_once`` of them side by side but for those that must be alone; outcomes in the order of their end.

    ``began`` is called, on some thread, when a case is started.
    """

    def run(case: Case) -> Outcome:
        began(case)
        return run_case(harness, case, long=long)

    waiting = list(cases)
    together = [case for case in waiting if not case.alone] if at_once > 1 else []
    if together:
        with ThreadPoolExecutor(at_once, thread_name_prefix="headrace-conform") as pool:
            yield from _as_completed(pool, run, together)
    for case in waiting:
        if case not in together:
            yield run(case)


def _as_completed(pool: ThreadPoolExecutor, run: Callable[[Case], Outcome], cases: Sequence[Case]) -> Iterator[Outcome]:
    from concurrent.futures import as_completed

    for future in as_completed([pool.submit(run, case) for case in cases]):
        yield future.result()


def run_case(harness: Harness, case: Case, *, long: bool = False) -> Outcome:
    """Run one case with a folder of its own. Never raises: what goes wrong is the outcome."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headrace-conform-", ignore_cleanup_errors=True) as folder:
        attempt = _Attempt(_in_folder(harness, Path(folder)), case, long)
        thread = threading.Thread(target=attempt.run, name=f"headrace-case-{case.name}", daemon=True)
        thread.start()
        thread.join(case.time_limit * (20 if case.long else 1) + GRACE)
        if attempt.outcome is None:
            attempt.outcome = attempt.hung(thread)
    return _timed(attempt.outcome, time.monotonic() - began)


def _in_folder(harness: Harness, folder: Path) -> Harness:
    # A copy: cases that run side by side have different folders.
    mine = copy(harness)
    mine.folder = folder
    return mine


def _timed(outcome: Outcome, seconds: float) -> Outcome:
    import msgspec

    return msgspec.structs.replace(outcome, seconds=round(seconds, 3))


class _Attempt:
    """One run of one case, on the thread that it is given."""

    def __init__(self, harness: Harness, case: Case, long: bool) -> None:
        self.outcome: Outcome | None = None
        self._harness = harness
        self._case = case
        self._long = long
        self._lab: Lab | None = None

    def run(self) -> None:
        try:
            lab = self._lab = Lab(self._harness, long=self._long)
            obstacle = self._case.obstacle(lab.capabilities, self._harness, long=self._long)
        except Exception as error:
            self.outcome = self._failed("the harness could not make a backend", error)
            return
        if obstacle:
            self.outcome = skipped(self._case, obstacle)
            return
        try:
            if inspect.iscoroutinefunction(self._case.run):
                asyncio.run(self._in_loop(lab))
            else:
                self._case.run(lab)
        except BaseException as error:
            self.outcome = self._failed(None, error)
        else:
            self.outcome = self._outcome("passed")

    async def _in_loop(self, lab: Lab) -> None:
        limit = self._case.time_limit * (20 if self._case.long else 1)
        try:
            async with asyncio.timeout(limit) as clock:
                await lab.open()
                await self._case.run(lab)  # type: ignore[misc]
        except TimeoutError as error:
            if clock.expired():
                raise Overrun(f"was not done after {limit:g} s") from error
            raise
        finally:
            async with asyncio.timeout(GRACE / 2):
                await lab.close()

    def _failed(self, reason: str | None, error: BaseException) -> Outcome:
        calls = self._lab.calls.shown() if self._lab else []
        if isinstance(error, Mismatch):
            return self._outcome("failed", reason=error.about, calls=calls, expected=error.expected, found=error.found)
        if isinstance(error, BrokenForm | Overrun):
            return self._outcome("failed", reason=str(error), calls=calls)
        text = f"{type(error).__name__}: {error}"
        return self._outcome(
            "failed", reason=f"{reason}: {text}" if reason else f"raised {text}", calls=calls, details=_where(error)
        )

    def hung(self, thread: threading.Thread) -> Outcome:
        """The outcome of a case whose thread has not ended: where it is stuck."""
        frame = sys._current_frames().get(thread.ident or 0)
        calls = self._lab.calls.shown() if self._lab else []
        return self._outcome(
            "failed",
            reason=f"hangs: it blocks its thread, and did not end {GRACE:g} s after its time limit",
            calls=calls,
            details=_stack(frame),
        )

    def _outcome(self, status: Any, **fields: Any) -> Outcome:
        case = self._case
        return Outcome(case=case.name, promise=case.promise.value, sentence=case.sentence, status=status, **fields)


class Overrun(AssertionError):
    """A case did not end within its time limit."""


def _where(error: BaseException) -> str:
    """The innermost lines of a traceback: those of the backend."""
    return "".join(traceback.format_tb(error.__traceback__)[-4:]).rstrip()


def _stack(frame: FrameType | None) -> str | None:
    return "".join(traceback.format_stack(frame)[-4:]).rstrip() if frame else None
