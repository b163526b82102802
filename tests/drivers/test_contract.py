"""Each sentence of the contract, on every driver that needs no server."""

import math

import msgspec
import pytest

from headrace.driver import NO_HEADERS, Backend, Channel, Note, RestingChannel, Settled

from .conftest import FakeTime
from .helpers import counts, drain, ids, message, messages, receipts, shown

DONE, STALE = Settled.DONE, Settled.STALE
NOTE = Note(type="ValueError", message="no \0 such\n\N{SNOWMAN}", traceback="x" * 16_000, time=1.5)


# Push.


async def test_a_pushed_message_comes_back_as_it_was(backend: Backend) -> None:
    driver = backend.driver("{q}")
    sent = message(attempt=2, deaths=1, headers={"trace": "\N{SNOWMAN}\0"}, note=NOTE)
    assert await driver.push([sent]) == [sent.id]
    (delivery,) = await driver.pop(10, 0)
    assert delivery.message == sent
    assert delivery.count == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"\0", b"\0a\0", b"\xff\xfe", bytes(range(256)), b"x" * 5_000_000],
    ids=lambda body: f"{len(body)} bytes",
)
async def test_any_bytes_survive_as_body(backend: Backend, body: bytes) -> None:
    driver = backend.driver("{q}")
    await driver.push([message(body=body), message(), message(body=body)])
    first, _, last = await driver.pop(10, 0)
    assert first.message.body == body == last.message.body


@pytest.mark.parametrize("text", ["a", "\0", "a\0b", "\N{SNOWMAN}", "\U0001f600", "'\"\\", " ", "{q}", "x" * 1000])
async def test_any_unicode_survives_as_id_name_and_key(backend: Backend, text: str) -> None:
    driver = backend.driver(text)
    sent = message(id=text, name=text, unique_key=text)
    assert await driver.push([sent]) == [text]
    assert await driver.push([message(id=text, name="other")]) == [text]
    (delivery,) = await driver.pop(10, 0)
    assert delivery.message == sent
    await driver.fail([(delivery.receipt, sent)], "failed")
    assert (await driver.peek("failed", 10, ids=[text])).messages == [sent]
    assert await driver.reload("failed", ids=[text]) == 1
    assert await driver.cancel(text)
    assert await counts(driver) == {}


