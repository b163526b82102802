"""What was pushed, and finding it again: the records of a fake, and the questions to them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from headrace.delays import REMAINING_HEADER
from headrace.driver import Message
from headrace.errors import JobError
from headrace.job import Job, JobFunction
from headrace.queue import OPTIONS_HEADER, without_own_headers

J = TypeVar("J", bound=Job, covariant=True)

#: What a question may be about: a class of jobs, one job, or a function.
Wanted = type[Job] | Job | JobFunction[..., Any]

#: How long a line about one push may be, and how many there are: enough to see what went wrong.
_LINE: Final = 200
_LINES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed(Generic[J]):
    """One push, as it would have been sent."""

    job: J  #: as a worker would decode it; later changes to what was pushed do not show here
    queue: str  #: the queue's name in the configuration
    id: str  #: what the push returned
    delay: float  #: seconds
    unique: str | None  #: the key, as it was stated or made of the job's fields
    headers: Mapping[str, str]
    options: Mapping[str, Any]  #: what the push stated of its runs: ``max_retries`` and its kin

    def __str__(self) -> str:
        parts = [f"{describe(self.job)} on {self.queue!r}"]
        if self.delay:
            parts.append(f"in {self.delay:g} s")
        if self.unique is not None:
            parts.append(f"unique {self.unique!r}")
        parts += [f"{name} {value!r}" for name, value in (*self.options.items(), *self.headers.items())]
        return _cut(", ".join(parts))


def record_of(queue: str, message: Message, job: Job) -> Pushed[Job]:
    """The record of a message; ``job`` is what it decodes to."""
    headers = message.headers
    stated = headers.get(OPTIONS_HEADER)
    key = message.unique_key
    return Pushed(
        job=job,
        queue=queue,
        id=message.id,
        # A delay beyond the backend's longest is on its first hop.
        delay=message.delay + float(headers.get(REMAINING_HEADER, 0.0)),
        unique=None if key is None else key.removeprefix(f"{message.name}:"),
        headers=without_own_headers(headers),
        options={} if stated is None else msgspec.json.decode(stated),
    )


def matcher(wanted: Wanted, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Callable[[Job], bool], str]:
    """Whether a job is what is wanted, and that in words.

    Of a class or function, what is not named may be anything; a job must be equal. Raises `JobError`
    for a field that there is none of: nothing could ever match it.
    """
    if isinstance(wanted, JobFunction):
        try:
            expected = inspect.signature(wanted.function).bind_partial(*args, **named).arguments
        except TypeError as error:
            raise JobError(f"{wanted.__name__}: {error}") from None
        return _by_fields(wanted.job_class, expected)
    if args:
        raise JobError("positional arguments go with a @job function; name the fields of a job class")
    if isinstance(wanted, Job):
        if named:
            raise JobError("a job is looked for as it is; give its class to look for some of its fields")
        return lambda job: job == wanted, describe(wanted)
    return _by_fields(wanted, named)


def field_names(wanted: Wanted) -> list[str]:
    """The fields that a question may name: of a job none, since it is looked for as it is. Raises `JobError`."""
    if isinstance(wanted, Job):
        return []
    job_class = wanted.job_class if isinstance(wanted, JobFunction) else wanted
    if isinstance(job_class, type) and issubclass(job_class, Job):
        return [each.name for each in fields(job_class)] if is_dataclass(job_class) else []  # Job itself has none
    raise JobError(f"{wanted!r} is no job: give a Job class, a job or a @job function")


def _by_fields(job_class: type[Job], expected: Mapping[str, Any]) -> tuple[Callable[[Job], bool], str]:
    known = field_names(job_class)
    for name in expected:
        if name not in known:
            raise JobError(f"{job_class.__name__} has no field {name!r}; it has {', '.join(known) or 'none'}")

    def matches(job: Job) -> bool:
        return isinstance(job, job_class) and all(getattr(job, name) == value for name, value in expected.items())

    return matches, _call(job_class.__name__, expected)


def describe(job: Job) -> str:
    """A job as the call that makes it."""
    return _call(type(job).__name__, vars(job))


def listing(title: str, lines: Sequence[object]) -> str:
    """A title and a line for each, as far as a screen takes them."""
    shown = [f"  {line}" for line in lines[:_LINES]]
    if len(lines) > _LINES:
        shown.append(f"  and {len(lines) - _LINES} more")
    return "\n".join([title, *shown])


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _cut(line: str) -> str:
    return line if len(line) <= _LINE else f"{line[:_LINE]}..."
