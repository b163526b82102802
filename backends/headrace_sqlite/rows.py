"""Messages as rows, and rows as messages, many at a time.

While a thread runs a CPU-bound handler, every step of an SQLite statement may cost 5 ms:
the `sqlite3` module gives up the interpreter's lock around each one and must wait for a
switch to have it back. So rows go in by the hundred in one statement, and come out as one
row of JSON, which `msgspec` reads faster than rows are fetched one by one.

Bodies travel as hexadecimal inside that JSON; large ones are fetched singly, as they are.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from headrace.driver import NO_HEADERS, Message, Note

#: Rows in one statement at most. From 64 on the time per row no longer falls; more only
#: make for fewer steps, of which a thousand rows then need six. The library allows 32,766
#: parameters in all.
_CHUNK: Final = 512

#: Bodies above this size, in bytes, are not sent through JSON: a thousand of them would
#: make a text of a size that SQLite refuses.
_INLINE: Final = 16 * 1024

#: What `select` reads of each row, in the order of `Row`.
_COLUMNS: Final = (
    f"seq, at, deliveries, id, name, CASE WHEN length(body) <= {_INLINE} THEN hex(body) END, "
    "attempt, deaths, unique_key, headers, note"
)

#: What a push writes of a message that has nothing but these, as nearly all have. Every
#: column that need not be bound saves a twentieth of the time that a push takes.
PLAIN_COLUMNS: Final = "due, id, name, body"

#: What a push writes of any other.
ALL_COLUMNS: Final = f"{PLAIN_COLUMNS}, owns, attempt, deaths, unique_key, headers, note"


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A message and its place. ``at`` is the time that orders it in its channel."""

    seq: int
    at: int
    deliveries: int
    id: str
    name: str
    body: str | None
    attempt: int
    deaths: int
    unique_key: str | None
    headers: str | None
    note: str | None


_rows = msgspec.json.Decoder(list[Row])
_headers = msgspec.json.Decoder(dict[str, str])
_note = msgspec.json.Decoder(Note)
_encoder = msgspec.json.Encoder()


def json(value: object) -> str:
    """As SQLite's JSON functions take it: text, not bytes. For numbers; it would cut text at a NUL."""
    return _encoder.encode(value).decode()


def headers_text(headers: Mapping[str, str]) -> str | None:
    return json(dict(headers)) if headers else None


def note_text(note: Note | None) -> str | None:
    return None if note is None else json(note)


def is_plain(message: Message) -> bool:
    """Whether `PLAIN_COLUMNS` say all of a message."""
    return not (
        message.attempt
        or message.deaths
        or message.headers
        or message.unique_key is not None
        or message.note is not None
    )


def all_values(message: Message, due: int, *, pending: bool = True) -> tuple[Any, ...]:
    """The values of `ALL_COLUMNS`. Only what is ``pending`` owns its key."""
    key = message.unique_key
    plain = (due, message.id, message.name, message.body)
    extra = (message.attempt, message.deaths, key, headers_text(message.headers), note_text(message.note))
    return (*plain, int(pending and key is not None), *extra)


def chunks(values: Sequence[Sequence[Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Cut rows into ``VALUES`` lists, with their parameters in one line.

    Sizes are powers of two, so that few different statements need to be parsed and kept.
    """
    start, count = 0, len(values)
    while start < count:
        size = min(_CHUNK, 1 << ((count - start).bit_length() - 1))
        part = values[start : start + size]
        one = f"({', '.join('?' * len(part[0]))})"
        yield ", ".join([one] * size), [value for row in part for value in row]
        start += size


def select(connection: sqlite3.Connection, source: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[Row]:
    """Read the rows of a subquery, in its order. It must give ``at`` beside the table's columns."""
    query = f"SELECT json_group_array(json_array({_COLUMNS})) FROM ({source})"
    (text,) = connection.execute(query, parameters).fetchone()
    return _rows.decode(text)


def message(connection: sqlite3.Connection, row: Row, delay: float = 0.0) -> Message:
    """The message of a row that `select` has read, inside the same transaction. One that is damaged has no name."""
    if row.body is None:
        (body,) = connection.execute("SELECT body FROM message WHERE seq = ?", (row.seq,)).fetchone()
    else:
        body = bytes.fromhex(row.body)
    try:
        headers = NO_HEADERS if row.headers is None else _headers.decode(row.headers)
        note = None if row.note is None else _note.decode(row.note)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Message(id=row.id, name="", body=body, delay=delay)
    return Message(
        id=row.id,
        name=row.name,
        body=body,
        attempt=row.attempt,
        deaths=row.deaths,
        delay=delay,
        unique_key=row.unique_key,
        headers=headers,
        note=note,
    )


_numbers = msgspec.json.Decoder(list[int])


def numbers(text: str) -> list[int]:
    return _numbers.decode(text)
