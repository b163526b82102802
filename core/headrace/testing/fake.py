"""Fakes: what was pushed in a test, asserted on and run. Recording it is ``recorder.py``'s business."""

import math
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, overload

from headrace.delays import seconds_of
from headrace.job import Job, JobFunction
from headrace.options import Delay
from headrace.standin import put_in, take_out
from headrace.testing.apps import MOST_RUNS, Configuration
from headrace.testing.blocking import refuse_loop, run_blocking
from headrace.testing.outcomes import Ran, Run
from headrace.testing.recorder import Recorder
from headrace.testing.records import Pushed, Wanted, field_names, listing, matcher

J = TypeVar("J", bound=Job)
P = ParamSpec("P")

#: By how much a delay may differ from the one that is asked for: what was pushed for a moment in
#: time is a little nearer to it when a test asks.
_DELAY_TOLERANCE: Final = 0.01


def fake(config: Configuration = None) -> "Fake":
    """Record pushes instead of sending them, for as long as the context lasts.

    ::

        with fake() as jobs:
            sign_up("ada@example.org")
            jobs.assert_pushed(SendWelcome, user_id=1)

    Whatever the route, the app and the thread: the whole process is concerned. Of several fakes the
    one that was entered last records. A push is checked as in production, and its job encoded. Where
    no app is entered, bare pushes follow ``config``: a mapping, a file, or what is found upwards
    from the working directory.
    """
    return Fake(Recorder(config))