async def test_messages_without_headers_share_one_empty_mapping(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.push([message()])
    (delivery,) = await driver.pop(1, 0)
    assert delivery.message.headers is NO_HEADERS


async def test_first_pushed_is_first_popped(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}")
    sent = messages(150)
    await driver.push(sent[:70])
    clock.advance(1)
    await driver.push(sent[70:])
    assert ids(await drain(driver, 7)) == [sent_.id for sent_ in sent]


async def test_identical_messages_are_separate(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.push([message(body=b"same"), message(body=b"same")])
    assert len(await drain(driver)) == 2


async def test_queues_of_one_backend_do_not_see_each_other(backend: Backend) -> None:
    one, other = backend.driver("{one}"), backend.driver("{other}")
    await one.push([message("a"), message("b", unique_key="k")])
    await other.push([message("a"), message("c", unique_key="k")])
    assert ids(await one.pop(10, 0)) == ["a", "b"]
    assert await other.cancel("c")
    assert await other.flush("waiting") == 1
    assert await counts(one) == {"reserved": 2}


async def test_two_drivers_of_one_prefix_are_one_queue(backend: Backend) -> None:
    await backend.driver("{q}").push([message("a")])
    assert ids(await backend.driver("{q}").pop(1, 0)) == ["a"]


# Ids that are repeated.


async def test_an_id_that_waits_is_left_alone(backend: Backend) -> None:
    driver = backend.driver("{q}")
    assert await driver.push([message("a", body=b"1"), message("b"), message("a", body=b"2")]) == ["a", "b", "a"]
    assert await driver.push([message("a", body=b"3")]) == ["a"]
    assert [d.message.body for d in await drain(driver)] == [b"1", b"{}"]


@pytest.mark.parametrize("channel", ["delayed", "reserved", "failed", "timeout"])
async def test_an_id_that_the_queue_holds_anywhere_is_left_alone(backend: Backend, channel: Channel) -> None:
    driver = backend.driver("{q}")
    if channel == "delayed":
        await driver.delay([message("a", delay=5)])
    else:
        await driver.push([message("a")])
        (delivery,) = await driver.pop(1, 0)
        if channel != "reserved":
            await driver.fail([(delivery.receipt, delivery.message)], channel)
    assert await driver.push([message("a")]) == ["a"]
    assert await driver.delay([message("a", delay=9)]) == ["a"]
    assert await driver.push([message("a", unique_key="k")]) == ["a"]
    assert await counts(driver) == {channel: 1}


async def test_an_id_is_free_again_when_its_message_is_gone(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.push([message("a")])
    await driver.ack(receipts(await driver.pop(1, 0)))
    await driver.push([message("a", body=b"new")])
    assert [d.message.body for d in await drain(driver)] == [b"new"]


# Delays.


async def test_a_delayed_message_is_due_after_its_delay_and_not_before(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}")
    await driver.delay([message("a", delay=5)])
    assert await counts(driver) == {"delayed": 1}
    clock.advance(4.999)
    assert await driver.pop(1, 0) == []
    clock.advance(0.001)
    assert await counts(driver) == {"waiting": 1}
    (delivery,) = await driver.pop(1, 0)
    assert delivery.message.id == "a"
    assert delivery.message.delay == 0


async def test_due_messages_are_popped_oldest_due_time_first(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}")
    await driver.delay([message("late", delay=30), message("early", delay=10), message("middle", delay=20)])
    clock.advance(15)
    await driver.push([message("pushed")])
    clock.advance(15)
    assert ids(await drain(driver, 1)) == ["early", "pushed", "middle", "late"]


async def test_many_due_messages_keep_the_order_of_their_due_times(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}")
    due = [(n * 7919 % 500) / 10 + 0.1 for n in range(500)]
    await driver.delay([message(f"{delay:08.1f}", delay=delay) for delay in due])
    clock.advance(100)
    popped = ids(await drain(driver))
    assert popped == sorted(popped)
    assert len(popped) == 500


async def test_the_longest_delay_can_be_stored(backend: Backend) -> None:
    driver = backend.driver("{q}")
    longest = min(backend.capabilities.max_delay, 1e15)
    await driver.delay([message("a", delay=longest)])
    assert await counts(driver) == {"delayed": 1}


# Pop.


async def test_pop_takes_no_more_than_its_limit(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.push(messages(5))
    assert [len(await driver.pop(2, 0)) for _ in range(4)] == [2, 2, 1, 0]


@pytest.mark.parametrize("limit", [0, -1, -1000])
async def test_a_limit_below_one_takes_moves_and_shows_nothing(backend: Backend, limit: int) -> None:
    driver = backend.driver("{q}")
    await driver.push(messages(5))
    await driver.fail([(d.receipt, d.message) for d in await driver.pop(3, 0)], "failed")
    before = await counts(driver)
    assert list(await driver.pop(limit, 60)) == []
    assert await driver.reload("failed", limit) == 0
    assert await driver.reload("failed", limit, await shown(driver, "failed")) == 0
    for page in (
        await driver.peek("failed", limit),
        await driver.peek("waiting", limit, ids=await shown(driver, "waiting")),
    ):
        assert (list(page.messages), page.cursor) == ([], None)
    assert await counts(driver) == before


async def test_a_limit_above_every_batch_is_no_error(backend: Backend) -> None:
    driver = backend.driver("{q}")
    sent = messages(1200)
    await driver.push(sent[:600])
    await driver.push(sent[600:])
    page = await driver.peek("waiting", 10**20)
    rest = await driver.peek("waiting", 10**20, cursor=page.cursor) if page.cursor else page
    assert [*page.messages, *(rest.messages if page.cursor else ())] == sent
    assert ids(await drain(driver, 10**20)) == [sent_.id for sent_ in sent]


async def test_more_ids_than_a_batch_has_are_all_found(backend: Backend) -> None:
    driver = backend.driver("{q}")
    size = min(backend.capabilities.max_batch, 1000)
    sent = [message(f"{n:05}") for n in range(2 * size + 100)]
    for start in range(0, len(sent), size):
        await driver.push(sent[start : start + size])
        await driver.fail([(d.receipt, d.message) for d in await driver.pop(size, 0)], "failed")
    every = [sent_.id for sent_ in sent]
    page = await driver.peek("failed", 10, ids=every[::-1])
    assert [shown_.id for shown_ in page.messages] == every[:10]
    assert await driver.reload("failed", ids=every[100:]) == 2 * size
    assert await driver.forget("failed", every) == 100
    assert await driver.forget("waiting", every) == 2 * size
    assert await counts(driver) == {}


async def test_a_popped_message_is_reserved_and_not_handed_out_again(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.push([message()])
    await driver.pop(1, 0)
    assert await driver.pop(1, 0) == []
    assert await counts(driver) == {"reserved": 1}


async def test_an_expired_lease_gives_the_message_back_with_its_count_one_higher(
    backend: Backend, clock: FakeTime
) -> None:
    driver = backend.driver("{q}", lease_seconds=30)
    await driver.push([message("a")])
    for count in (1, 2, 3):
        (delivery,) = await driver.pop(1, 0)
        assert (delivery.message.id, delivery.count) == ("a", count)
        clock.advance(29.999)
        assert await driver.pop(1, 0) == []
        clock.advance(0.001)
        assert await counts(driver) == {"waiting": 1}


async def test_an_expired_message_has_its_old_place(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}", lease_seconds=30)
    await driver.push([message("a"), message("b")])
    await driver.pop(1, 0)
    clock.advance(30)
    await driver.push([message("c")])
    assert ids(await drain(driver)) == ["a", "b", "c"]


async def test_an_expired_message_can_be_seen_cancelled_and_flushed_as_waiting(
    backend: Backend, clock: FakeTime
) -> None:
    driver = backend.driver("{q}", lease_seconds=30)
    await driver.push([message("a"), message("b"), message("c")])
    await driver.pop(2, 0)
    clock.advance(30)
    assert await shown(driver, "waiting") == ["a", "b", "c"]
    assert [await shown(driver, "reserved"), (await driver.info()).oldest_seconds] == [[], 30.0]
    assert await driver.cancel("a")
    assert await driver.forget("waiting", ["b"]) == 1
    assert await driver.flush("waiting") == 1


# Settling.


async def test_an_acked_message_is_gone(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}")
    await driver.push(messages(3))
    assert await driver.ack(receipts(await driver.pop(3, 0))) == [DONE] * 3
    clock.advance(1000)
    assert await driver.pop(1, 0) == []
    assert await counts(driver) == {}


async def test_a_message_given_back_at_once_has_its_old_place_and_a_fresh_count(
    backend: Backend, clock: FakeTime
) -> None:
    driver = backend.driver("{q}", lease_seconds=30)
    await driver.push([message("a"), message("b")])
    await driver.pop(1, 0)
    clock.advance(30)
    (delivery,) = await driver.pop(1, 0)
    assert delivery.count == 2
    changed = msgspec.structs.replace(delivery.message, deaths=1, headers={"h": "1"}, note=NOTE)
    assert await driver.retry([(delivery.receipt, changed)]) == [DONE]
    first, second = await driver.pop(2, 0)
    assert (first.message, first.count, second.message.id) == (changed, 1, "b")


async def test_a_message_retried_later_is_delayed(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}")
    await driver.push([message("a")])
    (delivery,) = await driver.pop(1, 0)
    later = msgspec.structs.replace(delivery.message, attempt=1, delay=5)
    assert await driver.retry([(delivery.receipt, later)]) == [DONE]
    assert await counts(driver) == {"delayed": 1}
    assert (await driver.peek("delayed", 1)).messages == [later]
    clock.advance(5)
    (again,) = await driver.pop(1, 0)
    assert again.message == msgspec.structs.replace(later, delay=0)


@pytest.mark.parametrize("channel", ["failed", "timeout"])
async def test_a_failed_message_rests_as_it_stands_in_the_pair(backend: Backend, channel: RestingChannel) -> None:
    driver = backend.driver("{q}")
    await driver.push([message("a")])
    (delivery,) = await driver.pop(1, 0)
    failed = msgspec.structs.replace(delivery.message, attempt=3, note=NOTE)
    assert await driver.fail([(delivery.receipt, failed)], channel) == [DONE]
    assert await counts(driver) == {channel: 1}
    assert (await driver.peek(channel, 10)).messages == [failed]
    assert await driver.pop(1, 0) == []


async def test_extending_keeps_a_delivery_beyond_its_lease(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}", lease_seconds=30)
    await driver.push([message("a"), message("b")])
    a, b = await driver.pop(2, 0)
    clock.advance(20)
    assert await driver.extend([a.receipt], 30) == [DONE]
    clock.advance(20)
    assert ids(await driver.pop(10, 0)) == ["b"]
    assert await driver.ack([b.receipt, a.receipt]) == [STALE, DONE]


async def test_extending_can_shorten_a_lease(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}", lease_seconds=30)
    await driver.push([message("a")])
    (delivery,) = await driver.pop(1, 0)
    await driver.extend([delivery.receipt], 1)
    clock.advance(1)
    assert ids(await driver.pop(1, 0)) == ["a"]


async def test_a_clone_extends_with_the_receipts_of_the_original(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}", lease_seconds=30)
    await driver.push([message("a")])
    (delivery,) = await driver.pop(1, 0)
    clone = backend.clone()
    await clone.open()
    assert await clone.driver("{q}", lease_seconds=30).extend([delivery.receipt], 100) == [DONE]
    await clone.close()
    clock.advance(99)
    assert await driver.ack([delivery.receipt]) == [DONE]


@pytest.mark.parametrize("ending", ["acked", "expired", "redelivered", "retried", "failed", "reloaded"])
async def test_a_stale_receipt_changes_nothing(backend: Backend, clock: FakeTime, ending: str) -> None:
    driver = backend.driver("{q}", lease_seconds=30)
    await driver.push([message("a")])
    (delivery,) = await driver.pop(1, 0)
    receipt, sent = delivery.receipt, delivery.message
    if ending == "acked":
        await driver.ack([receipt])
    elif ending in ("expired", "redelivered"):
        clock.advance(30)
        if ending == "redelivered":
            await driver.pop(1, 0)
    elif ending == "retried":
        await driver.retry([(receipt, sent)])
    else:
        await driver.fail([(receipt, sent)], "failed")
        if ending == "reloaded":
            await driver.reload("failed")
    before = await counts(driver)
    other = msgspec.structs.replace(sent, attempt=9, delay=9)
    assert await driver.ack([receipt]) == [STALE]
    assert await driver.retry([(receipt, other)]) == [STALE]
    assert await driver.fail([(receipt, other)], "timeout") == [STALE]
    assert await driver.extend([receipt], 1000) == [STALE]
    assert await counts(driver) == before
    clock.advance(30)
    assert [d.message.attempt for d in await drain(driver)] in ([], [0])


async def test_a_batch_has_one_result_per_receipt_in_their_order(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}", lease_seconds=30)
    await driver.push([message("a"), message("b"), message("c"), message("d")])
    a, b, c, d = receipts(await driver.pop(4, 0))
    await driver.ack([b])
    await driver.extend([c], 60)
    assert await driver.ack([a, b, c, a]) == [DONE, STALE, DONE, STALE]
    clock.advance(30)
    assert await driver.ack([d, c, b, a]) == [STALE] * 4
    assert ids(await driver.pop(10, 0)) == ["d"]


async def test_receipts_of_many_pops_settle_in_one_call(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.push(messages(90))
    held = [delivery for _ in range(30) for delivery in await driver.pop(3, 0)]
    third = len(held) // 3
    assert await driver.ack(receipts(held[::3])) == [DONE] * third
    assert await driver.retry([(d.receipt, d.message) for d in held[1::3]]) == [DONE] * third
    assert await driver.fail([(d.receipt, d.message) for d in held[2::3]], "failed") == [DONE] * third
    assert await counts(driver) == {"waiting": third, "failed": third}
    assert ids(await drain(driver)) == ids(held[1::3])
    assert await shown(driver, "failed") == ids(held[2::3])


# Reload, flush, forget, cancel.


@pytest.mark.parametrize("channel", ["failed", "timeout"])
async def test_reloading_starts_a_message_afresh(backend: Backend, channel: RestingChannel) -> None:
    driver = backend.driver("{q}")
    await driver.push([message("a", headers={"h": "1"})])
    (delivery,) = await driver.pop(1, 0)
    spent = msgspec.structs.replace(delivery.message, attempt=3, deaths=2, note=NOTE)
    await driver.fail([(delivery.receipt, spent)], channel)
    assert await driver.reload(channel) == 1
    assert await counts(driver) == {"waiting": 1}
    (again,) = await driver.pop(1, 0)
    assert (again.message, again.count) == (delivery.message, 1)


async def test_reloading_moves_the_oldest_first_up_to_its_limit(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}")
    await driver.push([message(id_) for id_ in "abcd"])
    held = {d.message.id: d for d in await driver.pop(4, 0)}
    for id_ in "cadb":
        await driver.fail([(held[id_].receipt, held[id_].message)], "failed")
        clock.advance(1)
    assert await shown(driver, "failed") == ["c", "a", "d", "b"]
    assert await driver.reload("failed", 1) == 1
    clock.advance(1)
    assert await driver.reload("failed", 2) == 2
    assert await driver.reload("failed", 0) == 0
    assert ids(await drain(driver)) == ["c", "a", "d"]
    assert await shown(driver, "failed") == ["b"]


async def test_chosen_messages_are_reloaded_and_forgotten(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.push([message(id_) for id_ in "abcde"])
    held = await driver.pop(4, 0)
    await driver.fail([(d.receipt, d.message) for d in held], "failed")
    assert await driver.reload("failed", ids=["c", "a", "e", "nobody", "c"]) == 2
    assert await driver.reload("timeout", ids=["b"]) == 0
    assert await driver.reload("failed", 1, ["d", "b"]) == 1
    assert await driver.forget("failed", ["a", "d", "d"]) == 1
    assert await driver.forget("waiting", ["e", "d"]) == 1
    assert sorted(await shown(driver, "waiting")) == ["a", "b", "c"]
    assert await counts(driver) == {"waiting": 3}


async def test_large_reloads_and_flushes_are_complete(backend: Backend) -> None:
    driver = backend.driver("{q}")
    for _ in range(3):
        await driver.push(messages(700))
    held = await drain(driver, 700)
    for start in range(0, 2100, 700):
        await driver.fail([(d.receipt, d.message) for d in held[start : start + 700]], "failed")
    assert await driver.reload("failed", 1300) == 1300
    assert await driver.reload("failed") == 800
    assert ids(await driver.pop(700, 0)) == ids(held[:700])
    assert await driver.flush("waiting") == 1400
    assert await counts(driver) == {"reserved": 700}


async def test_flushing_deletes_what_one_channel_holds(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.push(messages(9))
    held = await driver.pop(6, 0)
    await driver.fail([(d.receipt, d.message) for d in held[:2]], "failed")
    await driver.fail([(d.receipt, d.message) for d in held[2:5]], "timeout")
    await driver.delay(messages(4, delay=5))
    everything = {"waiting": 3, "reserved": 1, "delayed": 4, "failed": 2, "timeout": 3}
    assert await counts(driver) == everything
    for channel in ("waiting", "delayed", "failed", "timeout"):
        assert await driver.flush(channel) == everything.pop(channel)
        assert await counts(driver) == everything
        assert await driver.flush(channel) == 0


async def test_what_is_reserved_cannot_be_flushed_or_forgotten(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.push([message("a")])
    await driver.pop(1, 0)
    with pytest.raises(ValueError, match="reserved"):
        await driver.flush("reserved")
    with pytest.raises(ValueError, match="reserved"):
        await driver.forget("reserved", ["a"])
    assert not await driver.cancel("a")
    assert await counts(driver) == {"reserved": 1}


async def test_cancelling_removes_what_waits_or_is_delayed_and_nothing_else(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.push([message("failed"), message("waiting")])
    await driver.delay([message("delayed", delay=5)])
    (delivery,) = await driver.pop(1, 0)
    await driver.fail([(delivery.receipt, delivery.message)], "failed")
    assert [await driver.cancel(id_) for id_ in ("waiting", "delayed", "failed", "nobody", "waiting")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert await driver.pop(1, 0) == []


# Unique.


async def test_a_push_replaces_the_pending_message_of_its_key(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}")
    await driver.push([message("old", unique_key="k"), message("other", unique_key="l"), message("none")])
    assert await driver.push([message("new", unique_key="k")]) == ["new"]
    assert await shown(driver, "waiting") == ["other", "none", "new"]
    assert await driver.delay([message("later", unique_key="k", delay=5)]) == ["later"]
    assert await counts(driver) == {"waiting": 2, "delayed": 1}
    assert await driver.push([message("now", unique_key="k")]) == ["now"]
    clock.advance(5)
    assert ids(await drain(driver)) == ["other", "none", "now"]


async def test_a_push_that_keeps_returns_the_id_of_the_pending_message(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.delay([message("old", unique_key="k", delay=5)])
    keep = message("new", unique_key="k", on_duplicate="keep")
    assert await driver.push([keep]) == ["old"]
    assert await counts(driver) == {"delayed": 1}


async def test_messages_of_one_key_within_a_batch_follow_each_other(backend: Backend) -> None:
    driver = backend.driver("{q}")
    batch = [
        message("a", unique_key="k"),
        message("b", unique_key="k"),
        message("c", unique_key="k", on_duplicate="keep"),
        message("d"),
        message("e", unique_key="l", on_duplicate="keep"),
        message("f", unique_key="l"),
    ]
    assert await driver.push(batch) == ["a", "b", "b", "d", "e", "f"]
    assert ids(await drain(driver)) == ["b", "d", "f"]


@pytest.mark.parametrize("after", ["reserved", "retried", "delayed", "expired", "failed", "reloaded", "cancelled"])
async def test_a_key_is_free_from_the_first_pop_on(backend: Backend, clock: FakeTime, after: str) -> None:
    driver = backend.driver("{q}", lease_seconds=30)
    await driver.push([message("old", unique_key="k")])
    if after == "cancelled":
        await driver.cancel("old")
    else:
        (delivery,) = await driver.pop(1, 0)
        if after in ("retried", "delayed"):
            again = msgspec.structs.replace(delivery.message, delay=5 if after == "delayed" else 0)
            await driver.retry([(delivery.receipt, again)])
        elif after == "expired":
            clock.advance(30)
        elif after in ("failed", "reloaded"):
            await driver.fail([(delivery.receipt, delivery.message)], "failed")
            if after == "reloaded":
                await driver.reload("failed")
    before = sum((await counts(driver)).values())
    assert await driver.push([message("new", unique_key="k", on_duplicate="keep")]) == ["new"]
    assert await driver.push([message("newer", unique_key="k")]) == ["newer"]
    assert sum((await counts(driver)).values()) == before + 1


# Looking.


async def test_info_counts_every_channel_and_the_age_of_the_oldest(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}")
    info = await driver.info()
    assert (info.waiting, info.reserved, info.delayed, info.failed, info.timeout) == (0, 0, 0, 0, 0)
    assert info.oldest_seconds is None
    await driver.delay([message(delay=2)])
    clock.advance(1)
    await driver.push(messages(2))
    clock.advance(3)
    assert (await driver.info()).oldest_seconds == 3
    await driver.pop(2, 0)
    info = await driver.info()
    assert (info.waiting, info.reserved, info.oldest_seconds) == (1, 2, 2)


@pytest.mark.parametrize("channel", ["waiting", "reserved", "delayed", "failed", "timeout"])
async def test_a_channel_is_shown_page_by_page_and_left_as_it_is(
    backend: Backend, clock: FakeTime, channel: Channel
) -> None:
    driver = backend.driver("{q}", lease_seconds=1000)
    sent = [message(f"{n:02}", delay=n // 2 + 1.0 if channel == "delayed" else 0.0) for n in range(10)]
    if channel == "delayed":
        await driver.delay(sent)
    else:
        for start in range(0, 10, 2):
            await driver.push(sent[start : start + 2])
            clock.advance(1)
    if channel not in ("waiting", "delayed"):
        for _ in range(5):
            held = await driver.pop(2, 0)
            if channel != "reserved":
                await driver.fail([(d.receipt, d.message) for d in held], channel)
            clock.advance(1)
    before = await counts(driver)
    pages: list[list[str]] = []
    cursor = None
    while True:
        page = await driver.peek(channel, 3, cursor=cursor)
        pages.append([shown_.id for shown_ in page.messages])
        cursor = page.cursor
        if cursor is None:
            break
    assert pages == [["00", "01", "02"], ["03", "04", "05"], ["06", "07", "08"], ["09"]]
    assert await counts(driver) == before


async def test_chosen_messages_are_shown(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.push([message(id_) for id_ in "abc"])
    await driver.delay([message("d", delay=5)])
    page = await driver.peek("waiting", 10, ids=["c", "d", "a", "nobody"])
    assert [shown_.id for shown_ in page.messages] == ["a", "c"]
    first = await driver.peek("waiting", 1, ids=["c", "a"])
    second = await driver.peek("waiting", 1, ids=["c", "a"], cursor=first.cursor)
    assert [page.messages[0].id for page in (first, second)] == ["a", "c"]
    assert second.cursor is None


async def test_a_delayed_message_is_shown_with_what_remains_of_its_delay(backend: Backend, clock: FakeTime) -> None:
    driver = backend.driver("{q}")
    await driver.delay([message("a", delay=5)])
    clock.advance(2)
    (left,) = (await driver.peek("delayed", 1)).messages
    assert math.isclose(left.delay, 3)


async def test_an_empty_channel_shows_an_empty_page(backend: Backend) -> None:
    for channel in ("waiting", "reserved", "delayed", "failed", "timeout"):
        page = await backend.driver("{q}").peek(channel, 10)
        assert (list(page.messages), page.cursor) == ([], None)


# The backend.


async def test_a_backend_names_its_place_and_speaks_the_contract(backend: Backend) -> None:
    assert backend.place
    assert backend.capabilities.contract == 1
    assert backend.capabilities == backend.clone().capabilities


async def test_a_largest_batch_passes_through_every_verb(backend: Backend) -> None:
    driver = backend.driver("{q}")
    size = backend.capabilities.max_batch
    await driver.push(messages(size))
    held = await driver.pop(size, 0)
    assert len(held) == size
    assert await driver.extend(receipts(held), 60) == [DONE] * size
    assert await driver.retry([(d.receipt, d.message) for d in held]) == [DONE] * size
    held = await driver.pop(size, 0)
    assert await driver.ack(receipts(held)) == [DONE] * size
