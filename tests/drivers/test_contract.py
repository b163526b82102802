"""What the embedded drivers do beyond the conformance kit: exact times, limits out of range, any number of ids."""

import pytest

from headrace.driver import NO_HEADERS, Backend
from headrace.testing import FakeClock

from .helpers import counts, drain, ids, message, messages, shown


async def test_messages_without_headers_share_one_empty_mapping(backend: Backend) -> None:
    driver = backend.driver("{q}")
    await driver.push([message()])
    (delivery,) = await driver.pop(1, 0)
    assert delivery.message.headers is NO_HEADERS


async def test_a_delayed_message_is_due_after_its_delay_to_the_millisecond(backend: Backend, clock: FakeClock) -> None:
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


async def test_many_due_messages_keep_the_order_of_their_due_times(backend: Backend, clock: FakeClock) -> None:
    driver = backend.driver("{q}")
    due = [(n * 7919 % 500) / 10 + 0.1 for n in range(500)]
    await driver.delay([message(f"{delay:08.1f}", delay=delay) for delay in due])
    clock.advance(100)
    popped = ids(await drain(driver))
    assert popped == sorted(popped)
    assert len(popped) == 500


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


async def test_a_lease_ends_to_the_millisecond(backend: Backend, clock: FakeClock) -> None:
    driver = backend.driver("{q}", lease_seconds=30)
    await driver.push([message("a")])
    for count in (1, 2, 3):
        (delivery,) = await driver.pop(1, 0)
        assert (delivery.message.id, delivery.count) == ("a", count)
        clock.advance(29.999)
        assert await driver.pop(1, 0) == []
        clock.advance(0.001)
        assert await counts(driver) == {"waiting": 1}
