"""What each verb does to the rows of one queue: synchronous, inside a transaction of the caller's.

Owns the SQL that moves messages. Every function takes the connection, the queue's number
and the time, and may be run again from the start after a rollback: nothing but the file
remembers anything.
"""

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec

from headrace.driver import Channel, Delivery, Info, Message, Page, RestingChannel, Settled
from headrace.errors import BackendError
from headrace_sqlite import rows
from headrace_sqlite.clock import MICROSECONDS
from headrace_sqlite.schema import WIDE

#: A message's row, and what its present holder alone knows.
Receipt: TypeAlias = tuple[int, int]

_STATE: Final = {"failed": 2, "timeout": 3}

#: Which rows a channel has; ``:queue`` is its number and ``:now`` the time. An expired lease counts
#: as waiting from its end on, whether or not somebody has come by to write that down.
#: ``state >= 2`` says nothing new, but lets the planner see that the partial index fits.
_PENDING: Final = "queue = :queue AND state = 0"
_EXPIRED: Final = "queue = :queue AND state = 1 AND lease <= :now"
_RESERVED: Final = "queue = :queue AND state = 1 AND lease > :now"
_RESTING: Final = "queue = :queue AND state >= 2 AND state = "

#: What a pop takes: at most ``:limit`` of what is due.
_OLDEST: Final = f"WHERE {_PENDING} AND due <= :now ORDER BY due, seq LIMIT :limit"

#: Receipts that a run of neighbours must have on average: two statements for a run cost as much
#: as so many rows that are named one by one.
_SPAN: Final = 8

_INSERT: Final = (
    "WITH new ({columns}) AS (VALUES {values}) INSERT INTO message (queue, state, {columns}) "
    "SELECT {queue}, {state}, {columns} FROM new WHERE true ON CONFLICT (queue, id) DO NOTHING"
)


def microseconds(seconds: float) -> int:
    """A duration as the file counts it; the longest that it can count stands for all longer ones."""
    return int(min(seconds * MICROSECONDS, float(2**60)))


def number_of(connection: sqlite3.Connection, prefix: str) -> int:
    """The queue's number, given to it now if it has none."""
    connection.execute("INSERT OR IGNORE INTO queue (prefix) VALUES (?)", (prefix,))
    (number,) = connection.execute("SELECT number FROM queue WHERE prefix = ?", (prefix,)).fetchone()
    return int(number)


def push(connection: sqlite3.Connection, queue: int, now: int, messages: Sequence[Message]) -> list[str | BackendError]:
    """`Driver.push` and `Driver.delay`: a message's own ``delay`` decides when it is due."""
    if any(message.unique_key is not None for message in messages):
        return [_one(connection, each, partial(_push_one, connection, queue, now, each)) for each in messages]
    try:
        _insert(connection, queue, now, messages)
    except (UnicodeError, sqlite3.DataError):
        # One that no database could take, perhaps. What is stored already is left alone.
        return [_one(connection, each, partial(_push_one, connection, queue, now, each)) for each in messages]
    return [message.id for message in messages]


def store(
    connection: sqlite3.Connection, queue: int, now: int, messages: Sequence[Message], channel: RestingChannel
) -> list[str | BackendError]:
    """`Driver.store`."""
    state = _STATE[channel]
    resting = [msgspec.structs.replace(each, delay=0.0) if each.delay else each for each in messages]
    try:
        _insert(connection, queue, now, resting, state)
    except (UnicodeError, sqlite3.DataError):
        return [_one(connection, each, partial(_insert, connection, queue, now, [each], state)) for each in resting]
    return [message.id for message in messages]


def _insert(connection: sqlite3.Connection, queue: int, now: int, messages: Sequence[Message], state: int = 0) -> None:
    due = [now + microseconds(message.delay) if message.delay > 0 else now for message in messages]
    columns, values = rows.PLAIN_COLUMNS, list[tuple[Any, ...]]()
    if all(map(rows.is_plain, messages)):
        values = [(at, message.id, message.name, message.body) for at, message in zip(due, messages, strict=True)]
    else:
        columns = rows.ALL_COLUMNS
        pending = state == 0
        values = [rows.all_values(message, at, pending=pending) for at, message in zip(due, messages, strict=True)]
    for places, parameters in rows.chunks(values):
        statement = _INSERT.format(queue=queue, state=state, columns=columns, values=places)
        connection.execute(statement, parameters)


