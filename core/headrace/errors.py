"""Every error that headrace raises on purpose.

::

    HeadraceError
     ├── ConfigError            the configuration is wrong; nothing was started
     │    ├── UnknownBackend    no installed distribution offers that backend
     │    └── UnknownQueue      no queue of that name is configured
     ├── CapabilityError        this backend cannot do what was asked of it
     ├── BackendError           the backend was asked and did not do it
     │    ├── BackendUnavailable  out of reach; whether the call took effect is unknown
     │    ├── MessageTooLarge     refused before anything was sent
     │    └── PushFailed          some messages of a batch were stored, others were not
     ├── JobError               a job, or what was declared of it, is wrong
     │    ├── UnknownJob        no job of that name is declared here
     │    ├── InvalidPayload    arguments or bytes that do not fit the job's fields
     │    ├── InvalidSignature  a message that nobody signed who has a key
     │    ├── JobTimeout        the handler ran past its ``handle_timeout``
     │    └── WorkerDied        the process that ran the handler ended under it
     └── WrongContext           a call on, or off, an event loop where it cannot work

`Retry` and `Drop` are control signals that a handler raises; they stand outside
that tree, so that ``except HeadraceError`` in a handler never swallows them.
"""

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta


class HeadraceError(Exception):
    """The root of what headrace raises on purpose."""


class ConfigError(HeadraceError):
    """The configuration is wrong. The text names the file, the key and what is allowed."""


class UnknownBackend(ConfigError):
    """No installed distribution offers a backend of that name."""


class UnknownQueue(ConfigError):
    """No queue of that name is configured."""


class CapabilityError(HeadraceError):
    """A backend was asked for something that it does not declare; ``channel``: for messages of that one."""

    def __init__(self, backend: str, capability: str, hint: str = "", channel: str | None = None) -> None:
        self.backend = backend
        self.capability = capability
        self.channel = channel
        text = f"the backend {backend!r} does not offer {capability!r}"
        if channel is not None:
            text += f" for {channel!r}"
        super().__init__(f"{text}: {hint}" if hint else text)


class BackendError(HeadraceError):
    """The backend was asked and did not do it. The client library's error is the cause."""


class BackendUnavailable(BackendError):
    """The backend is out of reach. Whether the call took effect is unknown; it may be repeated."""


class MessageTooLarge(BackendError):
    """A message is larger than the backend takes. Nothing of it was sent.

    ``size`` and ``limit`` are bytes, of ``what`` is too large: the message, or a part of it with a limit of its own.
    """

    def __init__(self, backend: str, size: int, limit: int, what: str = "a message") -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"{what} of {size} bytes is over the {limit} bytes that {backend!r} takes")


class PushFailed(BackendError):
    """Part of a batch was not stored.

    ``stored_ids`` are the ids of what was stored; ``errors`` maps the position in the
    batch of each message that was not, to what went wrong with it. Where that is a
    `BackendUnavailable`, the message was sent and whether it was stored is unknown:
    ``unknown`` has those positions. After such an error nothing more was sent.
    """

    def __init__(self, stored_ids: Sequence[str], errors: Mapping[int, BackendError]) -> None:
        self.stored_ids = list(stored_ids)
        self.errors = dict(errors)
        self.unknown = [position for position, each in self.errors.items() if isinstance(each, BackendUnavailable)]
        position, first = next(iter(self.errors.items()))
        unknown, total = len(self.unknown), len(self.errors) + len(self.stored_ids)
        doubt = f", and of {unknown} that is unknown" if unknown else ""
        super().__init__(
            f"{len(self.errors) - unknown} of {total} messages were not stored{doubt}; "
            f"the first, at position {position}: {first}"
        )


class JobError(HeadraceError):
    """A job, or what was declared of it, is wrong."""


class UnknownJob(JobError):
    """No job of that name is declared in this process."""


class InvalidPayload(JobError):
    """Arguments or bytes do not fit the fields of their job. The text names the field."""


class InvalidSignature(JobError):
    """A message is not as somebody with one of the ``signing_keys`` has signed it, for this queue."""


class JobTimeout(JobError):
    """A handler ran past its ``handle_timeout``."""


class WorkerDied(JobError):
    """The process that ran a handler ended under it. The text gives the exit status, if known."""


class WrongContext(HeadraceError, RuntimeError):
    """A call on an event loop that must not be there, or off one where it must be."""


class Retry(Exception):
    """Raise in a handler to ask for another run; spends one retry.

    ``delay``: seconds or a timedelta; ``None`` follows the job's ``retry_seconds``, 0 runs again at once.
    Raises `ValueError` for a delay that is negative or has no end, or is no such thing.
    """

    def __init__(self, delay: float | timedelta | None = None) -> None:
        self.delay = None if delay is None else _seconds_until_retry(delay)
        super().__init__("another run was asked for")


class Drop(Exception):
    """Raise in a handler to end the job without failure; ``reason`` is logged."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


def _seconds_until_retry(delay: float | timedelta) -> float:
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= sys.float_info.max:
        # An int knows no bound, and may have more digits than Python is willing to write.
        is_huge = is_number and isinstance(seconds, int) and abs(seconds) > sys.float_info.max
        found = "a number of hundreds of digits" if is_huge else repr(delay)
        raise ValueError(f"Retry: delay is {found}; it must be seconds or a timedelta, 0 or more")
    return float(seconds)
