"""What stands in the broker for one queue of ours: names, arguments, and the way of a delayed message.

::

    {mail}              what waits, and what is reserved
    {mail}.failed       what rests there, and what the broker itself would have dropped
    {mail}.timeout      what rests there
    {mail}.delay.NN     an exchange and a queue for each power of two: messages stay 2**NN milliseconds

A delay is the sum of those powers of two that its binary number has. Its message carries the
number as the routing key, one word for each bit, the highest first. At the exchange of a level
the word decides::

    publish, key 0.….1.0.1                     the highest bit that is set picks the exchange
        │
    exchange .delay.05 ──1──▶ queue .delay.05 (32 ms) ──expired──┐
        └──0──▶ exchange .delay.04 ◀─────────────────────────────┘
    exchange .delay.04 ──1──▶ queue .delay.04 (16 ms) ──expired──┐
        └──0──▶ exchange .delay.03 ◀─────────────────────────────┘
    exchange .delay.03 ──1──▶ queue .delay.03 (8 ms) ──expired──▶ {mail}
        └──0──▶ {mail}

The key says how long a message stays in all, and the queue where it is how much of that is still to come; since when
it is there nobody says. For whoever moves it elsewhere it has a header with the time when it is due, by the clock of
whoever delayed it; nothing else goes by that.

Every message of a queue stays equally long, so none is held up by one before it, and each level
is a durable quorum queue. The idea is NServiceBus's. A level is declared, targets first, when a
delay first needs it. Off-burst, a delay is exact to some milliseconds for each bit that is set.

Dead-lettering happens at least once throughout, which wants the overflow ``reject-publish``: a
message leaves its level only when the next one has confirmed it.
"""

import math
from collections.abc import Iterator
from typing import Any, Final

from headrace.errors import ConfigError
from headrace_rabbitmq.frames import ExchangeBind, ExchangeDeclare, ExchangeDelete, QueueBind, QueueDeclare, QueueDelete

#: The shortest stay is 2**3 ms: a shorter one would take less than its own way through the broker.
LOWEST: Final = 3
#: The longest stay is 2**34 ms, so that all of them together are 397 days.
HIGHEST: Final = 34

#: Seconds; the lowest level, of which every delay is a multiple, and the levels together.
SHORTEST: Final = 2**LOWEST / 1000
MAX_DELAY: Final = (2 ** (HIGHEST + 1) - 2**LOWEST) / 1000

#: Deliveries after which the broker gives a message up, into `failed`. Core gives up after some, and looking at
#: ``failed`` counts as well; from 4.0 on the broker's own limit would be 20.
_DELIVERY_LIMIT: Final = 2**31 - 1

#: Milliseconds that a delivery may be held, instead of the broker's own half an hour: a year. Heeded from 3.12 on, and
#: declared before that, too, so that a broker that was upgraded has its queues as they are declared then.
_CONSUMER_TIMEOUT: Final = 365 * 24 * 3600 * 1000

#: The protocol's longest name, in bytes.
_LONGEST: Final = 255

#: A name that RabbitMQ keeps for itself.
_RESERVED: Final = "amq."