def _one(connection: sqlite3.Connection, message: Message, store: Callable[[], str | None]) -> str | BackendError:
    """Store or refuse one message; what it would have replaced stays if it is refused."""
    result: str | BackendError
    connection.execute("SAVEPOINT one")
    try:
        result = store() or message.id
    except (UnicodeError, sqlite3.DataError) as error:
        connection.execute("ROLLBACK TO one")
        result = BackendError(f"message {message.id!r} does not fit into a row: {error}")
        result.__cause__ = error
    connection.execute("RELEASE one")  # not after other errors: they may have ended the transaction, and all with it
    return result


def _push_one(connection: sqlite3.Connection, queue: int, now: int, message: Message) -> str:
    if message.unique_key is not None:
        held = "SELECT 1 FROM message WHERE queue = ? AND id = ?"
        if connection.execute(held, (queue, message.id)).fetchone():
            return message.id
        owns = "SELECT seq, id FROM message WHERE queue = ? AND unique_key = ? AND owns = 1"
        owner = connection.execute(owns, (queue, message.unique_key)).fetchone()
        if owner is not None and message.on_duplicate == "keep":
            return str(owner[1])
        if owner is not None:
            connection.execute("DELETE FROM message WHERE seq = ?", owner[:1])
    _insert(connection, queue, now, [message])
    return message.id


def _expire(connection: sqlite3.Connection, queue: int, now: int) -> None:
    connection.execute(f"UPDATE message SET state = 0 WHERE {_EXPIRED}", {"queue": queue, "now": now})


def pop(connection: sqlite3.Connection, queue: int, now: int, limit: int, lease_seconds: float) -> list[Delivery]:
    _expire(connection, queue, now)
    due = {"queue": queue, "now": now, "limit": limit}
    found = rows.select(connection, f"SELECT *, due AS at FROM message {_OLDEST}", due)
    if not found:
        return []
    token = WIDE + secrets.randbits(61)
    first, last = min(row.seq for row in found), max(row.seq for row in found)
    # Nearly always they stand in one row, which costs less to say than which they are; else the
    # same rows again: finding them costs less than handing their numbers over.
    unbroken = last - first + 1 == len(found)
    chosen = "BETWEEN :first AND :last" if unbroken else f"IN (SELECT seq FROM message {_OLDEST})"
    connection.execute(
        f"UPDATE message SET state = 1, lease = :lease, token = :token, deliveries = deliveries + 1 WHERE seq {chosen}",
        {**due, "lease": now + microseconds(lease_seconds), "token": token, "first": first, "last": last},
    )
    owners = [row.seq for row in found if row.unique_key is not None]
    if owners:
        connection.execute(
            "UPDATE message SET owns = 0 WHERE owns = 1 AND seq IN (SELECT value FROM json_each(?))",
            (rows.json(owners),),
        )
    return [Delivery(rows.message(connection, row), (row.seq, token), row.deliveries + 1) for row in found]


def _valid(connection: sqlite3.Connection, queue: int, now: int, receipts: Sequence[Receipt]) -> set[Receipt]:
    """Those receipts that still hold a message of the queue. To be asked before anything is written.

    The plus keeps the planner from any index but the row numbers.
    """
    seqs, tokens = connection.execute(
        "SELECT json_group_array(seq), json_group_array(token) FROM message "
        "WHERE seq IN (SELECT value FROM json_each(?)) AND +queue = ? AND state = 1 AND lease > ?",
        (_seqs(receipts), queue, now),
    ).fetchone()
    return set(zip(rows.numbers(seqs), rows.numbers(tokens), strict=True)).intersection(receipts)


def _settled(receipts: Iterable[Receipt], valid: set[Receipt]) -> list[Settled]:
    """What to answer for each receipt of a call that settles; one that comes twice is good once."""
    left = set(valid)
    results: list[Settled] = []
    for receipt in receipts:
        if receipt in left:
            left.discard(receipt)
            results.append(Settled.DONE)
        else:
            results.append(Settled.STALE)
    return results


