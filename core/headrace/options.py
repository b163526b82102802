"""What a declaration or a push may say of how a job is pushed and run: the words, and their check.

Owns the types that ``job.py`` and ``queue.py`` share. Values are read as the configuration's
are, by the same types, and refused in the same words. Which word wins is ``plans.py``'s business.
"""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypedDict

import msgspec

from headrace.errors import ConfigError, JobError
from headrace.settings import Backoff, RunOptions
from headrace.tables import Reading, show, suggest

OnTimeout = Literal["continue", "cancel"]
OnDuplicate = Literal["replace", "keep"]
Delay = float | timedelta | datetime
#: ``retry_seconds`` as it may be written in code: all that the configuration takes.
Schedule = float | Sequence[float] | Backoff | Mapping[str, float]


class PushWords(TypedDict, total=False):
    """The options of every way to push; `Queue.push` explains them."""

    delay: Delay | None
    id: str | None
    unique: str | None
    on_duplicate: OnDuplicate | None
    max_retries: int | None
    retry_seconds: Schedule | None
    handle_timeout: float | None
    on_timeout: OnTimeout | None
    headers: Mapping[str, str] | None


#: What other systems call the words above.
_FOREIGN_WORDS: Final = {
    **dict.fromkeys(("countdown", "defer_by", "defer_until", "delay_seconds", "eta"), "delay"),
    **dict.fromkeys(("job_id", "message_id", "task_id"), "id"),
    **dict.fromkeys(("attempts", "max_attempts", "retries", "tries"), "max_retries"),
    **dict.fromkeys(("backoff", "retry_backoff", "retry_delay"), "retry_seconds"),
    **dict.fromkeys(("job_timeout", "time_limit", "timeout"), "handle_timeout"),
}


def check_words(words: Mapping[str, object]) -> None:
    """Raise `TypeError` for a word that no push takes, naming the one that may be meant."""
    for word in words:
        if word not in PushWords.__annotations__:
            ours = _FOREIGN_WORDS.get(word)
            hint = f"say {ours}=" if ours else suggest(word, PushWords.__annotations__)
            raise TypeError(f"push() takes no {show(word)}; {hint}")


def run_options(where: str, stated: Mapping[str, Any]) -> RunOptions:
    """The options of a run as code stated them, ``None`` being not stated.

    Raises `JobError` that begins with ``where``, in the words of the configuration's errors.
    """
    given = {name: _plain(value) for name, value in stated.items() if value is not None}
    # A reading explains, and knows the keys of a table; msgspec alone is a hundred times as quick.
    if not isinstance(given.get("retry_seconds"), dict):
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(given, RunOptions)
    reading = Reading(where, Path())
    options = reading.table(RunOptions, given, ())
    try:
        reading.check()
    except ConfigError as error:
        raise JobError(str(error)) from None
    assert options is not None  # or `check` would have raised
    return options


def _plain(value: Any) -> Any:
    """A value as a configuration file would give it."""
    if isinstance(value, Backoff):
        return msgspec.to_builtins(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(value)
    return value
