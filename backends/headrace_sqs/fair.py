"""The group of a message, by which SQS is fair: it lets no group's backlog delay the others."""

import hashlib
import re
from typing import Final

import msgspec

#: What SQS takes as a ``MessageGroupId``.
_LEGAL: Final = re.compile(r"[A-Za-z0-9!-/:-@\[-`{-~]{1,128}\Z")

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def group_of(body: bytes, field: str) -> str | None:
    """The value of a job's field, as text; a digest of it where SQS would refuse that. ``None``: it has none."""
    try:
        raw = bytes(_decoder.decode(body)[field])
    except (msgspec.DecodeError, KeyError, RecursionError, UnicodeDecodeError):
        return None
    if raw == b"null":
        return None
    text = str(msgspec.json.decode(raw)) if raw.startswith(b'"') else raw.decode()
    return text if _LEGAL.match(text) else hashlib.sha256(raw).hexdigest()