def _seqs(receipts: Iterable[Receipt]) -> str:
    return rows.json([seq for seq, _ in receipts])


def ack(connection: sqlite3.Connection, queue: int, now: int, receipts: Sequence[Receipt]) -> list[Settled]:
    if _ack_spans(connection, queue, now, _spans(receipts)):
        return [Settled.DONE] * len(receipts)
    valid = _valid(connection, queue, now, receipts)
    connection.execute("DELETE FROM message WHERE seq IN (SELECT value FROM json_each(?))", (_seqs(valid),))
    return _settled(receipts, valid)


def _spans(receipts: Sequence[Receipt]) -> list[tuple[int, int, int]]:
    """Receipts as runs of neighbours that one pop took: first and last row, and the token. None comes twice.

    Empty where there are no longer runs, and so nothing to be gained.
    """
    spans: list[tuple[int, int, int]] = []
    ordered = sorted(receipts)
    (first, token), last = ordered[0], ordered[0][0]
    for receipt in ordered[1:]:
        if receipt == (last + 1, token):
            last += 1
        elif receipt[0] == last or len(spans) * _SPAN > len(receipts):
            return []
        else:
            spans.append((first, last, token))
            (first, token), last = receipt, receipt[0]
    return [*spans, (first, last, token)]


def _ack_spans(connection: sqlite3.Connection, queue: int, now: int, spans: Sequence[tuple[int, int, int]]) -> bool:
    """Delete whole runs of rows if every one of them is still held; else nothing, and false.

    Half of an ack's time went into naming thousands of rows one by one, in both directions.
    """
    held = "FROM message WHERE seq BETWEEN ? AND ? AND token = ? AND +queue = ? AND state = 1 AND lease > ?"
    for first, last, token in spans:
        (count,) = connection.execute(f"SELECT count(*) {held}", (first, last, token, queue, now)).fetchone()
        if count != last - first + 1:
            return False
    for first, last, _ in spans:
        connection.execute("DELETE FROM message WHERE seq BETWEEN ? AND ?", (first, last))
    return bool(spans)


def extend(
    connection: sqlite3.Connection, queue: int, now: int, receipts: Sequence[Receipt], seconds: float
) -> tuple[list[Settled], bool]:
    """Besides the results: whether some lease became shorter."""
    valid = _valid(connection, queue, now, receipts)
    until, seqs = now + microseconds(seconds), _seqs(valid)
    (last,) = connection.execute(
        "SELECT max(lease) FROM message WHERE seq IN (SELECT value FROM json_each(?))", (seqs,)
    ).fetchone()
    connection.execute("UPDATE message SET lease = ? WHERE seq IN (SELECT value FROM json_each(?))", (until, seqs))
    return [Settled.DONE if receipt in valid else Settled.STALE for receipt in receipts], until < (last or 0)


def give_back(connection: sqlite3.Connection, queue: int, now: int, receipts: Sequence[Receipt]) -> None:
    """Undo a pop that nobody saw: the old place, and nothing counted."""
    valid = _valid(connection, queue, now, receipts)
    connection.execute(
        "UPDATE message SET state = 0, deliveries = deliveries - 1 WHERE seq IN (SELECT value FROM json_each(?))",
        (_seqs(valid),),
    )


def write_back(
    connection: sqlite3.Connection,
    queue: int,
    now: int,
    pairs: Sequence[tuple[Receipt, Message]],
    channel: RestingChannel | None,
) -> list[Settled]:
    """`Driver.retry`, and with a channel `Driver.fail`."""
    receipts = [receipt for receipt, _ in pairs]
    results = _settled(receipts, _valid(connection, queue, now, receipts))
    state = 0 if channel is None else _STATE[channel]
    values = []
    for ((seq, _), message), result in zip(pairs, results, strict=True):
        if result is Settled.DONE:
            due = now if channel else now + microseconds(message.delay) if message.delay > 0 else None
            headers, note = rows.headers_text(message.headers), rows.note_text(message.note)
            values.append((seq, due, message.name, message.attempt, message.deaths, message.unique_key, headers, note))
    for places, parameters in rows.chunks(values):
        connection.execute(
            f"WITH new (seq, due, name, attempt, deaths, unique_key, headers, note) AS (VALUES {places}) "
            f"UPDATE message SET state = {state}, deliveries = 0, "
            "due = coalesce(new.due, message.due), name = new.name, attempt = new.attempt, deaths = new.deaths, "
            "unique_key = new.unique_key, headers = new.headers, note = new.note "
            "FROM new WHERE message.seq = new.seq",
            parameters,
        )
    return results


