"""Delays that are longer than the backend's longest."""

import math

import msgspec
import pytest

from headrace.delays import after_hop, is_hop, split
from headrace.driver import Message


class Clock:
    """The time of day."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def message(delay: float = 0.0) -> Message:
    return Message(id="1", name="Job", body=b"{}", delay=delay, headers={"own": "kept"})


def hop(waiting: Message, clock: Clock, longest: float = 10) -> Message:
    """The message, delivered when a hop of it has ended, as it goes into the next."""
    delivered = msgspec.structs.replace(waiting, delay=0.0)
    rest = after_hop(delivered, clock)
    return split(rest, rest.delay, longest, clock)


def test_a_delay_that_the_backend_can_keep_is_left_to_it(clock: Clock) -> None:
    for delay in (0.0, 5.0, 10.0):
        stored = split(message(), delay, 10, clock)
        assert stored == message(delay)
        assert not is_hop(stored)
    assert split(message(), 1e9, math.inf, clock) == message(1e9)


def test_the_hops_of_a_delay_add_up_to_it_and_nothing_of_them_is_left(clock: Clock) -> None:
    waiting = split(message(), 25, 10, clock)
    delays = [waiting.delay]
    while is_hop(waiting):
        clock.now += waiting.delay
        waiting = hop(waiting, clock)
        delays.append(waiting.delay)
    assert delays == [10, 10, 5]
    assert waiting == message(5)


def test_an_outage_between_hops_is_not_added_to_the_delay(clock: Clock) -> None:
    waiting = split(message(), 100, 10, clock)
    clock.now += 10 + 60
    waiting = hop(waiting, clock)
    assert waiting.delay == 10
    clock.now += 10 + 5
    waiting = hop(waiting, clock)
    assert waiting.delay == 10
    clock.now += 10 + 60
    assert hop(waiting, clock) == message()


def test_a_clock_that_is_put_back_makes_no_delay_longer(clock: Clock) -> None:
    waiting = split(message(), 25, 10, clock)
    clock.now -= 86_400
    waiting = hop(waiting, clock)
    assert waiting.delay == 10
    assert hop(waiting, clock) == message(5)


@pytest.mark.parametrize("damaged", [{"headrace-due": "soon"}, {"headrace-remaining": "long"}])
def test_what_cannot_be_read_of_a_delay_does_not_delay(clock: Clock, damaged: dict[str, str]) -> None:
    waiting = split(message(), 25, 10, clock)
    waiting = msgspec.structs.replace(waiting, headers={**waiting.headers, **damaged})
    assert hop(waiting, clock) == message()