class Fake:
    """The pushes of a test. Made by `fake` and `inline`; ``with`` and ``async with`` are the same to it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __enter__(self) -> Self:
        put_in(self._recorder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        take_out(self._recorder)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    @overload
    def pushed(self, /) -> list[Pushed[Job]]: ...
    @overload
    def pushed(self, job: type[J], /, **fields: Any) -> list[Pushed[J]]: ...
    @overload
    def pushed(self, job: J, /) -> list[Pushed[J]]: ...
    @overload
    def pushed(self, job: JobFunction[..., Any], /) -> list[Pushed[Job]]: ...
    @overload
    def pushed(self, job: JobFunction[P, Any], /, *args: P.args, **fields: P.kwargs) -> list[Pushed[Job]]: ...
    def pushed(self, job: Any = None, /, *args: Any, **fields: Any) -> list[Pushed[Any]]:
        """What was pushed, oldest first: all; or of one class, with such fields; equal to one job; of one function.

        A push that replaced a pending one counts, and so does what it replaced; one that kept a
        pending one stored nothing, and does not. Raises `JobError` for a field that the job has not.
        """
        records = self._recorder.records
        if job is None:
            return records
        matches, _ = matcher(job, args, fields)
        return [each for each in records if matches(each.job)]

    @overload
    def assert_pushed(
        self,
        job: type[J],
        /,
        *,
        times: int | None = None,
        queue: str | None = None,
        delay: Delay | None = None,
        **fields: Any,
    ) -> list[Pushed[J]]: ...
    @overload
    def assert_pushed(
        self, job: J, /, *, times: int | None = None, queue: str | None = None, delay: Delay | None = None
    ) -> list[Pushed[J]]: ...
    @overload
    def assert_pushed(
        self,
        job: JobFunction[..., Any],
        /,
        *,
        times: int | None = None,
        queue: str | None = None,
        delay: Delay | None = None,
    ) -> list[Pushed[Job]]: ...
    @overload
    def assert_pushed(self, job: JobFunction[P, Any], /, *args: P.args, **fields: P.kwargs) -> list[Pushed[Job]]: ...
    def assert_pushed(self, job: Any, /, *args: Any, **words: Any) -> list[Pushed[Any]]:
        """Assert that such a job was pushed, once or more, or exactly ``times``; gives those pushes.

        ``assert_pushed(SendWelcome, user_id=1)``: what is not named may be anything.
        ``assert_pushed(resize, "a.png", width=64)``: the same of a function.
        ``assert_pushed(SendWelcome(user_id=1), delay=30)``: equal to that job, its defaults included.
        ``queue``: to that queue. ``delay``: with that delay, give or take a hundredth. Of a class or
        function that has a field of such a name, the word means the field; give a job then.

        Raises `JobError` for a question that no push could ever answer.
        """
        __tracebackhide__ = True
        times = None if "times" in field_names(job) else words.pop("times", None)
        found, wanted = self._find(job, args, words)
        if times is None and not found:
            raise AssertionError(self._what_was_pushed(f"{wanted} was not pushed"))
        if times is not None and len(found) != times:
            raise AssertionError(
                self._what_was_pushed(f"{wanted} was pushed {_times(len(found))}, not {_times(times)}")
            )
        return found

    @overload
    def assert_not_pushed(
        self, job: type[Job], /, *, queue: str | None = None, delay: Delay | None = None, **fields: Any
    ) -> None: ...
    @overload
    def assert_not_pushed(
        self, job: Job | JobFunction[..., Any], /, *, queue: str | None = None, delay: Delay | None = None
    ) -> None: ...
    @overload
    def assert_not_pushed(self, job: JobFunction[P, Any], /, *args: P.args, **fields: P.kwargs) -> None: ...
    def assert_not_pushed(self, job: Any, /, *args: Any, **words: Any) -> None:
        """Assert that no such job was pushed; asked as `assert_pushed` is."""
        __tracebackhide__ = True
        found, wanted = self._find(job, args, words)
        if found:
            raise AssertionError(self._what_was_pushed(f"{wanted} was pushed {_times(len(found))}"))

    def assert_nothing_pushed(self) -> None:
        """Assert that there was no push at all."""
        __tracebackhide__ = True
        if self._recorder.records:
            raise AssertionError(self._what_was_pushed("nothing should have been pushed"))

    def clear(self) -> None:
        """Forget every push, and what waits to be run."""
        self._recorder.clear()

    async def run(self, *, concurrency: int = 1, raise_errors: bool = True, limit: int = MOST_RUNS) -> Ran:
        """Run what was pushed and has not been run, and what that pushes in turn; what became of it.

        The engine itself does it, in memory: jobs are decoded, middleware and lifespan surround
        them, retries, `Drop`, ``failed()`` and ``handle_timeout`` count. Delays and retries are not
        waited for: when nothing is due, time leaps to what is next. One job runs after the other,
        unless ``concurrency`` says otherwise.

        Raises the error of the first job that failed for good, once all have run, unless
        ``raise_errors`` is false; and `AssertionError` after ``limit`` runs.
        """
        runs: list[Run] = []
        with self:
            while True:
                before = len(runs)
                for twin in self._recorder.twins:
                    left = limit - len(runs)
                    runs += await twin.run_all(concurrency=concurrency, raise_errors=False, limit=left)
                if len(runs) == before:
                    break
        ran = Ran(tuple(runs))
        if raise_errors:
            ran.raise_errors()
        return ran

    def run_sync(self, *, concurrency: int = 1, raise_errors: bool = True, limit: int = MOST_RUNS) -> Ran:
        """As `run`, from code that runs on no event loop."""
        refuse_loop("run()")
        return run_blocking(lambda: self.run(concurrency=concurrency, raise_errors=raise_errors, limit=limit))

    def _find(self, job: Wanted, args: Sequence[Any], words: dict[str, Any]) -> tuple[list[Pushed[Any]], str]:
        """The pushes that are meant, and what is meant in words."""
        known = field_names(job)
        queue, delay = (None if word in known else words.pop(word, None) for word in ("queue", "delay"))
        matches, wanted = matcher(job, args, words)
        found = [each for each in self._recorder.records if matches(each.job)]
        if queue is not None:
            found = [each for each in found if each.queue == queue]
            wanted += f" on {queue!r}"
        if delay is not None:
            seconds = seconds_of(delay)
            found = [each for each in found if math.isclose(each.delay, seconds, rel_tol=_DELAY_TOLERANCE)]
            wanted += f" in {seconds:g} s"
        return found, wanted

    def _what_was_pushed(self, title: str) -> str:
        records = self._recorder.records
        return listing(f"{title}; these were:", records) if records else f"{title}; nothing was"


def _times(count: int) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(count, f"{count} times")
