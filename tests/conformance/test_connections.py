"""The cases of connections, on a backend behind a socket, whole and broken."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import msgspec
import pytest

from headrace.conformance.case import Case, all_cases
from headrace.conformance.cases import connections
from headrace.conformance.runner import run_case, select
from headrace.driver import Driver, Message
from headrace.errors import BackendUnavailable

from .wire import WireBackend, WireDriver, WireHarness, WireServer

CASES = [case for case in all_cases() if case.abilities in (("restart",), ("disconnect",))]


@pytest.fixture
def server() -> Iterator[WireServer]:
    server = WireServer()
    yield server
    server.stop()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_driver_that_finds_its_server_again_passes(server: WireServer, case: Case) -> None:
    outcome = run_case(WireHarness(server.port), case)
    assert outcome.status == "passed", outcome.told()


class ForeignErrors(WireDriver):
    """Lets out what the socket raises."""

    async def _ask(self, verb: str, *arguments: Any, wait: float = 0.0) -> Any:
        try:
            return await super()._ask(verb, *arguments, wait=wait)
        except BackendUnavailable as error:
            raise ConnectionError(str(error)) from None


class NeverAgain(WireDriver):
    """Does not connect again once a connection was lost."""

    is_lost = False

    async def _ask(self, verb: str, *arguments: Any, wait: float = 0.0) -> Any:
        if self.is_lost:
            raise BackendUnavailable("the connection was lost")
        try:
            return await super()._ask(verb, *arguments, wait=wait)
        except BackendUnavailable:
            self.is_lost = True
            raise


class Endless(WireDriver):
    """Waits for ever for an answer that does not come."""

    async def _ask(self, verb: str, *arguments: Any, wait: float = 0.0) -> Any:
        try:
            return await super()._ask(verb, *arguments, wait=wait)
        except BackendUnavailable:
            return await asyncio.get_running_loop().create_future()


class Forgetful(WireDriver):
    """Acks what it hands out, as a client does that lets its server forget what it has sent."""

    async def pop(self, limit: int, wait: float) -> Sequence[Any]:
        deliveries = await super().pop(limit, wait)
        if deliveries:
            await super().ack([delivery.receipt for delivery in deliveries])
        return deliveries


class Hasty(WireDriver):
    """Says that a message is stored without having heard it."""

    async def push(self, messages: Sequence[Message]) -> Sequence[Any]:
        try:
            return await super().push(messages)
        except BackendUnavailable:
            return [message.id for message in messages]


class Renaming(WireDriver):
    """Sends again what got no answer, under another id."""

    async def push(self, messages: Sequence[Message]) -> Sequence[Any]:
        try:
            return await super().push(messages)
        except BackendUnavailable:
            await super().push([msgspec.structs.replace(message, id=f"{message.id} again") for message in messages])
            raise


class LeakyBackend(WireBackend):
    """Leaves sockets behind wherever it cannot be opened: more of them than come and go meanwhile."""

    left: ClassVar[list[socket.socket]] = []

    async def open(self) -> None:
        try:
            await super().open()
        except BackendUnavailable:
            self.left.extend(socket.socket() for _ in range(10))
            raise


def test_a_backend_that_leaves_what_a_failed_opening_had_is_caught(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "OTHERS", 3)
    (chosen,) = select(["opening_during_a_restart_works_or_leaves_nothing"])
    outcome = run_case(WireHarness(server.port, LeakyBackend), chosen)
    for each in LeakyBackend.left:
        each.close()
    assert "came to stay" in (outcome.reason or "")


@pytest.mark.parametrize(
    ("driver", "case"),
    [
        (ForeignErrors, "every_call_during_a_restart_ends"),
        (ForeignErrors, "a_pop_whose_connection_breaks_ends"),
        (NeverAgain, "a_pop_that_waits_through_a_restart_ends"),
        (Endless, "a_pop_that_waits_through_a_restart_ends"),
        (Endless, "connections_that_break_in_mid_call_lose_nothing"),
        (Forgetful, "what_was_held_through_a_restart_is_settled_or_comes_back"),
        (Hasty, "a_push_whose_connection_broke_can_be_repeated"),
        (Renaming, "a_push_whose_connection_broke_can_be_repeated"),
    ],
)
def test_a_driver_that_breaks_the_contract_is_caught(
    server: WireServer, driver: type[WireDriver], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SOME", 0.5)  # what will not end need not be waited for
    monkeypatch.setattr(connections, "PATIENCE", 2.5)

    class BrokenBackend(WireBackend):
        def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> Driver:
            return driver(self._port, prefix, lease_seconds)

    (chosen,) = select([case])
    assert run_case(WireHarness(server.port, BrokenBackend), chosen).status == "failed"
