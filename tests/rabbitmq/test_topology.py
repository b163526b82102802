"""The way of a delayed message, walked through the names and patterns that are declared."""

import re

import pytest
from helpers_rabbitmq import build
from pamqp import commands

from headrace.errors import ConfigError
from headrace_rabbitmq.topology import (
    HIGHEST,
    LOWEST,
    MAX_DELAY,
    SHORTEST,
    Topology,
    highest_level,
    remaining,
    routing_key,
)

DELAYS = [0.0001, 0.001, 0.008, 0.0081, 0.5, 1.0, 1.024, 59.999, 3600.0, 30 * 86400.0, 366 * 86400.0, MAX_DELAY]


def matches(pattern: str, key: str) -> bool:
    """Whether a topic exchange would let a key through: ``*`` is one word, ``#`` any number of them."""
    words = [r"[^.]+" if word == "*" else re.escape(word) for word in pattern.split(".") if word != "#"]
    return re.fullmatch(r"\.".join(words) + r"(\..*)?", key) is not None


def walk(seconds: float) -> float:
    """How long a message with this delay stays on its way to the queue: seconds."""
    topology = Topology("{mail}")
    level, key = highest_level(seconds), routing_key(seconds)
    frames = [*topology.declare_waiting()]
    for number in range(LOWEST, level + 1):
        frames += topology.declare_level(number)
    queues = {frame.queue: frame.arguments for frame in frames if isinstance(frame, commands.Queue.Declare)}
    routes: list[tuple[str, str, str]] = []
    for frame in frames:
        if isinstance(frame, commands.Queue.Bind):
            routes.append((frame.exchange, frame.routing_key, frame.queue))
        elif isinstance(frame, commands.Exchange.Bind):
            routes.append((frame.source, frame.routing_key, f"exchange {frame.destination}"))
    stayed, place = 0, f"exchange {topology.level(level)}"
    while place != topology.waiting:
        if place.startswith("exchange "):
            source = place.removeprefix("exchange ")
            (place,) = [target for exchange, pattern, target in routes if exchange == source and matches(pattern, key)]
        else:
            stayed += queues[place]["x-message-ttl"]
            exchange = queues[place]["x-dead-letter-exchange"]
            place = f"exchange {exchange}" if exchange else queues[place]["x-dead-letter-routing-key"]
    return stayed / 1000


@pytest.mark.parametrize("seconds", DELAYS)
def test_a_message_stays_as_long_as_it_is_delayed_and_no_shorter(seconds: float) -> None:
    stayed = walk(seconds)
    assert seconds <= stayed < seconds + SHORTEST + 1e-6


@pytest.mark.parametrize("seconds", DELAYS)
def test_what_remains_of_a_delay_is_known_in_each_queue_but_for_the_stay_in_it(seconds: float) -> None:
    key = routing_key(seconds)
    passed = 0.0
    for level in range(highest_level(seconds), LOWEST - 1, -1):
        if key.split(".")[HIGHEST - level] == "1":  # it stays there
            least, most = remaining(key, level)
            assert passed + most == pytest.approx(walk(seconds))
            assert most - least == pytest.approx(2**level / 1000)
            passed += 2**level / 1000
    assert least == 0.0


def test_a_key_that_is_not_ours_tells_nothing_of_what_remains() -> None:
    for key in ("", "{mail}", routing_key(5.0).replace("1", "2")):
        assert remaining(key, LOWEST + 1) == (0.0, 0.016)


def test_delays_reach_beyond_a_year() -> None:
    assert MAX_DELAY > 366 * 86400
    assert highest_level(MAX_DELAY) == HIGHEST


def test_a_level_is_declared_after_the_one_that_it_leads_to() -> None:
    topology = Topology("{mail}")
    known = {frame.exchange for frame in topology.declare_waiting() if isinstance(frame, commands.Exchange.Declare)}
    for number in range(LOWEST, HIGHEST + 1):
        for frame in topology.declare_level(number):
            if isinstance(frame, commands.Exchange.Declare):
                known.add(frame.exchange)
            elif isinstance(frame, commands.Exchange.Bind):
                assert {frame.source, frame.destination} <= known
            elif isinstance(frame, commands.Queue.Declare):
                assert frame.arguments["x-dead-letter-exchange"] in {"", *known}


def test_whatever_is_declared_is_deleted() -> None:
    topology = Topology("{mail}")
    made, deleted = set[str](), set[str]()
    frames = [*topology.declare_waiting(), topology.declare(topology.failed), topology.declare(topology.timeout)]
    for number in range(LOWEST, HIGHEST + 1):
        frames += topology.declare_level(number)
    for frame in frames:
        if isinstance(frame, commands.Queue.Declare | commands.Exchange.Declare):
            made.add(f"{frame.name[:5]} {getattr(frame, 'queue', '') or frame['exchange']}")
    for frame in topology.delete(HIGHEST):
        deleted.add(f"{frame.name[:5]} {getattr(frame, 'queue', '') or frame['exchange']}")
    assert made == deleted


def test_the_broker_never_drops_a_message_by_itself() -> None:
    topology = Topology("{mail}")
    for arguments in (topology.arguments(topology.waiting), topology.level_arguments(LOWEST)):
        assert arguments["x-queue-type"] == "quorum"
        assert arguments["x-dead-letter-strategy"] == "at-least-once"
        assert arguments["x-overflow"] == "reject-publish"
    assert topology.arguments(topology.waiting)["x-dead-letter-routing-key"] == topology.failed


@pytest.mark.parametrize("prefix", ["x" * 250, "\U0001f600" * 70, "amq.mail"])
def test_a_prefix_that_rabbitmq_does_not_take_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="RabbitMQ"):
        Topology(prefix)


@pytest.mark.parametrize("suffix", [".failed", ".timeout", ".delay.03", ".delay.34"])
@pytest.mark.parametrize("is_longer_first", [False, True])
def test_of_two_prefixes_that_share_a_name_in_the_broker_the_second_is_refused(
    suffix: str, is_longer_first: bool
) -> None:
    backend = build("amqp://127.0.0.1")
    first, second = ("mail" + suffix, "mail") if is_longer_first else ("mail", "mail" + suffix)
    backend.driver(first)
    with pytest.raises(ConfigError) as raised:
        backend.driver(second)
    for words in (f"{first!r}", f"{second!r}", f"queue {'mail' + suffix!r}", "change one of them"):
        assert words in str(raised.value)
    backend.driver(first)
    backend.driver("{mail}")


def test_prefixes_that_only_look_alike_are_taken() -> None:
    backend = build("amqp://127.0.0.1")
    for prefix in ("mail", "{mail}", "{mail}2", "mail.", "mail.fail", "mail.delay", "mail.delay.3", "mail.delay.35"):
        backend.driver(prefix)
        backend.driver(prefix)


def test_whatever_is_declared_has_one_of_the_names_that_are_kept_from_others() -> None:
    topology = Topology("{mail}")
    frames = [frame for level in range(LOWEST, HIGHEST + 1) for frame in topology.declare_level(level)]
    frames += [*topology.declare_waiting(), topology.declare(topology.failed), topology.declare(topology.timeout)]
    declared = {frame.queue for frame in frames if isinstance(frame, commands.Queue.Declare)}
    exchanges = {frame.exchange for frame in frames if isinstance(frame, commands.Exchange.Declare)}
    assert declared == set(topology.names())
    assert exchanges < declared


def test_names_may_have_any_character() -> None:
    frame = Topology("{ü.☃ #*}").declare("{ü.☃ #*}")
    assert "{ü.☃ #*}".encode() in frame.marshal()
