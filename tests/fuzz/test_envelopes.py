"""Whatever bytes a backend gives back, each message is read, or comes as one that names no job: nothing else happens.

Random bytes, and envelopes of ours that were cut, flipped and overwritten. ``HEADRACE_TEST_LONG=1`` tries 250 times
as many; ``--hypothesis-show-statistics`` tells how many were tried.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
import readers
from fuzz_targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.driver import Message, Note
from headrace_redis import codec as redis
from headrace_sqlite import rows

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


@fuzzed
@given(value=values(lambda message: bytes(24) + redis.pack(message)))
def test_any_value_of_redis_is_a_message(value: bytes) -> None:
    readers.value_of_redis(value)


@fuzzed
@given(value=values(readers.whole_attribute_of_sqs), body=texts | st.just("(binary)"), binary=st.binary(max_size=50))
def test_any_attribute_of_sqs_is_a_message(value: bytes, body: str, binary: bytes) -> None:
    readers.attribute_of_sqs(value, body, binary)


@fuzzed
@given(value=values(readers.whole_header_of_rabbitmq), body=st.binary(max_size=50), count=st.integers() | texts)
def test_any_header_of_rabbitmq_is_a_message(value: bytes, body: bytes, count: Any) -> None:
    readers.header_of_rabbitmq(value, body, count)


@fuzzed
@given(
    headers=values(lambda message: (rows.headers_text(message.headers) or "").encode()),
    note=values(lambda message: (rows.note_text(message.note) or "").encode()),
)
def test_any_text_beside_a_row_of_sqlite_is_a_message(headers: bytes, note: bytes) -> None:
    readers.texts_of_sqlite(headers, note)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_what_the_guided_fuzzer_begins_with_is_read(name: str) -> None:
    target = TARGETS[name]
    for data in target.seeds():
        target.read(data)
        target.read(data[: len(data) // 2])
        target.read(b"[" * NESTED + data)


@pytest.mark.parametrize(
    "value", [b"", b"\x00" * 8, b"\x00" * 8 + b"\x0e\xff\xff\xff\xff", b"\x00" * 8 + b"\x02\x00\x00\x00\x01\x91"]
)
def test_what_is_cut_short_in_redis_names_no_job(value: bytes) -> None:
    assert redis.unpack("a", value).name == ""
