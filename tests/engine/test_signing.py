"""With ``signing_keys``, what nobody signed who has a key rests in ``failed`` and reaches no handler."""

import re
from typing import Any

import msgspec
import pytest

from headrace import Job
from headrace.config import Config
from headrace.driver import Message
from headrace.errors import ConfigError, InvalidSignature
from headrace.ids import new_id
from headrace.signing import SIGNATURE_HEADER, Signer

from .conftest import MakeApp

ONE, OTHER = "k" * 32, "another key of more than 32 characters"

ran: list[str] = []


class SignedTransfer(Job, max_retries=1, retry_seconds=0, unique="to"):
    to: str
    fails: bool = False

    async def handle(self) -> None:
        ran.append(self.to)
        if self.fails:
            raise ValueError("once more")


@pytest.fixture(autouse=True)
def fresh_record() -> None:
    ran.clear()


@pytest.fixture
def message() -> Message:
    return Message(id="a", name="SignedTransfer", body=b'{"to":"me"}', headers={"tenant": "7", "shop": "8"})


async def test_what_was_pushed_with_a_key_runs_delayed_retried_and_replaced(make_app: MakeApp) -> None:
    app = make_app(top={"signing_keys": [ONE]})
    async with app:
        queue = app.queue()
        await queue.push(SignedTransfer(to="a"), headers={"tenant": "7"}, max_retries=3)
        await queue.push(SignedTransfer(to="b", fails=True), delay=0.05)
        await queue.push_many([SignedTransfer(to="c"), SignedTransfer(to="c")])
        await app.worker().run(until_empty=True)
        assert [each.message.body for each in await queue.list("failed")] == [b'{"to":"b","fails":true}']
        assert await queue.reload("failed") == 1
        await app.worker().run(until_empty=True)
    assert sorted(ran) == ["a", "b", "b", "b", "b", "c"]


async def test_what_is_unsigned_altered_or_from_another_queue_rests_in_failed(make_app: MakeApp) -> None:
    app = make_app(top={"signing_keys": [ONE]}, queues={"default": {}, "other": {}})
    async with app:
        mine, others = await app.queue().driver(), await app.queue("other").driver()
        await app.queue().push(SignedTransfer(to="me"))
        await app.queue("other").push(SignedTransfer(to="me"))
        (signed,) = (await mine.peek("waiting", 1)).messages
        (foreign,) = (await others.peek("waiting", 1)).messages
        changes: list[dict[str, Any]] = [
            {"headers": {}},
            {"body": b'{"to":"you"}'},
            {"name": "Other"},
            {"headers": {**signed.headers, "headrace-options": '{"max_retries":99}'}},
            {"headers": {**signed.headers, SIGNATURE_HEADER: "no signature"}},
            {"headers": {**signed.headers, SIGNATURE_HEADER: signed.headers[SIGNATURE_HEADER][:-1]}},
        ]
        forged = [msgspec.structs.replace(signed, unique_key=None, **{"id": new_id(), **each}) for each in changes]
        await mine.push([*forged, msgspec.structs.replace(foreign, unique_key=None)])
        await app.worker().run(until_empty=True)
        failed = await app.queue().list("failed")
    assert ran == ["me"]
    assert len(failed) == len(changes) + 1
    notes = [each.message.note for each in failed]
    assert {each.type for each in notes if each} == {"headrace.errors.InvalidSignature"}


def test_a_signature_holds_in_its_own_queue_with_any_key_that_is_known(message: Message) -> None:
    signed = Signer([ONE], "{mail}").sign(message)
    Signer([OTHER, ONE], "{mail}").verify(signed)
    for signer in (Signer([OTHER], "{mail}"), Signer([ONE], "{letters}")):
        with pytest.raises(InvalidSignature):
            signer.verify(signed)


def test_what_moves_from_one_part_of_a_message_to_another_breaks_its_signature(message: Message) -> None:
    signer = Signer([ONE], "{mail}")
    signed = signer.sign(message)
    moved = msgspec.structs.replace(signed, name="Transfe", body=b"r" + signed.body)
    shifted = msgspec.structs.replace(signed, headers={**signed.headers, "tenan": "t7"})
    for each in (moved, shifted):
        with pytest.raises(InvalidSignature):
            signer.verify(each)


def test_a_key_that_is_short_is_refused_and_never_shown() -> None:
    with pytest.raises(ConfigError, match=r"signing_keys") as refused:
        Config.from_mapping({"signing_keys": ["hunter2"]})
    assert "hunter2" not in str(refused.value)
    assert "32 characters" in str(refused.value)


def test_keys_are_never_shown(make_app: MakeApp) -> None:
    app = make_app(top={"signing_keys": [ONE]})
    for shown in (repr(app), repr(app.config), app.config.describe(), repr(app.queue()), repr(app.queue().signer)):
        assert not re.search(ONE, shown)