def reload_piece(
    connection: sqlite3.Connection, now: int, *, queue: int, start: int, channel: RestingChannel, limit: int
) -> int:
    """Move at most ``limit`` of the oldest that came to rest until ``start``."""
    return connection.execute(
        f"{_RELOAD} WHERE seq IN (SELECT seq FROM message WHERE {_RESTING}{_STATE[channel]} AND due <= :now "
        "ORDER BY due, seq LIMIT :limit)",
        {"queue": queue, "now": start, "limit": limit},
    ).rowcount


_RELOAD: Final = "UPDATE message SET state = 0, due = :now, attempt = 0, deaths = 0, note = NULL"


def of_ids(
    connection: sqlite3.Connection, queue: int, now: int, channel: Channel, ids: Sequence[str]
) -> list[tuple[int, int]]:
    """The place of those messages of a channel that have one of these ids, oldest first: ``(at, seq)``."""
    found: list[tuple[int, int]] = []
    for places, parameters in rows.chunks([(id_,) for id_ in dict.fromkeys(ids)]):
        for seq, state, due, lease in connection.execute(
            f"SELECT seq, state, due, lease FROM message WHERE queue = {queue} AND id IN (VALUES {places})", parameters
        ):
            if _channel(state, due, lease, now) == channel:
                found.append((lease if channel == "reserved" else due, seq))
    return sorted(found)


def _channel(state: int, due: int, lease: int | None, now: int) -> Channel:
    if state == 0:
        return "waiting" if due <= now else "delayed"
    if state == 1:
        return "reserved" if lease is not None and lease > now else "waiting"
    return "failed" if state == _STATE["failed"] else "timeout"


def reload_rows(connection: sqlite3.Connection, now: int, seqs: Sequence[int]) -> int:
    query = f"{_RELOAD} WHERE seq IN (SELECT value FROM json_each(:seqs))"
    return connection.execute(query, {"seqs": rows.json(seqs), "now": now}).rowcount


def delete_rows(connection: sqlite3.Connection, seqs: Sequence[int]) -> int:
    query = "DELETE FROM message WHERE seq IN (SELECT value FROM json_each(?))"
    return connection.execute(query, (rows.json(seqs),)).rowcount


def flush(connection: sqlite3.Connection, queue: int, now: int, channel: Channel, last: int, limit: int) -> int:
    """Delete at most ``limit`` messages of a channel, none of them newer than the row ``last``."""
    _expire(connection, queue, now)
    which = {"waiting": f"{_PENDING} AND due <= :now", "delayed": f"{_PENDING} AND due > :now"}
    condition = which.get(channel) or f"{_RESTING}{_STATE[channel]} AND due <= :now"
    return connection.execute(
        f"DELETE FROM message WHERE seq IN (SELECT seq FROM message WHERE {condition} AND seq <= :last LIMIT :limit)",
        {"queue": queue, "now": now, "last": last, "limit": limit},
    ).rowcount


def destroy(connection: sqlite3.Connection, queue: int, limit: int) -> int:
    """Delete at most ``limit`` messages of a queue, whatever channel they are in."""
    return connection.execute(
        "DELETE FROM message WHERE seq IN (SELECT seq FROM message WHERE queue = ? LIMIT ?)", (queue, limit)
    ).rowcount


def newest(connection: sqlite3.Connection) -> int:
    (seq,) = connection.execute("SELECT coalesce(max(seq), 0) FROM message").fetchone()
    return int(seq)


def cancel(connection: sqlite3.Connection, queue: int, now: int, id_: str) -> bool:
    found = connection.execute(
        "DELETE FROM message WHERE queue = :queue AND id = :id AND (state = 0 OR (state = 1 AND lease <= :now))",
        {"queue": queue, "now": now, "id": id_},
    )
    return found.rowcount > 0


