"""Signed messages: what nobody signed who has a key is not run.

For a backend that others can write to as well. The signature covers what decides over what is run and where: the
queue's prefix, the message's id, the job's name, its body, and the headers, but for those that workers write on the
way. It does not cover how often the message was tried, and it hides nothing.

HMAC-SHA256 (RFC 2104). Which key has signed is told by the first digits of a digest of it, so that keys can be
replaced: the new one is put first, and the old ones stay until the last message of theirs has gone.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from headrace.delays import DUE_HEADER, REMAINING_HEADER
from headrace.driver import Message
from headrace.errors import InvalidSignature

#: The header with the key's mark and the signature.
SIGNATURE_HEADER: Final = "headrace-signature"

#: Seconds for which an unknown job has been handed on so far, as a worker writes that does not know it.
UNKNOWN_HEADER: Final = "headrace-unknown"

#: Headers that are not signed, as they come and go on the way.
_ON_THE_WAY: Final = frozenset({SIGNATURE_HEADER, UNKNOWN_HEADER, DUE_HEADER, REMAINING_HEADER})

#: Goes into each digest first, so that no digest of ours can be taken for one that was made for something else.
_KEY: Final = b"headrace key 1\0"
_MESSAGE: Final = b"headrace message 1"

#: Hexadecimal digits that tell keys apart.
_MARK: Final = 8


class Signer:
    """Signs and verifies the messages of one queue. The first of ``keys`` signs, all of them verify."""

    def __init__(self, keys: Sequence[str], prefix: str) -> None:
        secrets = [key.encode() for key in keys]
        self._keys = {hashlib.sha256(_KEY + secret).hexdigest()[:_MARK]: secret for secret in reversed(secrets)}
        self._mark = next(reversed(self._keys))
        self._prefix = prefix

    def sign(self, message: Message) -> Message:
        """The message with its signature among the headers."""
        signature = f"{self._mark}:{self._digest(self._mark, message)}"
        return msgspec.structs.replace(message, headers={**message.headers, SIGNATURE_HEADER: signature})

    def verify(self, message: Message) -> None:
        """Raises `InvalidSignature` unless the message is as somebody with one of the keys has signed it."""
        signature = message.headers.get(SIGNATURE_HEADER)
        if signature is None:
            raise InvalidSignature("nobody has signed it, and this configuration has signing_keys")
        mark, _, digest = signature.partition(":")
        if mark not in self._keys:
            raise InvalidSignature("it was signed with a key that is none of this configuration's signing_keys")
        if not hmac.compare_digest(_bytes(self._digest(mark, message)), _bytes(digest)):
            raise InvalidSignature("it is not what was signed: it was altered, or comes from another queue")

    def _digest(self, mark: str, message: Message) -> str:
        digest = hmac.new(self._keys[mark], _MESSAGE, hashlib.sha256)
        for part in self._parts(message):
            # Each with its length, so that nothing can be moved from one part to the next.
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.hexdigest()

    def _parts(self, message: Message) -> Iterable[bytes]:
        yield _bytes(self._prefix)
        yield _bytes(message.id)
        yield _bytes(message.name)
        yield message.body
        for name in sorted(message.headers.keys() - _ON_THE_WAY):
            yield _bytes(name)
            yield _bytes(message.headers[name])


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # what others wrote may have any characters
