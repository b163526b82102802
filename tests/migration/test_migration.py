"""Migration between embedded backends, with whatever one of them lacks."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace import Headrace
from headrace.conformance import Fault, FaultyBackend
from headrace.conformance.wrapping import LimitedBackend, WrappedBackend, WrappedDriver
from headrace.driver import ALL_CHANNELS, Backend, Driver, Message
from headrace.errors import BackendUnavailable, CapabilityError, ConfigError
from headrace.migration import Migration, Outcome, Progress
from headrace.signing import SIGNATURE_HEADER
from headrace_memory.backend import MemoryBackend
from headrace_sqlite.backend import SqliteBackend

from .cargo import CHANNELS, Cargo, cargo, config, expect, load, twice, unload

NOTHING: frozenset[Any] = frozenset()


def make(source: Backend, target: Backend, **top: Any) -> Headrace:
    """An app with the queues ``old`` and ``new`` on these backends."""
    settings = config(old={}, new={}) | top
    return Headrace(settings, backends={"old": source, "new": target})


async def move(app: Headrace, **options: Any) -> Outcome:
    return await Migration(app.queue("old"), app.queue("new"), **options).run()


@pytest.fixture(params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Headrace:
    if request.param == "memory":
        return make(MemoryBackend(), MemoryBackend())
    return make(SqliteBackend(tmp_path / "old.db"), SqliteBackend(tmp_path / "new.db"))


async def test_every_channel_is_moved_with_all_that_its_messages_have(app: Headrace) -> None:
    sent, since = cargo(250), time.monotonic()
    async with app:
        await load(await app.queue("old").driver(), sent, 100)
        outcome = await move(app)
        found = await unload(await app.queue("new").driver())
        left = await unload(await app.queue("old").driver())
    expect(found, sent, since=since)
    assert outcome.is_complete
    assert outcome.moved == dict.fromkeys(CHANNELS, 250)
    assert (outcome.total, outcome.twice, outcome.missing, outcome.left) == (1000, 0, [], {})
    assert not any(left.values())


async def test_order_is_kept_where_both_backends_keep_it(app: Headrace) -> None:
    sent = [Message(id=f"{number:032x}", name="a", body=b"{}") for number in range(700)]
    async with app:
        await (await app.queue("old").driver()).push(sent)
        await move(app)
        found = await (await app.queue("new").driver()).pop(1000, 0)
    assert [each.message.id for each in found] == [each.id for each in sent]


async def test_what_a_worker_of_the_source_has_comes_when_its_lease_ends(app: Headrace) -> None:
    async with app:
        old = await app.queue("old").driver()
        await old.push([Message(id="a", name="a", body=b"{}")])
        assert len(await old.pop(1, 0)) == 1  # by a worker that is dead
        told: list[Progress] = []
        outcome = await move(app, on_progress=told.append)
        (moved,) = (await unload(await app.queue("new").driver()))["waiting"]
    assert outcome.is_complete
    assert moved.deaths == 1
    assert any(each.waits_for == {"reserved": 1} for each in told)


async def test_what_a_living_worker_keeps_is_told_as_left(app: Headrace) -> None:
    async with app:
        old = await app.queue("old").driver()
        await old.push([Message(id="a", name="a", body=b"{}")])
        await old.pop(1, 0)
        outcome = await move(app, wait=0)
    assert outcome.left == {"reserved": 1}
    assert not outcome.is_complete


async def test_what_does_not_fit_stays_and_is_told_with_the_reason() -> None:
    async with make(MemoryBackend(), LimitedBackend(MemoryBackend(), max_body=10)) as app:
        large: Cargo = {
            channel: [
                Message(id=f"{channel}-{size}", name="a", body=b"x" * size, delay=60.0 if channel == "delayed" else 0.0)
                for size in (10, 11)
            ]
            for channel in CHANNELS
        }
        await load(await app.queue("old").driver(), large, 10)
        outcome = await move(app, wait=0)
        found = await unload(await app.queue("new").driver())
        left = await unload(await app.queue("old").driver())
    assert {each.id: each.channel for each in outcome.stayed} == {f"{channel}-11": channel for channel in CHANNELS}
    assert {each.reason for each in outcome.stayed} == {"a message of 11 bytes is over the 10 bytes that 'new' takes"}
    assert outcome.left == dict.fromkeys(CHANNELS, 1)
    for channel in CHANNELS:
        assert [each.id for each in found[channel]] == [f"{channel}-10"]
        assert [each.id for each in left[channel]] == [f"{channel}-11"]


async def test_a_message_whose_id_the_target_has_for_another_stays() -> None:
    async with make(MemoryBackend(), MemoryBackend()) as app:
        old, new = await app.queue("old").driver(), await app.queue("new").driver()
        same, other = Message(id="same", name="a", body=b"1"), Message(id="other", name="a", body=b"2")
        await old.push([same, other])
        await new.push([same])
        await new.store([msgspec.structs.replace(other, body=b"3")], "failed")
        outcome = await move(app)
        left = await unload(old)
    assert [(each.id, each.reason) for each in outcome.stayed] == [("other", "'new' has another message of this id")]
    assert [each.id for each in left["waiting"]] == ["other"]


# Unique keys.


async def test_unique_keys_are_kept_by_those_who_own_them(app: Headrace) -> None:
    async with app:
        old, new = await app.queue("old").driver(), await app.queue("new").driver()
        ran = Message(id="ran", name="a", body=b"{}", unique_key="k", attempt=1)
        await old.push([ran])
        (delivery,) = await old.pop(1, 0)
        await old.retry([(delivery.receipt, msgspec.structs.replace(ran, attempt=2, delay=60.0))])
        await old.push([Message(id="owner", name="a", body=b"{}", unique_key="k")])
        await old.store([Message(id="failed", name="a", body=b"{}", unique_key="k")], "failed")
        outcome = await move(app)
        kept = list(await new.push([Message(id="b", name="a", body=b"{}", unique_key="k", on_duplicate="keep")]))
        found = await unload(new)
    assert outcome.is_complete
    assert kept == ["owner"]
    assert {channel: [each.id for each in messages] for channel, messages in found.items() if messages} == {
        "waiting": ["owner"],
        "delayed": ["ran"],
        "failed": ["failed"],
    }


async def test_a_key_that_the_target_has_already_stays_with_its_owner() -> None:
    async with make(MemoryBackend(), MemoryBackend()) as app:
        old, new = await app.queue("old").driver(), await app.queue("new").driver()
        await old.push([Message(id="a", name="a", body=b"{}", unique_key="k")])
        await new.push([Message(id="b", name="a", body=b"{}", unique_key="k")])
        outcome = await move(app)
        found = await unload(new)
        kept = list(await new.push([Message(id="c", name="a", body=b"{}", unique_key="k", on_duplicate="keep")]))
    assert outcome.is_complete
    assert [each.id for each in found["waiting"]] == ["b", "a"]
    assert kept == ["b"]


async def test_keys_are_not_moved_to_where_they_mean_nothing_unless_that_is_asked_for() -> None:
    async with make(MemoryBackend(), LimitedBackend(MemoryBackend(), unique=False)) as app:
        old, new = await app.queue("old").driver(), await app.queue("new").driver()
        await old.push([Message(id="a", name="a", body=b"{}", unique_key="k")])
        with pytest.raises(CapabilityError, match=r"'new' does not offer 'unique'.* --drop-unique moves them without"):
            await move(app)
        assert len((await unload(old))["waiting"]) == 1
        outcome = await move(app, drop_unique=True)
        (moved,) = (await unload(new))["waiting"]
    assert outcome.is_complete
    assert moved.unique_key is None


# Backends that can do less.


async def test_delayed_messages_that_cannot_be_taken_are_waited_for() -> None:
    modest = LimitedBackend(MemoryBackend(), peek=frozenset({"failed", "timeout"}))
    async with make(modest, MemoryBackend()) as app:
        sent, since = cargo(3, delay=0.5), time.monotonic()
        sent = {channel: [_soon(each) for each in messages] for channel, messages in sent.items()}
        await load(await app.queue("old").driver(), sent, 10)
        outcome = await move(app)
        found = await unload(await app.queue("new").driver())
    assert outcome.is_complete
    expect(found, sent, since=since, due=True)


def _soon(message: Message) -> Message:
    return msgspec.structs.replace(message, delay=min(message.delay, 0.5))


@pytest.mark.parametrize(
    ("lacks_source", "lacks_target", "words"),
    [
        ({"selective": NOTHING}, {}, "'old' does not offer 'lend' for 'failed'"),
        ({"peek": NOTHING}, {}, "'old' does not offer 'lend' for 'failed'"),
        ({}, {"store": False}, "'new' does not offer 'store'"),
    ],
)
async def test_what_a_backend_cannot_do_is_refused_before_anything_is_moved(
    lacks_source: dict[str, Any], lacks_target: dict[str, Any], words: str
) -> None:
    source, target = LimitedBackend(MemoryBackend(), **lacks_source), LimitedBackend(MemoryBackend(), **lacks_target)
    async with make(source, target) as app:
        old = await app.queue("old").driver()
        await old.push([Message(id="w", name="a", body=b"{}")])
        await old.store([Message(id="f", name="a", body=b"{}")], "failed")
        with pytest.raises(CapabilityError, match=words):
            await move(app)
        info = await old.info()
        await old.flush("failed")
        outcome = await move(app)  # with nothing there that is lacked
    assert (info.waiting, info.failed) == (1, 1)
    assert outcome.is_complete


async def test_a_delay_beyond_the_targets_longest_is_moved_as_hops() -> None:
    async with make(MemoryBackend(), LimitedBackend(MemoryBackend(), max_delay=0.3)) as app:
        await (await app.queue("old").driver()).delay([Message(id="a", name="a", body=b"{}", delay=1000.0)])
        await move(app)
        (moved,) = (await unload(await app.queue("new").driver()))["delayed"]
    assert 0 < moved.delay <= 0.3
    assert abs(float(moved.headers["headrace-remaining"]) - 1000.0) < 5


async def test_a_target_that_cannot_be_looked_into_is_taken_at_its_word() -> None:
    async with make(MemoryBackend(), LimitedBackend(MemoryBackend(), peek=ALL_CHANNELS - {"reserved"})) as app:
        await load(await app.queue("old").driver(), cargo(5), 10)
        outcome = await move(app)
    assert outcome.is_complete
    assert outcome.missing is None


# Things that go wrong.


class Forgetful(WrappedBackend):
    """Confirms, and forgets at once, what has one id."""

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> Driver:
        return _ForgetfulDriver(super().driver(prefix, lease_seconds=lease_seconds))

    def _around(self, inner: Backend) -> "Forgetful":
        return Forgetful(inner)


class _ForgetfulDriver(WrappedDriver):
    async def push(self, messages: Sequence[Message]) -> Sequence[Any]:
        await super().push([each for each in messages if each.id != "order-0"])
        return [each.id for each in messages]


async def test_what_the_target_has_lost_is_told() -> None:
    async with make(MemoryBackend(), Forgetful(MemoryBackend())) as app:
        await load(await app.queue("old").driver(), cargo(5), 10)
        outcome = await move(app)
    assert outcome.missing == ["order-0"]
    assert not outcome.is_complete


async def test_both_names_of_one_queue_are_refused(tmp_path: Path) -> None:
    app = make(MemoryBackend(), MemoryBackend())
    with pytest.raises(ConfigError, match="'old' and 'old' are one queue"):
        Migration(app.queue("old"), app.queue("old"))
    path = tmp_path / "jobs.db"
    app = make(SqliteBackend(path), SqliteBackend(path), queues={"old": _on("old"), "new": _on("new")})
    with pytest.raises(ConfigError, match=r"'old' and 'new' are one queue: \{same\} at "):
        Migration(app.queue("old"), app.queue("new"))


def _on(backend: str) -> dict[str, Any]:
    return {"backend": backend, "prefix": "{same}"}


@pytest.mark.parametrize("verb", ["push", "delay", "store", "ack", "forget", "peek", "pop"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_after_a_failure_another_migration_finishes_and_nothing_is_there_twice(verb: Any, when: Any) -> None:
    fault = Fault(verb, "fail", when, at=2)
    source, target = MemoryBackend(), MemoryBackend()
    on_target = verb in ("push", "delay", "store")
    faulty = FaultyBackend(LimitedBackend(target if on_target else source, max_batch=20), fault)
    sent, since = cargo(50), time.monotonic()
    async with make(source, target) as app:
        await load(await app.queue("old").driver(), sent, 50)
    async with make(source if on_target else faulty, faulty if on_target else target) as app:
        with pytest.raises(BackendUnavailable):
            await move(app)
        assert faulty.happened == (fault,)
        outcome = await move(app)
        found = await unload(await app.queue("new").driver())
    assert outcome.is_complete
    assert not twice(found)
    expect(found, sent, since=since, deaths=1)


async def test_what_was_taken_is_given_back_at_once_when_the_migration_is_cancelled() -> None:
    slow = FaultyBackend(MemoryBackend(), Fault("push", "delay", seconds=60))
    async with make(MemoryBackend(), slow) as app:
        old = await app.queue("old").driver()
        await old.push([Message(id=f"{number:032x}", name="a", body=b"{}") for number in range(10)])
        moving = asyncio.create_task(move(app))
        while not (await old.info()).reserved:
            await asyncio.sleep(0.01)
        moving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await moving
        info = await old.info()
        back = await old.pop(10, 0)
    assert (info.waiting, info.reserved) == (10, 0)
    assert [each.count for each in back] == [1] * 10


async def test_leases_are_kept_while_a_batch_takes_long() -> None:
    slow = FaultyBackend(MemoryBackend(), Fault("push", "delay", seconds=2.5))
    async with make(MemoryBackend(), slow) as app:  # with leases of 1 s
        old = await app.queue("old").driver()
        await old.push([Message(id="a", name="a", body=b"{}")])
        outcome = await move(app)
        (moved,) = (await unload(await app.queue("new").driver()))["waiting"]
    assert outcome.twice == 0
    assert outcome.is_complete
    assert moved.deaths == 0


# Signatures.


async def test_signed_messages_are_signed_for_the_other_queue_and_forged_ones_are_not() -> None:
    async with make(MemoryBackend(), MemoryBackend(), signing_keys=["k" * 32]) as app:
        old, new = app.queue("old"), app.queue("new")
        assert old.signer is not None
        assert new.signer is not None
        signed = old.signer.sign(Message(id="signed", name="a", body=b"{}"))
        forged = msgspec.structs.replace(signed, id="forged")
        await (await old.driver()).push([signed, forged])
        await move(app)
        found = {each.id: each for each in (await unload(await new.driver()))["waiting"]}
        new.signer.verify(found["signed"])
    assert found["forged"].headers[SIGNATURE_HEADER] == signed.headers[SIGNATURE_HEADER]
