"""What a plugin brings so that its backend can be compared with the bare client.

A distribution offers one by an entry point of the group ``headrace.baselines``, whose name is the
backend's plugin and whose value is a callable: it is given the options of the ``[backends.NAME]``
table, as the plugin's own hook is, and a name for the queue, and returns a `Baseline`. Nothing of
this package has to be imported for that: the protocol is structural.

A baseline is the client library used well and in few lines: what somebody would write who needs
one queue, no retries and no second backend. It gives the same durability as the backend with the
same options, and hands each body out at least once where the client can do that at all. The
figures of headrace are told as ratios to it.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Final, Protocol, runtime_checkable

from headrace.plugin import BackendOptions

#: The entry-point group.
ENTRY_POINTS: Final = "headrace.baselines"


class Baseline(Protocol):
    """One queue, without headrace. Every method is called on the same event loop, one after the other."""

    @property
    @abstractmethod
    def about(self) -> str:
        """What it does, in a line: the library, and the commands for a push, a pop and an ack."""

    @property
    @abstractmethod
    def guarantee(self) -> str:
        """In a few words: ``at least once``, or what it gives instead."""

    @property
    @abstractmethod
    def versions(self) -> Mapping[str, str]:
        """Of the libraries, by name."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make the queue."""

    @abstractmethod
    async def close(self) -> None:
        """Remove the queue with all that it holds, and disconnect. Called after an `open` that failed, too."""

    @abstractmethod
    async def push(self, body: bytes) -> None:
        """Store one message; returns when it is as safe as one that the backend has confirmed."""

    @abstractmethod
    async def push_many(self, bodies: Sequence[bytes]) -> None:
        """Store many, in the way that the client does that best; returns when all are safe."""

    @abstractmethod
    async def consume(self, count: int, batch: int, seen: Callable[[bytes], None]) -> None:
        """Take ``count`` messages, call ``seen`` with each body, and only then ack.

        ``batch``: how many are taken and acked at once, at most; with 1 each has an ack of its own. Waits for
        messages where fewer are there, and returns when the last ack is done.
        """


@runtime_checkable
class CountsCommands(Protocol):
    """What a baseline is, too, if its broker tells how many commands it has had."""

    @abstractmethod
    async def commands(self) -> int:
        """So far, from all clients, this question not counted. Called on a baseline that is not open."""


#: What an entry point is: the plugin's options and the queue's name in, a baseline out.
MakeBaseline = Callable[[BackendOptions, str], Baseline]


def find(plugin: str) -> MakeBaseline | None:
    """What makes the baseline of a plugin; ``None`` if no distribution offers one. Raises what importing it raises."""
    found = metadata.entry_points(group=ENTRY_POINTS, name=plugin)
    for point in found:
        make: MakeBaseline = point.load()
        return make
    return None
