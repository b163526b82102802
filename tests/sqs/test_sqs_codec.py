"""Messages as SQS keeps them: what is readable, what it costs, and what others have put there."""

from typing import Any

import msgspec
import pytest

from headrace.driver import Message, Note
from headrace_sqs.codec import LARGEST, RESERVE, Parcel, pack, unpack


def received(parcel: Parcel) -> dict[str, Any]:
    """A message as SQS hands it out that was sent so."""
    fields = parcel.fields
    return {"MessageId": "1", "Body": fields["MessageBody"], "MessageAttributes": fields["MessageAttributes"]}


def message(body: bytes, **fields: Any) -> Message:
    return Message(id="a", name="mail.Send", body=body, **fields)


@pytest.mark.parametrize("body", [b'{"user": "\xe2\x98\x83"}', b"a\n\tb", "\U0001f600".encode(), b" "])
def test_a_body_that_is_text_is_the_text_of_the_message(body: bytes) -> None:
    parcel = pack(message(body))
    assert parcel.fields["MessageBody"] == body.decode()
    assert unpack(received(parcel)).message == message(body)


@pytest.mark.parametrize("body", [b"", b"\0", b"\xff", b"a\rb", "\uffff".encode(), b"\x1b[0m", b"\xed\xa0\x80"])
def test_any_other_body_travels_as_bytes_and_grows_by_less_than_a_hundred(body: bytes) -> None:
    body *= 1000
    parcel = pack(message(body))
    assert parcel.fields["MessageBody"] == "(binary)"
    assert parcel.size < len(body) + 100
    assert unpack(received(parcel)).message == message(body)


def test_everything_of_a_message_comes_back_but_its_delay_and_key() -> None:
    note = Note("ValueError", "\0\N{SNOWMAN}", "x" * 100, 1.5)
    sent = message(b"{}", attempt=2, deaths=1, headers={"a": "\0", "": ""}, note=note)
    changed = msgspec.structs.replace(sent, delay=5.0, unique_key="k", on_duplicate="keep")
    assert unpack(received(pack(changed))).message == sent


@pytest.mark.parametrize("character", ["\0", "\N{SNOWMAN}", "x"])
@pytest.mark.parametrize("filler", [b"\0", b"x"])
def test_the_largest_body_fits_with_the_largest_note(character: str, filler: bytes) -> None:
    text = character * (16 * 1024 // len(character.encode()) - 200)
    sent = message(filler * (LARGEST - RESERVE), note=Note("E", "m", text, 0.0), headers={"h": "v" * 4000})
    assert pack(sent).size <= LARGEST


@pytest.mark.parametrize(
    "foreign",
    [
        {},
        {"MessageAttributes": {"other": {"DataType": "String", "StringValue": "x"}}},
        {"MessageAttributes": {"headrace": {"DataType": "Binary", "BinaryValue": b"\xc1"}}},
        {"MessageAttributes": {"headrace": {"DataType": "String", "StringValue": "x"}}},
    ],
)
def test_what_others_have_put_into_a_queue_is_a_message_of_a_job_without_a_name(foreign: dict[str, Any]) -> None:
    unpacked = unpack({"MessageId": "sqs-1", "Body": "{'a': 1}", **foreign})
    assert unpacked.message == Message(id="sqs-1", name="", body=b"{'a': 1}")


def test_what_a_newer_version_adds_is_skipped() -> None:
    parcel = pack(message(b"{}"))
    attribute = parcel.fields["MessageAttributes"]["headrace"]
    about = [*msgspec.msgpack.decode(attribute["BinaryValue"]), "new"]
    attribute["BinaryValue"] = msgspec.msgpack.encode(about)
    assert unpack(received(parcel)).message == message(b"{}")