class Topology:
    """The names and arguments of one queue. Declares nothing."""

    def __init__(self, prefix: str) -> None:
        """Raises `ConfigError` for a prefix that RabbitMQ does not take."""
        self.waiting: Final = prefix
        self.failed: Final = f"{prefix}.failed"
        self.timeout: Final = f"{prefix}.timeout"
        if len(self.level(HIGHEST).encode()) > _LONGEST:
            raise ConfigError(
                f"the prefix {prefix[:20]!r}... is too long for RabbitMQ, whose names have at most {_LONGEST} bytes "
                f"with what follows the prefix in them"
            )
        if prefix.startswith(_RESERVED):
            raise ConfigError(f"the prefix {prefix!r} begins with {_RESERVED!r}, which RabbitMQ keeps for itself")

    def level(self, number: int) -> str:
        """The name of a level's exchange, and of its queue."""
        return f"{self.waiting}.delay.{number:02}"

    def names(self) -> Iterator[str]:
        """The names of all queues that there are or may come to be; exchanges have some of them, too."""
        yield from (self.waiting, self.failed, self.timeout)
        yield from map(self.level, range(LOWEST, HIGHEST + 1))

    def arguments(self, queue: str) -> dict[str, Any]:
        """The arguments of ``waiting``, ``failed`` or ``timeout``."""
        arguments: dict[str, Any] = {
            "x-queue-type": "quorum",
            "x-delivery-limit": _DELIVERY_LIMIT,
            "x-consumer-timeout": _CONSUMER_TIMEOUT,
        }
        if queue == self.waiting:
            arguments |= _dead_letters("", self.failed)
        return arguments

    def level_arguments(self, number: int) -> dict[str, Any]:
        """The arguments of a level's queue."""
        target = _dead_letters("", self.waiting) if number == LOWEST else _dead_letters(self.level(number - 1))
        return {"x-queue-type": "quorum", "x-message-ttl": 2**number, **target}

    def declare_waiting(self) -> Iterator[Any]:
        """What makes the queue, and lets in what was delayed.

        For that the last exchange of the levels is among it: were the queue deleted, and made anew by
        somebody who delays nothing, messages on their way would find no way on.
        """
        yield self.declare(self.waiting)
        yield ExchangeDeclare(exchange=self.level(LOWEST), exchange_type="topic", durable=True)
        yield QueueBind(queue=self.waiting, exchange=self.level(LOWEST), routing_key=_pattern(LOWEST, 0))

    def declare(self, queue: str) -> QueueDeclare:
        return QueueDeclare(queue=queue, durable=True, arguments=self.arguments(queue))

    def declare_level_queue(self, number: int, *, passive: bool = False) -> QueueDeclare:
        """``passive``: only ask for it."""
        return QueueDeclare(
            queue=self.level(number), durable=True, passive=passive, arguments=self.level_arguments(number)
        )

    def declare_level(self, number: int) -> Iterator[Any]:
        """What makes one level; ``waiting`` and the level below must be there."""
        name = self.level(number)
        if number > LOWEST:
            yield ExchangeDeclare(exchange=name, exchange_type="topic", durable=True)
            yield ExchangeBind(destination=self.level(number - 1), source=name, routing_key=_pattern(number, 0))
        yield self.declare_level_queue(number)
        yield QueueBind(queue=name, exchange=name, routing_key=_pattern(number, 1))

    def delete(self, level: int) -> Iterator[Any]:
        """What removes everything, up to a level; where messages come from first."""
        for number in range(level, LOWEST - 1, -1):
            yield ExchangeDelete(exchange=self.level(number))
            yield QueueDelete(queue=self.level(number))
        for queue in (self.waiting, self.failed, self.timeout):
            yield QueueDelete(queue=queue)


def _dead_letters(exchange: str, routing_key: str | None = None) -> dict[str, Any]:
    """Where a message goes that leaves a queue by itself: to an exchange, with its own routing key or another."""
    arguments = {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    return arguments if routing_key is None else {**arguments, "x-dead-letter-routing-key": routing_key}


def _pattern(number: int, bit: int) -> str:
    """What an exchange matches: one bit of the number."""
    return ".".join(["*"] * (HIGHEST - number) + [str(bit), "#"])


def steps(seconds: float) -> int:
    """A delay in the shortest stay, rounded up: a message never comes early."""
    return max(1, math.ceil(seconds / SHORTEST))


def highest_level(seconds: float) -> int:
    """The level where a message with this delay begins."""
    return steps(seconds).bit_length() - 1 + LOWEST


def routing_key(seconds: float) -> str:
    """A delay as the words that lead a message through the levels."""
    return ".".join(f"{steps(seconds):0{HIGHEST - LOWEST + 1}b}")


def remaining(key: str, level: int) -> tuple[float, float]:
    """Seconds that a message of a level's queue has to go, by its routing key: at least, and at most."""
    below = "".join(key.split(".")[HIGHEST - level + 1 :])
    least = int(below, 2) * SHORTEST if below and set(below) <= {"0", "1"} else 0.0
    return least, least + 2**level / 1000
