"""Reading on where a message's properties cannot be decoded.

Anybody may publish to a queue, and the broker looks at properties no closer than it must: a text
that is no UTF-8 or a time beyond all calendars passes. pamqp refuses it, and with it the whole
connection; delivered again, the message would end the next one. So after such an end a link
reads this way: what cannot be decoded comes without properties, as a message that nobody knows,
and can be settled.
"""

import asyncio
from typing import Any, Final

import pamqp.frame
from aiormq.connection import TransportFactory
from aiormq.exceptions import InvalidFrameError
from pamqp.constants import FRAME_HEADER
from pamqp.exceptions import PAMQPException
from yarl import URL

#: How a connection ends on which such a message came.
UNREADABLE: Final = (InvalidFrameError, ValueError, OverflowError)

#: Bytes of a frame before its payload: type, channel, length.
_START: Final = 7

#: Where the flags are in such a payload, that tell which properties follow.
_FLAGS: Final = slice(12, 14)


class LenientTransport(TransportFactory):
    """Connects by another factory, and reads with a `_LenientReader`."""

    def __init__(self, strict: TransportFactory) -> None:
        self._strict = strict

    async def create(self, url: URL, **kwargs: Any) -> tuple[Any, asyncio.StreamWriter]:
        reader, writer = await self._strict.create(url, **kwargs)
        return _LenientReader(reader), writer


class _LenientReader:
    """What aiormq uses of a stream's reader. It reads a frame in three parts: type, rest of the start, payload."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._start = b""

    def at_eof(self) -> bool:
        return self._reader.at_eof()

    async def read(self, size: int = -1) -> bytes:
        return await self._reader.read(size)

    async def readexactly(self, size: int) -> bytes:
        part = await self._reader.readexactly(size)
        if len(self._start) < _START:
            self._start += part
            return part
        start, self._start = self._start, b""
        return _without_properties(start, part) if start[0] == FRAME_HEADER else part


def _without_properties(start: bytes, payload: bytes) -> bytes:
    """The payload of a message's header, and if that cannot be decoded, one that says that there are none."""
    try:
        pamqp.frame.unmarshal(start + payload)
    except (PAMQPException, ValueError, OverflowError):
        mended = bytearray(payload)
        mended[_FLAGS] = b"\0\0"
        return bytes(mended)
    return payload
