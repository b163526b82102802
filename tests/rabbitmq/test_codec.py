"""Messages as AMQP carries them."""

import msgspec
import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from headrace.driver import Message, Note
from headrace_rabbitmq.codec import fits, header_size, properties, properties_within, received

NOTE = Note("ValueError", "no", "Traceback ...", 1.5)


def delivered(found: Basic.Properties, body: bytes = b"{}") -> DeliveredMessage:
    """What comes of properties that were sent so: they cross the wire as bytes."""
    sent = ContentHeader(body_size=len(body), properties=found)
    header = ContentHeader()
    header.unmarshal(sent.marshal())
    return DeliveredMessage(delivery=Basic.Deliver(), header=header, body=body, channel=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sent",
    [
        Message(id="a", name="Job", body=b"{}"),
        Message(id="a", name="Job", body=b"\xff\0", attempt=2, deaths=1, headers={"k": "ü", "": "\0"}, note=NOTE),
        Message(id="x" * 64, name="n" * 256, body=b"{}"),
        Message(id="\U0001f600" * 200, name="☃" * 300, body=b"{}", attempt=1),
    ],
)
def test_a_message_comes_back_as_it_was_sent(sent: Message) -> None:
    assert received(delivered(properties(sent), sent.body)) == (sent, 0)


def test_what_most_messages_do_not_have_costs_them_nothing() -> None:
    assert properties(Message(id="a", name="Job", body=b"{}")).headers is None


@pytest.mark.parametrize("text", ["x" * 30_000, "\N{SNOWMAN}" * 10_000, "\0" * 5000])
def test_whether_a_header_fits_is_told_to_the_byte(text: str) -> None:
    found = properties(Message(id="a", name="Job", body=b"{}", headers={"k": text}))
    size = header_size(found)
    assert size > 30_000
    assert fits(found, size) and not fits(found, size - 1)


def test_a_note_gets_shorter_from_the_start_of_its_traceback_to_the_end_of_its_message() -> None:
    note = Note("ValueError", "no such user", "\n".join(map(str, range(2000))), 1.5)
    sent = Message(id="a", name="Job", body=b"{}", headers={"k": "ü"}, note=note)
    whole = header_size(properties(sent))
    assert properties_within(whole, sent) == properties(sent)
    kept: list[Note | None] = []
    for largest in range(whole - 1, 100, -100):
        found = properties_within(largest, sent)
        assert fits(found, largest)
        message, _ = received(delivered(found))
        assert msgspec.structs.replace(message, note=None) == msgspec.structs.replace(sent, note=None)
        kept.append(message.note)
    assert kept[0] is not None and kept[0].message == note.message and kept[0].traceback.endswith("1998\n1999")
    assert kept[-1] is None
    sizes = [len(each.traceback) + len(each.message) if each else 0 for each in kept]
    assert sizes == sorted(sizes, reverse=True)
    assert any(each and each.message == note.message and each.traceback.endswith("9") for each in kept)


def test_a_delay_is_no_part_of_the_message() -> None:
    sent = Message(id="a", name="Job", body=b"{}", delay=3.0)
    message, _ = received(delivered(properties(sent)))
    assert message.delay == 0.0


def test_deliveries_are_counted_wherever_the_broker_tells_them() -> None:
    for headers, count in (({"x-acquired-count": 2}, 2), ({"x-acquired-count": 3, "x-delivery-count": 1}, 3)):
        assert received(delivered(Basic.Properties(headers=dict(headers))))[1] == count


def test_deliveries_before_and_after_a_message_was_sent_anew_are_counted_together() -> None:
    found = properties(Message(id="a", name="Job", body=b"{}", deaths=1), deliveries=2)
    headers: FieldTable = {**(found.headers or {}), "x-delivery-count": 3}
    found.headers = headers
    message, deliveries = received(delivered(found))
    assert (deliveries, message.deaths) == (5, 1)


def test_a_message_without_an_id_gets_one() -> None:
    first, _ = received(delivered(Basic.Properties()))
    second, _ = received(delivered(Basic.Properties()))
    assert first.id and second.id and first.id != second.id


@pytest.mark.parametrize("garbage", ["no JSON", '{"attempt": "x"}', "[]", 7, None, bytearray(b"\xff"), {"a": 1}, ["a"]])
def test_a_header_that_somebody_else_wrote_does_no_harm(garbage: object) -> None:
    headers: FieldTable = {"headrace": garbage, "x-delivery-count": "many"}  # type: ignore[dict-item]
    message, deliveries = received(delivered(Basic.Properties(message_id="a", message_type="Job", headers=headers)))
    assert (message, deliveries) == (Message(id="a", name="Job", body=b"{}"), 0)