# Looking, without a write transaction.

#: When the queue next has something to hand out: now or earlier, if it has already.
NEXT: Final = (
    "SELECT min(at) FROM (SELECT * FROM (SELECT due AS at FROM message WHERE queue = :queue AND state = 0 "
    "ORDER BY due LIMIT 1) UNION ALL SELECT * FROM (SELECT lease FROM message WHERE queue = :queue AND state = 1 "
    "ORDER BY lease LIMIT 1))"
)

_INFO: Final = (
    f"SELECT (SELECT count(*) FROM message WHERE {_PENDING} AND due <= :now) + "
    f"(SELECT count(*) FROM message WHERE {_EXPIRED}), "
    f"(SELECT count(*) FROM message WHERE {_RESERVED}), "
    f"(SELECT count(*) FROM message WHERE {_PENDING} AND due > :now), "
    f"(SELECT count(*) FROM message WHERE {_RESTING}2), "
    f"(SELECT count(*) FROM message WHERE {_RESTING}3), "
    f"(SELECT min(due) FROM (SELECT * FROM (SELECT due FROM message WHERE {_PENDING} AND due <= :now ORDER BY due "
    f"LIMIT 1) UNION ALL SELECT min(due) FROM message WHERE {_EXPIRED}))"
)


def info(connection: sqlite3.Connection, queue: int, now: int) -> Info:
    *counts, oldest = connection.execute(_INFO, {"queue": queue, "now": now}).fetchone()
    waiting, reserved, delayed, failed, timeout = counts
    seconds = None if oldest is None else (now - oldest) / MICROSECONDS
    return Info(waiting, reserved, delayed, failed, timeout, oldest_seconds=seconds)


#: A channel's rows in order, after the place ``(:at, :seq)``.
_BEHIND: Final = "(due, seq) > (:at, :seq)"
_AFTER: Final = "ORDER BY at, seq LIMIT :limit"
_CHANNELS: Final[dict[Channel, str]] = {
    "waiting": (
        f"SELECT * FROM (SELECT *, due AS at FROM message WHERE {_PENDING} AND due <= :now AND {_BEHIND} "
        f"ORDER BY due, seq LIMIT :limit) UNION ALL SELECT * FROM (SELECT *, due AS at FROM message WHERE {_EXPIRED} "
        f"AND {_BEHIND}) "
    )
    + _AFTER,
    "delayed": f"SELECT *, due AS at FROM message WHERE {_PENDING} AND due > :now AND {_BEHIND} {_AFTER}",
    "reserved": f"SELECT *, lease AS at FROM message WHERE {_RESERVED} AND (lease, seq) > (:at, :seq) {_AFTER}",
    "failed": f"SELECT *, due AS at FROM message WHERE {_RESTING}2 AND {_BEHIND} AND :now {_AFTER}",
    "timeout": f"SELECT *, due AS at FROM message WHERE {_RESTING}3 AND {_BEHIND} AND :now {_AFTER}",
}


def peek(
    connection: sqlite3.Connection,
    queue: int,
    now: int,
    channel: Channel,
    limit: int,
    cursor: str | None,
    ids: Sequence[str] | None,
) -> Page:
    after = (-1, -1) if cursor is None else tuple(int(part) for part in cursor.split(":"))
    if ids is None:
        start = {"queue": queue, "now": now, "at": after[0], "seq": after[1], "limit": limit + 1}
        found = rows.select(connection, _CHANNELS[channel], start)
    else:
        places = [place for place in of_ids(connection, queue, now, channel, ids) if place > after][: limit + 1]
        at = "lease" if channel == "reserved" else "due"
        source = f"SELECT *, {at} AS at FROM message WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY {at}, seq"
        found = rows.select(connection, source, (rows.json([seq for _, seq in places]),))
    shown = found[:limit]
    remaining = [(row.at - now) / MICROSECONDS if channel == "delayed" else 0.0 for row in shown]
    messages = [rows.message(connection, row, delay) for row, delay in zip(shown, remaining, strict=True)]
    more = len(found) > len(shown) and shown
    return Page(messages, f"{shown[-1].at}:{shown[-1].seq}" if more else None)
