"""Messages as the bytes that Redis keeps, and back.

A value is ``place`` (8 bytes, which the server fills in), flags (1 byte), the sections that
the flags announce, the name (its length in 2 bytes, then UTF-8) and the body as it is. Each
section is its length in 4 bytes and its bytes. Most messages have no section, and cost
11 bytes beside name and body. Scripts read the flags, cut off the first section and read
the second; all else is only known here.
"""

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from headrace.driver import NO_HEADERS, Message, Note

#: Born in the line: pushed without delay or unique key, or reloaded. The scripts' way to know.
IN_LINE: Final = 1
#: Has a section of what a reload forgets: attempt, deaths, note.
SPENT: Final = 2
#: Has a section with the unique key.
KEYED: Final = 4
#: Has a section with the headers.
HEADERS: Final = 8

#: Where the flags are: behind the place.
_FLAGS: Final = 8

_length = struct.Struct(">I")
_name_length = struct.Struct(">H")


Count = Annotated[int, Meta(ge=0)]


class _Spent(msgspec.Struct, array_like=True, frozen=True):
    attempt: Count
    deaths: Count
    note: Note | None


_encoder = msgspec.msgpack.Encoder()
_spent = msgspec.msgpack.Decoder(_Spent)
_headers = msgspec.msgpack.Decoder(dict[str, str])


def id_bytes(id: str) -> bytes:  # noqa: A002 - the contract's word
    """An id as Redis keeps it: 32 hexadecimal digits, as core's ids are, as 16 bytes; others as text.

    A text that has 16 bytes itself gets another one at its end, which no UTF-8 has.
    """
    if len(id) == 32:
        try:
            raw = bytes.fromhex(id)
        except ValueError:
            pass
        else:
            if raw.hex() == id:
                return raw
    text = id.encode()
    return text + b"\xff" if len(text) == 16 else text


def id_text(raw: bytes) -> str:
    """The id that `id_bytes` was given."""
    if len(raw) == 16:
        return raw.hex()
    return (raw[:-1] if len(raw) == 17 and raw[16] == 0xFF else raw).decode(errors="backslashreplace")


@lru_cache(1024)
def _name(name: str) -> bytes:
    text = name.encode()
    return _name_length.pack(len(text)) + text


@lru_cache(1024)
def _plain(name: str, flags: int) -> bytes:
    return bytes((flags,)) + _name(name)


@lru_cache(1024)
def _name_text(raw: bytes) -> str:
    return raw.decode()


def pack(message: Message, flags: int = 0) -> bytes:
    """A value without its place. Delay is no part of it, nor is ``on_duplicate``."""
    if not (
        message.attempt
        or message.deaths
        or message.headers
        or message.unique_key is not None
        or message.note is not None
    ):
        return _plain(message.name, flags) + message.body
    sections = []
    if message.attempt or message.deaths or message.note is not None:
        flags |= SPENT
        sections.append(_encoder.encode(_Spent(message.attempt, message.deaths, message.note)))
    if message.unique_key is not None:
        flags |= KEYED
        sections.append(message.unique_key.encode())
    if message.headers:
        flags |= HEADERS
        sections.append(_encoder.encode(dict(message.headers)))
    parts = [bytes((flags,))]
    for section in sections:
        parts += _length.pack(len(section)), section
    return b"".join((*parts, _name(message.name), message.body))


def unpack(id: str, value: bytes, delay: float = 0.0) -> Message:  # noqa: A002 - the contract's word
    """The message of a value, place included. One that is damaged has no name, and all the rest as its body."""
    try:
        return _read(id, value, delay)
    except (IndexError, ValueError, RecursionError, struct.error, msgspec.MsgspecError):
        return Message(id=id, name="", body=value[_FLAGS + 1 :], delay=delay)


def _read(id: str, value: bytes, delay: float) -> Message:  # noqa: A002 - the contract's word
    flags = value[_FLAGS]
    at = _FLAGS + 1
    attempt = deaths = 0
    note: Note | None = None
    key: str | None = None
    headers: Mapping[str, str] = NO_HEADERS
    if flags & SPENT:
        section, at = _section(value, at)
        spent = _spent.decode(section)
        attempt, deaths, note = spent.attempt, spent.deaths, spent.note
    if flags & KEYED:
        section, at = _section(value, at)
        key = section.decode()
    if flags & HEADERS:
        section, at = _section(value, at)
        headers = _headers.decode(section)
    end = at + 2 + (value[at] << 8 | value[at + 1])
    if end > len(value):
        raise ValueError("cut short")
    return Message(
        id=id,
        name=_name_text(value[at + 2 : end]),
        body=value[end:],
        attempt=attempt,
        deaths=deaths,
        delay=delay,
        unique_key=key,
        headers=headers,
        note=note,
    )


def _section(value: bytes, at: int) -> tuple[bytes, int]:
    start = at + _length.size
    end = start + _length.unpack_from(value, at)[0]
    return value[start:end], end
