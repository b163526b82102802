"""Whatever bytes a backend gives back, each message is read, or comes as one that names no job: nothing else happens.

Random bytes, and envelopes of ours that were cut, flipped and overwritten. ``HEADRACE_TEST_LONG=1`` tries 250 times
as many; ``--hypothesis-show-statistics`` tells how many were tried.
"""

import math
import os
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from aiormq.abc import DeliveredMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from headrace.driver import Message, Note
from headrace_rabbitmq import codec as rabbitmq
from headrace_redis import codec as redis
from headrace_sqlite import rows
from headrace_sqs import codec as sqs

TRIED = 50_000 if "HEADRACE_TEST_LONG" in os.environ else 200

fuzzed = settings(max_examples=TRIED, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)

#: Deeper than a recursive reader's stack.
NESTED = 100_000

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
notes = st.builds(
    Note, type=texts, message=texts, traceback=texts, time=st.floats(allow_nan=False, allow_infinity=False)
)
messages = st.builds(
    Message,
    id=texts.filter(bool),
    name=texts.filter(bool),
    body=st.binary(max_size=100),
    attempt=st.integers(0, 2**31),
    deaths=st.integers(0, 2**31),
    unique_key=st.none() | texts,
    headers=st.dictionaries(texts, texts, max_size=3),
    note=st.none() | notes,
)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """What a disk, a network or a hand makes of bytes: fewer, other, or more of them."""
    value = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(value) - 1)))
        match draw(st.sampled_from(("cut", "flip", "overwrite", "insert", "nest"))):
            case "cut":
                del value[at:]
            case "flip" if value:
                value[at] ^= 1 << draw(st.integers(0, 7))
            case "overwrite":
                value[at : at + 4] = draw(st.binary(min_size=4, max_size=4))
            case "insert":
                value[at:at] = draw(st.binary(max_size=20))
            case "nest":
                value[at:at] = draw(st.sampled_from((b"[", b'{"a":', b"\x91", b"\x81\xa1a"))) * NESTED
    return bytes(value)


def values(pack: Callable[[Message], bytes]) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=200) | damaged(messages.map(pack))


def expect_message(found: Message) -> None:
    assert isinstance(found.id, str)
    assert isinstance(found.name, str)
    assert isinstance(found.body, bytes)
    assert found.attempt >= 0
    assert found.deaths >= 0


@fuzzed
@given(value=values(lambda message: bytes(8) + redis.pack(message)), element=st.binary(max_size=40))
def test_any_value_of_redis_is_a_message(value: bytes, element: bytes) -> None:
    expect_message(redis.unpack(redis.id_text(element), value))


@fuzzed
@given(value=values(lambda message: about(message)), body=texts | st.just("(binary)"), binary=st.binary(max_size=50))
def test_any_attribute_of_sqs_is_a_message(value: bytes, body: str, binary: bytes) -> None:
    attributes = {"headrace": {"DataType": "Binary", "BinaryValue": value}}
    for _ in range(2):
        found = sqs.unpack({"MessageId": "a", "Body": body, "MessageAttributes": attributes})
        expect_message(found.message)
        assert all(seconds is None or 0 <= seconds < math.inf for seconds in (found.after, found.due))
        attributes["headrace-body"] = {"DataType": "Binary", "BinaryValue": binary}


def about(message: Message) -> bytes:
    value: bytes = sqs.pack(message).fields["MessageAttributes"]["headrace"]["BinaryValue"]
    return value


@fuzzed
@given(value=values(lambda message: header(message)), body=st.binary(max_size=50), count=st.integers() | texts)
def test_any_header_of_rabbitmq_is_a_message(value: bytes, body: bytes, count: Any) -> None:
    for given_value in (value, value.decode(errors="replace"), [value], {"a": value}, len(value)):
        properties = Basic.Properties(headers={"headrace": given_value, "x-delivery-count": count})  # type: ignore[dict-item]
        delivery = DeliveredMessage(Basic.Deliver(), ContentHeader(properties=properties), body, None)  # type: ignore[arg-type]
        message, deliveries = rabbitmq.received(delivery)
        expect_message(message)
        assert deliveries >= 0


def header(message: Message) -> bytes:
    headers = rabbitmq.properties(message).headers or {}
    return str(headers.get("headrace", "")).encode()


@fuzzed
@given(
    headers=values(lambda message: (rows.headers_text(message.headers) or "").encode()),
    note=values(lambda message: (rows.note_text(message.note) or "").encode()),
)
def test_any_text_beside_a_row_of_sqlite_is_a_message(headers: bytes, note: bytes) -> None:
    connection = sqlite3.connect(":memory:")
    try:
        for row in (row_of(headers, None), row_of(None, note), row_of(headers, note)):
            expect_message(rows.message(connection, row))
    finally:
        connection.close()


def row_of(headers: bytes | None, note: bytes | None) -> rows.Row:
    texts = [None if each is None else each.decode(errors="replace") for each in (headers, note)]
    return rows.Row(1, 1, 1, "a", "Job", "00", 0, 0, None, *texts)


@pytest.mark.parametrize(
    "value", [b"", b"\x00" * 8, b"\x00" * 8 + b"\x0e\xff\xff\xff\xff", b"\x00" * 8 + b"\x02\x00\x00\x00\x01\x91"]
)
def test_what_is_cut_short_in_redis_names_no_job(value: bytes) -> None:
    assert redis.unpack("a", value).name == ""
