"""What the queues of a prefix are called in SQS: letters, digits, ``-`` and ``_``, 80 at most.

``{mail}`` and ``mail`` both make the queues ``mail``, ``mail-failed`` and ``mail-timeout``. A prefix
with other characters, or a longer one, makes a name that can be read and ends with a digest, so
that what differs stays different. Where two prefixes make one name all the same, the
second is refused.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from headrace.driver import RestingChannel
from headrace.errors import ConfigError

#: A limit of SQS.
_LONGEST: Final = 80

_SUFFIXES: Final[dict[RestingChannel, str]] = {"failed": "-failed", "timeout": "-timeout"}

_OTHERS: Final = re.compile(r"[^A-Za-z0-9_-]+")

#: Characters of a digest: two of a million prefixes share one with a chance of less than 1 in 500.
_DIGEST: Final = 12

#: What SQS demands of a FIFO queue's name, and keeps others from having.
_FIFO: Final = ".fifo"


@dataclass(frozen=True, slots=True)
class Names:
    """The SQS queues of one prefix."""

    main: str  #: what waits, is delayed or reserved

    def of(self, channel: RestingChannel) -> str:
        return self.main + _SUFFIXES[channel]

    def all(self) -> tuple[str, ...]:
        return (self.main, *(self.of(channel) for channel in _SUFFIXES))


class Register:
    """The prefixes that are in use, and their names."""

    def __init__(self, name_prefix: str) -> None:
        self._name_prefix = name_prefix
        self._owners: dict[str, str] = {}
        self.names: dict[str, Names] = {}  #: by prefix

    def enter(self, prefix: str) -> Names:
        """The names of a prefix. Raises `ConfigError` if it cannot be used, or another one has such a name."""
        if prefix in self.names:
            return self.names[prefix]
        names = Names(_made_of(prefix, self._name_prefix))
        for name in names.all():
            if (owner := self._owners.get(name)) is not None:
                raise ConfigError(
                    f"the prefixes {owner!r} and {prefix!r} both make the SQS queue {name!r}: change one of them"
                )
        self._owners.update(dict.fromkeys(names.all(), prefix))
        self.names[prefix] = names
        return names


def _made_of(prefix: str, name_prefix: str) -> str:
    plain = prefix[1:-1] if prefix.startswith("{") and prefix.endswith("}") else prefix
    if plain.endswith(_FIFO):
        raise ConfigError(
            f"the prefix {prefix!r} names a FIFO queue, which cannot carry jobs: it has no delay for single messages, "
            f"and discards what is given back within five minutes as a duplicate; leave out {_FIFO!r}"
        )
    room = _LONGEST - len(name_prefix) - max(map(len, _SUFFIXES.values()))
    if plain and len(plain) <= room and not _OTHERS.search(plain):
        return name_prefix + plain
    digest = hashlib.sha256(prefix.encode()).hexdigest()[:_DIGEST]
    readable = _OTHERS.sub("-", plain).strip("-")[: room - _DIGEST - 1]
    return name_prefix + (f"{readable}-{digest}" if readable else digest)
