"""The ids of messages."""

import functools
import os
import random
import time
from collections.abc import Callable


def new_id() -> str:
    """A UUID of version 7 (RFC 9562) as 32 hex digits: in order of time, so that indexes append."""
    value = (time.time_ns() // 1_000_000 << 80) | _random_bits()(80)
    value = value & ~(0xF << 76) | (0x7 << 76)
    return f"{value & ~(0x3 << 62) | (0x2 << 62):032x}"


@functools.cache
def _random_bits() -> Callable[[int], int]:
    """This process's generator, made when first needed. Ids need not be secret, only differ.

    One of our own: a program may seed the one of `random` for its own ends, and asking the
    system for each id would make an id cost about twice as much.
    """
    generator = random.Random(os.urandom(32))
    os.register_at_fork(after_in_child=lambda: generator.seed(os.urandom(32)))
    return generator.getrandbits
