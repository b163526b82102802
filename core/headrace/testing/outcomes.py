"""What became of jobs that a test has run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from headrace.errors import Drop, JobError, Retry
from headrace.events import AfterHandle, FailedHandle, JobEvent, RetryHandle, TimeoutHandle
from headrace.job import Job
from headrace.testing.records import describe, listing

Outcome = Literal["done", "dropped", "retried", "failed", "timeout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of one job."""

    name: str  #: the job's wire name
    job: Job | None  #: ``None`` where the message could not be decoded
    queue: str | None
    id: str  #: what the push returned
    attempt: int  #: 0 for the first run
    outcome: Outcome
    error: BaseException | None = None  #: of what failed, or is retried after an error
    reason: str | None = None  #: of what was dropped

    def __str__(self) -> str:
        what = self.name if self.job is None else describe(self.job)
        why = f": {self.error!r}" if self.error is not None else f": {self.reason}" if self.reason else ""
        return f"{what}, run {self.attempt + 1}: {self.outcome}{why}"


@dataclass(frozen=True, slots=True)
class Ran:
    """The runs, in the order in which they ended. A retried job is there once for each run."""

    runs: Sequence[Run] = ()

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __str__(self) -> str:
        return listing(f"{len(self.runs)} runs", self.runs)

    def of(self, outcome: Outcome) -> list[Run]:
        """The runs with one outcome."""
        return [each for each in self.runs if each.outcome == outcome]

    @property
    def done(self) -> list[Run]:
        """Handlers that returned."""
        return self.of("done")

    @property
    def dropped(self) -> list[Run]:
        """Handlers that raised `Drop`."""
        return self.of("dropped")

    @property
    def retried(self) -> list[Run]:
        """Runs that were followed, or are to be followed, by another."""
        return self.of("retried")

    @property
    def failed(self) -> list[Run]:
        """Runs with which the retries were used up: their jobs rest in ``failed``."""
        return self.of("failed")

    @property
    def timed_out(self) -> list[Run]:
        """Runs past their ``handle_timeout``: their jobs rest in ``timeout``."""
        return self.of("timeout")

    def raise_errors(self) -> None:
        """Raise the error of the first job that failed, if one did."""
        raise_first([(each.name, each.error) for each in self.failed if each.error is not None])


def run_of(event: JobEvent) -> Run | None:
    """The run that an event tells the end of. What a handler does after its timeout is no other run."""
    message = event.message
    match event:
        case AfterHandle(late=False, dropped=None):
            return _run(event, "done")
        case AfterHandle(late=False, dropped=reason):
            return _run(event, "dropped", reason=reason)
        case RetryHandle(error=error):
            # The message is as it goes back: a run of an unknown job spends no attempt.
            return _run(event, "retried", message.attempt - (event.job is not None), error)
        case FailedHandle(late=False, error=error):
            return _run(event, "failed", error=error)
        case TimeoutHandle():
            return _run(event, "timeout")
    return None


def raise_first(failures: Sequence[tuple[str, BaseException]]) -> None:
    """Raise the first of the errors, by the names of the jobs that they ended; the others are told of in its notes.

    What is no `Exception` would end more than a test, and `Retry` would speak to the handler that
    pushed: they become a `JobError`.
    """
    if not failures:
        return
    (name, error), *others = failures
    if not isinstance(error, Exception) or is_signal(error):
        told = JobError(f"{name} failed with {error!r}")
        told.__cause__ = error
        error = told
    error.add_note(f"raised by the job {name}, whose retries are used up")
    for other, its in others:
        error.add_note(f"besides, {other} failed with {its!r}")
    raise error


def is_signal(error: BaseException) -> bool:
    """Whether an error is one of the signals that handlers raise."""
    return isinstance(error, Retry | Drop)


def _run(
    event: JobEvent,
    outcome: Outcome,
    attempt: int | None = None,
    error: BaseException | None = None,
    reason: str | None = None,
) -> Run:
    message = event.message
    return Run(
        name=message.name,
        job=event.job,
        queue=event.queue,
        id=message.id,
        attempt=message.attempt if attempt is None else attempt,
        outcome=outcome,
        error=error,
        reason=reason or None,
    )
