"""Messages as SQS keeps them, and back.

The text of an SQS message is the body as it is, where that is text of characters that XML can
carry, and so can be read in any console. Any other body travels as the bytes of an
attribute: raw, which is a third shorter than base64. All else of a message stands in another
attribute, packed: text would grow with each character that had to be escaped, and a note of the
longest size could then be too long.
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from headrace.driver import NO_HEADERS, Message, Note

#: Bytes of a message, text and attributes together, and of a batch: a limit of SQS. A queue may have a lower one for
#: messages: those that were made when SQS took 256 KiB still have that.
LARGEST: Final = 2**20

#: Bytes kept free for what is not body: a note, name, id and headers.
RESERVE: Final = 32 * 2**10

#: Bytes of the largest note, 16 KiB with its frame, which a message may get later. What is pushed must leave room
#: for it: what fits without its note and not with it could never be moved to ``failed``.
NOTE: Final = 16 * 2**10 + 16

#: The attributes. Nobody else may use these names in our queues.
_ABOUT: Final = "headrace"
_BODY: Final = "headrace-body"

#: What consoles show instead of a body that is no text. An empty text would be refused.
_NO_TEXT: Final = "(binary)"

#: Goes before the bytes of a body, as an empty value would be refused.
_BEFORE: Final = b"="

#: What SQS refuses, and the carriage return, which a reader of XML turns into another character.
_NOT_CARRIED: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0, le=sys.float_info.max)]  # not infinity, nor what is no number


class _About(msgspec.Struct, array_like=True, frozen=True):
    """All of a message but its body. New fields go to the end, with defaults: older workers skip them."""

    id: str
    name: str
    attempt: Count = 0
    deaths: Count = 0
    headers: dict[str, str] = {}
    note: Note | None = None
    after: Seconds | None = None
    due: Seconds | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_About)


@dataclass(frozen=True, slots=True)
class Parcel:
    """One entry of a batch that is sent, but for its id, and how many bytes it counts for SQS."""

    fields: Mapping[str, Any]
    size: int
    spare: int = 0  #: bytes that must be left beside it, for what it may grow by later

    def limit(self, largest: int) -> int:
        """What its size may be at most in a queue that takes so many bytes.

        Half of it is not spared: what has no room for all of its note can go with less of it, and a queue for small
        messages is there for some.
        """
        return largest - min(self.spare, largest // 2)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A message, and when its delay is over if that is longer than SQS can wait at once."""

    message: Message
    after: float | None = None  #: seconds from when SQS stored it
    due: float | None = None  #: by SQS's clock, in seconds since the epoch


def pack(
    message: Message,
    *,
    wait: int = 0,
    group: str | None = None,
    after: float | None = None,
    due: float | None = None,
    spare: int = 0,
) -> Parcel:
    """What is sent for a message. ``wait``: whole seconds until SQS hands it out. Its ``delay`` is not looked at."""
    about = _About(
        message.id,
        message.name,
        message.attempt,
        message.deaths,
        dict(message.headers),
        message.note,
        after,
        due,
    )
    values = {_ABOUT: _encoder.encode(about)}
    text = _as_text(message.body)
    if text is None:
        values[_BODY] = _BEFORE + message.body
    size = len(_NO_TEXT) if text is None else len(message.body)
    size += sum(len(name) + len("Binary") + len(value) for name, value in values.items())
    fields: dict[str, Any] = {
        "MessageBody": _NO_TEXT if text is None else text,
        "MessageAttributes": {name: {"DataType": "Binary", "BinaryValue": value} for name, value in values.items()},
        "DelaySeconds": wait,  # said even if it is 0, as a queue may have another default
    }
    if group is not None:
        fields["MessageGroupId"] = group
    return Parcel(fields, size, spare)


def pack_with_room(message: Message, largest: int, packed: Callable[[Message], Parcel] = pack) -> Parcel:
    """As ``packed``, with as much of the note as there is room for in a queue that takes ``largest`` bytes.

    What others have sent may leave none, and what was sent before the queue was set to take less.
    """
    parcel, note = packed(message), message.note
    if note is None or parcel.size <= parcel.limit(largest):
        return parcel
    shorter = msgspec.structs.replace(note, traceback="")
    for less in (shorter, None):
        parcel = packed(msgspec.structs.replace(message, note=less))
        if parcel.size <= parcel.limit(largest):
            break
    return parcel


def _as_text(body: bytes) -> str | None:
    """A body as text that SQS carries unchanged; ``None`` if it cannot."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if not text or _NOT_CARRIED.search(text) else text


def unpack(received: Mapping[str, Any]) -> Unpacked:
    """The message of what was received.

    What others than headrace put into the queue, or what cannot be read, is a message all
    the same, of a job without a name: core keeps what it cannot run.
    """
    attributes = received.get("MessageAttributes", {})
    body = received["Body"].encode(errors="surrogatepass")
    raw = attributes.get(_BODY, {}).get("BinaryValue")
    if raw is not None:
        body = raw[len(_BEFORE) :]
    try:
        about = _decoder.decode(attributes[_ABOUT]["BinaryValue"])
    except (KeyError, UnicodeDecodeError, RecursionError, msgspec.DecodeError):
        return Unpacked(Message(id=received["MessageId"], name="", body=body))
    message = Message(
        id=about.id,
        name=about.name,
        body=body,
        attempt=about.attempt,
        deaths=about.deaths,
        headers=about.headers or NO_HEADERS,
        note=about.note,
    )
    return Unpacked(message, about.after, about.due)
