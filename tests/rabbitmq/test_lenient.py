"""Reading frames of which some cannot be decoded."""

import asyncio
import struct

import pamqp.frame
import pytest
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from headrace_rabbitmq.connections.lenient import _LenientReader


def header(flags: int, properties: bytes) -> bytes:
    """A frame with a message's header, as the broker hands it on."""
    payload = struct.pack(">HHQH", Basic.frame_id, 0, 2, flags) + properties
    return struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce"


async def read(*frames: bytes) -> list[object]:
    """What aiormq makes of frames that come through the reader, which it reads in three parts."""
    stream = asyncio.StreamReader()
    stream.feed_data(b"".join(frames))
    reader, found = _LenientReader(stream), list[object]()
    for _ in frames:
        start = await reader.readexactly(1) + await reader.readexactly(6)
        length = int.from_bytes(start[3:], "big")
        found.append(pamqp.frame.unmarshal(start + await reader.readexactly(length + 1))[2])
    return found


@pytest.mark.parametrize(
    ("flags", "properties"),
    [
        (0x0080, b"\x02\xff\xfe"),  # an id that is no text
        (0x0040, struct.pack(">Q", 2**62)),  # a time beyond all calendars
        (0x2000, struct.pack(">I", 5) + b"\x02\xff\xfet\x01"),  # a header whose name is no text
    ],
)
async def test_what_cannot_be_decoded_comes_without_properties(flags: int, properties: bytes) -> None:
    sound = pamqp.frame.marshal(ContentHeader(body_size=2, properties=Basic.Properties(message_id="a")), 1)
    broken, after = await read(header(flags, properties), sound)
    assert isinstance(broken, ContentHeader) and isinstance(after, ContentHeader)
    assert (broken.body_size, broken.properties.message_id) == (2, None)
    assert after.properties.message_id == "a"
