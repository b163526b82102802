"""Why a message failed, as it is kept beside it. Owns the limit of 16 KiB."""

import time
import traceback
from typing import Final

from headrace.driver import Note

#: Bytes of UTF-8 for each part; with type and time they stay under the contract's 16 KiB.
_TYPE_LIMIT: Final = 256
_MESSAGE_LIMIT: Final = 4 * 1024
_TRACEBACK_LIMIT: Final = 11 * 1024


def note_of(error: BaseException) -> Note:
    """The note for an error; the end of a long traceback is kept, since that is where it happened."""
    return make_note(
        type(error).__qualname__ if type(error).__module__ == "builtins" else _qualified(error),
        _text(error),
        _trace(error),
    )


def make_note(type_name: str, message: str, trace: str = "") -> Note:
    """A note of parts that are cut to their limits."""
    return Note(
        type=_cut(type_name, _TYPE_LIMIT),
        message=_cut(message, _MESSAGE_LIMIT),
        traceback=_cut_front(trace, _TRACEBACK_LIMIT),
        time=time.time(),
    )


def _qualified(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # an error's own text may raise anything
        return f"(its text could not be had: {type(broken).__name__})"


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as broken:
        frames = "".join(traceback.format_tb(error.__traceback__))
        return f"{frames}(the rest could not be had: {type(broken).__name__})"


def _cut(text: str, limit: int) -> str:
    data = text.encode(errors="replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode(errors="ignore") + "..."


def _cut_front(text: str, limit: int) -> str:
    data = text.encode(errors="replace")
    if len(data) <= limit:
        return data.decode()
    return "..." + data[len(data) - limit + 3 :].decode(errors="ignore")
