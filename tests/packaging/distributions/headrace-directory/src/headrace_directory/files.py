"""Files: names that say where a message stands, what is in them, and moves that one process wins."""

import hashlib
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from headrace.driver import Message

#: DUE,COUNT,ID and, of a message that is reserved, a RECEIPT.
_NAME = re.compile(r"(\d{20}),(\d+),([^,]+)(?:,[^,]+)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """A message's file, and what its name says."""

    path: Path
    due: int  #: nanoseconds; what its folder is sorted by
    count: int  #: how often it was handed out since it was written
    key: str  #: its id, as `key_of` gives it

    @classmethod
    def of(cls, path: Path) -> "Entry | None":
        """The entry of a path; none if that is no message's, but a file that somebody left there."""
        match = _NAME.fullmatch(path.name)
        return cls(path, int(match[1]), int(match[2]), match[3]) if match else None


def name(due: int, count: int, key: str) -> str:
    """As many digits as any time has, so that names sort as times do."""
    return f"{due:020d},{count},{key}"


def key_of(text: str) -> str:
    """An id or prefix, which may have any characters and length: what can be read of it, and a digest."""
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", text)[:40]
    return f"{readable}.{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def unused(folder: Path) -> Path:
    """A path that nobody else has."""
    return folder / secrets.token_hex(8)


def won(move: Callable[..., object], *arguments: Any) -> bool:
    """Make a move that one process can make, such as a rename; false if the file is gone: another made it."""
    try:
        move(*arguments)
    except FileNotFoundError:
        return False
    return True


def time_of(path: Path) -> int:
    """The time of a file in nanoseconds; 0 if it is gone."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def set_time(path: Path, time: int) -> None:
    os.utime(path, ns=(time, time))


def write(path: Path, message: Message) -> None:
    stored = msgspec.structs.replace(message, delay=0.0, headers=dict(message.headers))
    path.write_bytes(msgspec.msgpack.encode(stored))


def read(path: Path) -> Message | None:
    """The message of a file; none if that is gone."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Message)
    except FileNotFoundError:
        return None


def synchronize(path: Path) -> None:
    """Let a file or folder outlive a power cut as it is now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
