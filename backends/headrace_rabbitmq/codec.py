"""Messages as AMQP carries them, and back.

Id and job name are the properties ``message_id`` and ``type``, the body is the body. All else a
message seldom has; then the one header ``headrace`` holds it as JSON, readable for people who
look into a queue. Nothing that the broker adds, as ``x-death``, is ever sent again: it would take
a message that comes back for one that goes in circles, and drop it.

All that is not body travels in one frame, which cannot be split. The broker closes the connection of whoever sends a
larger one than was agreed on, with all that others have on their way there: so it is measured before.

A message that somebody else published, without an id or with other headers, is a message all the
same, so that core can settle it: its queue goes on.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from aiormq.abc import DeliveredMessage
from msgspec import Meta
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from headrace.driver import NO_HEADERS, Message, Note

#: The header with what most messages do not have.
_HEADER: Final = "headrace"

#: The headers where a quorum queue counts the deliveries before this one that ended unsettled: until 4.2, and
#: from 4.3 on, where the first has only those that were rejected.
_DELIVERIES: Final = ("x-delivery-count", "x-acquired-count")

#: Survives a restart of the broker.
_PERSISTENT: Final = 2

#: Bytes of the protocol's short strings, which properties are.
_SHORT: Final = 255

#: Bytes at most of a message's header beside the text in it: the frame's numbers and flags, the table with the name of
#: its one entry, the delivery mode, and id and job name with a byte each for their lengths.
_BESIDE: Final = 14 + 18 + 1 + 2 * (1 + _SHORT)

#: Bytes of the longest character: what is short even if all of it are such is not measured.
_LONGEST_CHARACTER: Final = 4

#: What part of the largest header new messages leave free, for the note and the counts that they get later. Of
#: RabbitMQ's own 128 KiB these are 32 KiB, twice the longest note: for a text in which each second character is
#: escaped. Of a note with more of them a part is kept.
_FREE: Final = 4

#: What stands for the part of a note that is left out.
_LEFT_OUT: Final = "..."


Count = Annotated[int, Meta(ge=0)]


class _More(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """What the header holds. ``id`` and ``name`` only where they are too long to be properties."""

    attempt: Count = 0
    deaths: Count = 0
    headers: Mapping[str, str] = NO_HEADERS
    note: Note | None = None
    deliveries: Count = 0  #: that ended unsettled before the message was published anew, though nobody had written it
    id: str | None = None
    name: str | None = None
    due: float | None = None  #: seconds since the epoch, by the clock of whoever delayed it


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_More)

#: What most messages have.
_NOTHING: Final = _More()


class Parcel(NamedTuple):
    """A message on its way to an exchange."""

    exchange: str
    routing_key: str
    level: int  #: that its way begins at, if it is delayed
    properties: Basic.Properties
    body: bytes


def properties(message: Message, deliveries: int = 0, due: float | None = None) -> Basic.Properties:
    """A message but for its body. Its delay is no part of it; ``deliveries``: that have ended unsettled so far.

    ``due``: when its delay is over, in seconds since the epoch.
    """
    found = Basic.Properties(message_id=message.id, message_type=message.name, delivery_mode=_PERSISTENT)
    long_id, long_name = len(message.id) * 4 > _SHORT, len(message.name) * 4 > _SHORT  # a character has at most four
    more = _More(message.attempt, message.deaths, message.headers, message.note, deliveries, due=due)
    if long_id:
        found.message_id = hashlib.sha256(message.id.encode()).hexdigest()  # an unroutable one comes back by it
        more = msgspec.structs.replace(more, id=message.id)
    if long_name:
        found.message_type = None
        more = msgspec.structs.replace(more, name=message.name)
    if more != _NOTHING:
        headers: FieldTable = {_HEADER: _encoder.encode(more).decode()}
        found.headers = headers
    return found


def properties_within(
    largest: int, message: Message, deliveries: int = 0, due: float | None = None
) -> Basic.Properties:
    """As `properties`, with as much of the note as a header of so many bytes has room for.

    Without any note it may still be larger, as what others have sent.
    """
    found = properties(message, deliveries, due)
    if message.note is not None and not fits(found, largest):
        for note in _shorter(message.note):
            found = properties(msgspec.structs.replace(message, note=note), deliveries, due)
            if fits(found, largest):
                break
    return found


def _shorter(note: Note) -> Iterator[Note | None]:
    """Less and less of a note: first of its traceback, whose end tells most, then of its message; none at last."""
    trace, text = note.traceback, note.message
    while trace:
        trace = trace[(len(trace) + 1) // 2 :]
        yield msgspec.structs.replace(note, traceback=_LEFT_OUT + trace)
    while text:
        text = text[: len(text) // 2]
        yield msgspec.structs.replace(note, traceback=_LEFT_OUT, message=text + _LEFT_OUT)
    yield None


def largest_new(largest: int) -> int:
    """Bytes of a new message's header at most, where headers have at most ``largest``."""
    return largest - largest // _FREE


def fits(found: Basic.Properties, largest: int) -> bool:
    """Whether the header is of at most so many bytes. Exact, and measured only where that is not plain."""
    text = str(found.headers[_HEADER]) if found.headers else ""
    return _BESIDE + len(text) * _LONGEST_CHARACTER <= largest or header_size(found) <= largest


def header_size(found: Basic.Properties) -> int:
    """Bytes of the header that goes before a body, but for what every frame has around it."""
    return len(ContentHeader(properties=found).marshal())


def received(delivered: DeliveredMessage) -> tuple[Message, int]:
    """A message as it was received, whoever published it, and how many deliveries before this one ended unsettled."""
    found = delivered.header.properties
    headers = found.headers or {}
    more = _more(headers)
    message = Message(
        id=more.id or found.message_id or uuid.uuid4().hex,
        name=more.name or found.message_type or "",
        body=delivered.body,
        attempt=more.attempt,
        deaths=more.deaths,
        headers=more.headers or NO_HEADERS,
        note=more.note,
    )
    counts = (headers.get(name) for name in _DELIVERIES)
    return message, more.deliveries + max((each for each in counts if isinstance(each, int) and each > 0), default=0)


def due(delivered: DeliveredMessage) -> float | None:
    """When the delay of a message is over, in seconds since the epoch, by the clock of whoever delayed it."""
    return _more(delivered.header.properties.headers or {}).due


def _more(headers: FieldTable) -> _More:
    return _read(headers[_HEADER]) if _HEADER in headers else _NOTHING


def _read(value: Any) -> _More:
    try:
        return _decoder.decode(value)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):  # somebody else's header
        return _NOTHING
