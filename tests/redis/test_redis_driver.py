"""What the Redis driver owes beyond the contract: where its messages are, and what they cost."""

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
import redis
from words import counts, ids, message, messages, pairs, receipts

from headrace.conformance.servers.redis import RedisServer
from headrace.driver import Channel, Driver, Settled
from headrace.errors import BackendUnavailable
from headrace_redis import scripts
from headrace_redis.backend import RedisBackend
from headrace_redis.codec import id_bytes, id_text

Make = Callable[..., RedisBackend]
DONE, STALE = Settled.DONE, Settled.STALE


@pytest.mark.parametrize(
    "id_",
    [
        "0" * 32,
        "0123456789abcdef" * 2,
        "0123456789ABCDEF" * 2,
        "x" * 32,
        "x" * 16,
        "é" * 8,
        "x" * 17,
        "x",
        " ",
        "\0",
        "",
    ],
)
def test_every_id_comes_back_and_differs_from_all_others(id_: str) -> None:
    others = ["ff" * 16, "y" * 16, "y"]
    assert id_text(id_bytes(id_)) == id_
    assert id_bytes(id_) not in map(id_bytes, others)


def test_every_script_declares_the_keys_that_it_names() -> None:
    for name, script in vars(scripts).items():
        if isinstance(script, scripts.Script):
            assert script.text.count("KEYS[") == len(script.keys) > 0, name
            assert script.text.startswith("#!lua"), name
            refused_when_full = "allow-oom" not in script.text.splitlines()[0] and "no-writes" not in script.text
            assert refused_when_full == (script in (scripts.PUSH, scripts.REST, scripts.STORE)), name


async def test_a_value_that_was_damaged_is_handed_out_without_a_name_and_stops_no_other(
    make: Make, own_server: RedisServer
) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{mail}")
    sent = messages(4)
    await driver.push(sent)
    with redis.Redis(port=own_server.port) as client:
        key = "{mail}:messages"
        for each, damaged in zip(sent[:3], (b"", b"\xff" * 9, b"\x00\x00\xff"), strict=True):
            field = id_bytes(each.id)
            value = client.hget(key, field)
            assert isinstance(value, bytes)
            client.hset(key, field, value[:8] + damaged)
    held = await driver.pop(4, 0)
    assert ids(held) == [each.id for each in sent]
    assert [each.message.name for each in held] == ["", "", "", "Job"]
    assert list(await driver.fail(pairs(held), "failed")) == [DONE] * 4
    assert [each.name for each in (await driver.peek("failed", 9)).messages] == ["", "", "", "Job"]
    assert await driver.flush("failed") == 4
    assert await counts(driver) == {}


async def test_all_keys_of_a_queue_begin_with_its_prefix_and_go_with_it(make: Make, own_server: RedisServer) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{mail}", lease_seconds=0.05)
    await driver.push(messages(5))
    await driver.push([message(unique_key="k")])
    held = await driver.pop(3, 0)
    await driver.fail([(held[0].receipt, held[0].message)], "failed")
    await driver.fail([(held[1].receipt, held[1].message)], "timeout")
    await asyncio.sleep(0.06)
    await driver.pop(1, 0)
    keys = own_server.ask("KEYS", "*")
    assert set(keys) <= {f"{{mail}}:{name}" for name in scripts.KEYS}
    assert len(keys) == len(scripts.KEYS)
    await driver.destroy()
    assert own_server.ask("KEYS", "*") == []


async def test_an_empty_queue_keeps_next_to_nothing(make: Make, own_server: RedisServer) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}")
    before = int(own_server.info("memory")["used_memory"])
    for _ in range(20):
        await driver.push(messages(1000))
        assert await driver.ack(receipts(await driver.pop(1000, 0))) == [DONE] * 1000
    await driver.delay(messages(1000, delay=60))
    await driver.flush("delayed")
    kept = {key: own_server.ask("MEMORY", "USAGE", key) for key in own_server.ask("KEYS", "{q}:*")}
    # Of the thousand that were reserved at once, the server keeps the emptied table for a while.
    assert sum(kept.values()) < 40_000, kept
    assert int(own_server.info("memory")["used_memory"]) - before < 5_000_000


async def test_a_waiting_message_costs_at_most_150_bytes_beside_its_body(make: Make, own_server: RedisServer) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}")
    count, body = 50_000, b"x" * 100
    before = int(own_server.info("memory")["used_memory"])
    for _ in range(count // 1000):
        await driver.push([message(body=body) for _ in range(1000)])
    each = (int(own_server.info("memory")["used_memory"]) - before) / count
    print(f"\n{each - len(body):.0f} bytes beside a body of {len(body)}")
    assert each - len(body) <= 150


async def test_cancelled_messages_in_the_midst_of_the_line_are_passed_over(backend: RedisBackend, prefix: str) -> None:
    driver = backend.driver(prefix)
    sent = messages(1500)
    every = [each.id for each in sent]
    for start in (0, 500, 1000):
        await driver.push(sent[start : start + 500])
    gone = every[100:1400:2]
    assert await driver.forget("waiting", gone) == len(gone)
    cancelled = [every[101], every[0], every[-1]]
    assert [await driver.cancel(each) for each in (gone[0], *cancelled)] == [False, True, True, True]
    left = [each for each in every if each not in {*gone, *cancelled}]
    assert await counts(driver) == {"waiting": len(left)}
    assert await driver.push([message(gone[0], body=b"again")]) == [gone[0]]
    shown, cursor = [], None
    while True:
        page = await driver.peek("waiting", 400, cursor=cursor)
        shown += [each.id for each in page.messages]
        cursor = page.cursor
        if cursor is None:
            break
    assert shown == [*left, gone[0]]
    taken = []
    while held := await driver.pop(97, 0):
        taken += ids(held)
        info = await driver.info()
        assert (info.waiting, info.reserved) == (len(left) + 1 - len(taken), len(taken))
    assert taken == [*left, gone[0]]


async def test_a_line_of_nothing_but_cancelled_messages_is_no_obstacle(backend: RedisBackend, prefix: str) -> None:
    driver = backend.driver(prefix)
    first, sent, last = message(), messages(900), message()
    await driver.push([first, *sent, last])
    await driver.forget("waiting", [each.id for each in sent])
    assert ids(await driver.pop(1, 0)) == [first.id]
    assert ids(await driver.pop(1, 0)) == [last.id]
    assert await driver.pop(1, 0) == []
    info = await driver.info()
    assert (info.waiting, info.oldest_seconds) == (0, None)


async def test_what_is_reserved_is_neither_cancelled_nor_counted_among_the_line(
    backend: RedisBackend, prefix: str
) -> None:
    driver = backend.driver(prefix)
    sent = messages(10)
    await driver.push(sent)
    held = await driver.pop(5, 0)
    await driver.cancel(sent[7].id)
    assert [await driver.cancel(each) for each in ids(held)] == [False] * 5
    assert await driver.forget("waiting", ids(held)) == 0
    await driver.retry([(each.receipt, each.message) for each in held[:2]])
    assert await driver.cancel(held[0].message.id)
    assert await counts(driver) == {"waiting": 5, "reserved": 3}


async def test_large_bodies_come_a_few_at_a_time(backend: RedisBackend, prefix: str) -> None:
    driver = backend.driver(prefix)
    sent = [message(body=b"x" * 1_000_000) for _ in range(20)]
    assert await driver.push(sent) == [each.id for each in sent]
    first = await driver.pop(1000, 0)
    assert 4 <= len(first) < 20
    taken = ids(first)
    while held := await driver.pop(1000, 0):
        taken += ids(held)
    assert taken == [each.id for each in sent]


async def test_an_acknowledged_push_that_is_repeated_stores_nothing_new(backend: RedisBackend, prefix: str) -> None:
    driver = backend.driver(prefix)
    sent = [message(), message(unique_key="k"), message(delay=60)]
    for _ in range(3):
        await driver.push(sent[:2])
        await driver.delay(sent[2:])
    assert await counts(driver) == {"waiting": 2, "delayed": 1}


async def test_the_scripts_are_sent_again_when_the_server_has_forgotten_them(
    make: Make, own_server: RedisServer
) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}")
    for _ in range(3):
        own_server.ask("SCRIPT", "FLUSH")
        await driver.push(messages(2))
        own_server.ask("SCRIPT", "FLUSH")
        assert await driver.ack(receipts(await driver.pop(2, 0))) == [DONE, DONE]
    assert await counts(driver) == {}


async def test_a_full_server_refuses_pushes_and_can_be_drained(make: Make, own_server: RedisServer) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}", lease_seconds=0.2)
    await driver.push(messages(500))
    await driver.delay(messages(100, delay=60))
    own_server.ask("CONFIG", "SET", "maxmemory", "1mb")
    for refused in (driver.push(messages(1)), driver.delay(messages(1, delay=1))):
        with pytest.raises(BackendUnavailable, match="out of memory"):
            await refused
    first = await driver.pop(100, 0)
    assert len(first) == 100
    assert await driver.extend(receipts(first), 60) == [DONE] * 100
    assert await driver.fail([(each.receipt, each.message) for each in first[:10]], "failed") == [DONE] * 10
    assert await driver.retry([(each.receipt, each.message) for each in first[10:20]]) == [DONE] * 10
    assert await driver.ack(receipts(first[20:])) == [DONE] * 80
    assert len((await driver.peek("waiting", 10)).messages) == 10
    assert await driver.reload("failed") == 10
    await driver.pop(5, 0)
    await asyncio.sleep(0.25)
    assert (await driver.info()).reserved == 0
    while held := await driver.pop(100, 0):
        await driver.ack(receipts(held))
    assert await driver.flush("delayed") == 100
    assert await counts(driver) == {}


async def test_each_channel_is_flushed_in_full_by_a_few_short_calls(backend: RedisBackend, prefix: str) -> None:
    driver = backend.driver(prefix)
    for _ in range(5):
        await driver.push(messages(1000))
    await driver.delay(messages(1000, delay=60))
    held = [each for _ in range(2) for each in await driver.pop(1000, 0)]
    await driver.fail([(each.receipt, each.message) for each in held[:1000]], "failed")
    await driver.fail([(each.receipt, each.message) for each in held[1000:]], "timeout")
    began = time.monotonic()
    assert [await driver.flush(channel) for channel in ("waiting", "delayed", "failed", "timeout")] == [
        3000,
        1000,
        1000,
        1000,
    ]
    assert time.monotonic() - began < 5
    assert await counts(driver) == {}


async def test_an_idle_pop_costs_about_one_command_a_second_whatever_is_delayed(
    make: Make, own_server: RedisServer
) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}")
    await driver.delay(messages(1000, delay=600))
    assert await driver.pop(1, 0) == []
    before = own_server.commands()
    for _ in range(3):
        assert await driver.pop(1, 2) == []
    sent = own_server.commands() - before
    print(f"\n{sent} commands in 6 seconds")
    assert sent <= 7


async def test_one_push_wakes_one_waiting_pop_and_the_others_sleep_on(backend: RedisBackend, prefix: str) -> None:
    others = [backend.clone() for _ in range(3)]
    for each in others:
        await each.open()
    waiting = [asyncio.create_task(each.driver(prefix).pop(10, 1.5)) for each in others]
    await asyncio.sleep(0.3)
    began = time.monotonic()
    await backend.driver(prefix).push([message("first")])
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert time.monotonic() - began < 1
    assert [ids(each.result()) for each in done] == [["first"]]
    assert len(pending) == 2
    await backend.driver(prefix).push([message("second"), message("third")])
    rest = await asyncio.gather(*pending)
    assert sorted(itertools.chain(*map(ids, rest))) == ["second", "third"]
    for each in others:
        await each.close()


async def test_what_one_waiting_pop_leaves_wakes_the_next(backend: RedisBackend, prefix: str) -> None:
    others = [backend.clone() for _ in range(4)]
    for each in others:
        await each.open()
    waiting = [asyncio.create_task(each.driver(prefix).pop(1, 10)) for each in others]
    await asyncio.sleep(0.3)
    began = time.monotonic()
    await backend.driver(prefix).push(messages(4))
    assert [len(each) for each in await asyncio.gather(*waiting)] == [1, 1, 1, 1]
    assert time.monotonic() - began < 5
    for each in others:
        await each.close()


async def test_who_takes_a_message_hands_on_that_another_falls_due_soon(backend: RedisBackend, prefix: str) -> None:
    one, other = backend.clone(), backend.clone()
    for each in (one, other):
        await each.open()
    waiting = [asyncio.create_task(each.driver(prefix).pop(1, 10)) for each in (one, other)]
    await asyncio.sleep(0.3)
    driver = backend.driver(prefix)
    began = time.monotonic()
    await driver.delay([message("later", delay=1)])  # one of the two learns of it
    await asyncio.sleep(0.1)
    await driver.push([message("now")])
    assert sorted(itertools.chain(*map(ids, await asyncio.gather(*waiting)))) == ["later", "now"]
    assert time.monotonic() - began < 5
    for each in (one, other):
        await each.close()


async def test_a_cancelled_pop_gives_back_what_was_under_way_to_it(backend: RedisBackend, prefix: str) -> None:
    driver = backend.driver(prefix)
    for pause in (0, 0, 0, 0.001, 0.002, 0.005, 0.01, 0.05):
        sent = messages(20)
        await driver.push(sent)
        pop = asyncio.create_task(driver.pop(20, 1))
        await asyncio.sleep(pause)
        pop.cancel()
        try:
            held = await pop
        except asyncio.CancelledError:
            held = []
            while (info := await driver.info()).reserved:
                assert info.waiting is not None
                await asyncio.sleep(0.01)
            again = await driver.pop(20, 0)
            assert ids(again) == [each.id for each in sent]
            assert [each.count for each in again] == [1] * 20
            held = again
        await driver.ack(receipts(held))


async def test_a_pop_that_did_not_wait_finds_what_an_earlier_one_had_waited_for(
    backend: RedisBackend, prefix: str
) -> None:
    driver = backend.driver(prefix)
    for _ in range(20):
        assert await driver.pop(10, 0.05) == []
        sent = messages(3)
        await driver.push(sent)
        held = await driver.pop(10, 0)
        assert ids(held) == [each.id for each in sent]
        await driver.ack(receipts(held))


async def test_what_is_pushed_when_nobody_waits_any_more_stays_waiting(backend: RedisBackend, prefix: str) -> None:
    driver = backend.driver(prefix)
    assert await driver.pop(10, 0.05) == []
    await asyncio.sleep(0.5)
    await driver.push(messages(3))
    assert await counts(driver) == {"waiting": 3}


async def test_closing_leaves_no_key_and_no_reservation(make: Make, own_server: RedisServer) -> None:
    for pause in (0, 0.01, 0.06, 0.2):
        backend = make(own_server.url)
        await backend.open()
        driver = backend.driver("{q}")
        await driver.destroy()
        popping = asyncio.create_task(driver.pop(10, 10))
        await asyncio.sleep(0.2)
        popping.cancel()
        await asyncio.wait((popping,))
        await asyncio.sleep(pause)
        await driver.push(messages(1))
        began = time.monotonic()
        await backend.close()
        assert time.monotonic() - began < 5
        assert own_server.ask("ZCARD", "{q}:reserved") in (0, 1)  # the member that is never one of a message
        assert not [key for key in own_server.ask("KEYS", "*") if key.startswith("{q}:wake:")]


async def test_nothing_is_rung_for_a_queue_that_was_deleted(make: Make, own_server: RedisServer) -> None:
    for close_first in (False, True):
        backend = make(own_server.url)
        await backend.open()
        driver = backend.driver("{q}")
        assert not await driver.wait_ready(0.05)
        assert await driver.pop(1, 0.05) == []
        waiting = asyncio.create_task(driver.wait_ready(1))
        await asyncio.sleep(0.05)
        if close_first:
            waiting.cancel()
            await asyncio.wait((waiting,))
        await driver.destroy()
        if not close_first:
            assert not await waiting
        await backend.close()
        assert own_server.ask("KEYS", "*") == []


#: Bytes of the answer at which a call ends, and of a body of which four are so many.
ENOUGH, MEGABYTE = 4 * 2**20, 2**20


def calls(server: RedisServer, *commands: str) -> int:
    """How many of these commands were run since the server began, by scripts or by clients."""
    stats = server.info("commandstats")
    found = (re.match(r"calls=(\d+)", stats.get(f"cmdstat_{each}", "")) for each in commands)
    return sum(int(each[1]) for each in found if each)


@pytest.mark.parametrize("small", [0, 70])
async def test_a_pop_reads_no_more_bodies_than_are_enough_for_one_call(
    make: Make, own_server: RedisServer, small: int
) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}")
    sent = [*messages(small), *messages(16, body=b"x" * 3 * MEGABYTE)]
    assert await driver.push(sent) == [each.id for each in sent]
    before = int(own_server.info("memory")["used_memory_peak"])
    taken = []
    while held := await driver.pop(100, 0):
        assert len(held) == 1 or sum(len(each.message.body) for each in held) <= ENOUGH
        taken += ids(held)
    assert taken == [each.id for each in sent]
    # What a script reads is in the server's memory once more, until the command that read it has ended.
    assert int(own_server.info("memory")["used_memory_peak"]) - before < 20 * MEGABYTE


async def test_large_bodies_that_are_delayed_rest_or_have_a_key_are_read_a_few_at_a_time_too(
    make: Make, own_server: RedisServer
) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}")
    large = b"x" * 3 * MEGABYTE
    await driver.store(messages(12, body=large), "failed")
    await driver.delay([message(body=large, unique_key=f"{each}", delay=0.001) for each in range(12)])
    before = int(own_server.info("memory")["used_memory_peak"])
    assert await driver.reload("failed") == 12
    for _ in range(24):
        assert len(await driver.pop(100, 0)) == 1
    assert await driver.pop(100, 0) == []
    assert int(own_server.info("memory")["used_memory_peak"]) - before < 20 * MEGABYTE


async def test_a_pop_that_meets_large_bodies_of_which_nobody_told_reads_few_from_then_on(
    make: Make, own_server: RedisServer
) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push(messages(30, body=b"x" * MEGABYTE))
    own_server.ask("HDEL", "{q}:state", "large")
    await driver.pop(30, 0)
    before = calls(own_server, "hstrlen")
    assert len(await driver.pop(30, 0)) == 3  # with their places they are larger than a megabyte
    assert calls(own_server, "hstrlen") == before + 4


async def test_a_reload_of_large_bodies_is_many_short_calls(make: Make, own_server: RedisServer) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}")
    sent = messages(20, body=b"x" * MEGABYTE)
    every = [each.id for each in sent]
    for limit, chosen, most in ((None, None, 20), (11, None, 11), (None, every, 20), (11, every, 11)):
        await driver.store(sent, "failed")
        before = calls(own_server, "evalsha", "eval")
        assert await driver.reload("failed", limit, chosen) == most
        assert calls(own_server, "evalsha", "eval") - before >= most / 4
        taken = [each for _ in range(most) for each in await driver.pop(1, 0)]
        assert ids(taken) == every[:most]
        await driver.destroy()


@pytest.mark.parametrize("channel", ["waiting", "delayed", "failed", "reserved"])
@pytest.mark.parametrize("gaps", [False, True])
async def test_a_page_of_large_bodies_ends_early_and_the_next_goes_on(
    backend: RedisBackend, prefix: str, channel: Channel, gaps: bool
) -> None:
    driver = backend.driver(prefix)
    sent = messages(20, body=b"x" * MEGABYTE, delay=60 if channel == "delayed" else 0)
    await (driver.delay(sent) if channel == "delayed" else driver.push(sent))
    if channel in ("failed", "reserved"):
        held = [each for _ in range(20) for each in await driver.pop(1, 0)]
        if channel == "failed":
            await driver.fail(pairs(held), "failed")
    elif gaps:
        for each in sent[5:10]:
            assert await driver.cancel(each.id)
        await driver.push([msgspec.structs.replace(each, delay=0) for each in sent[5:10]])
    order = [each.id for each in sent]
    if gaps and channel == "waiting":
        order = [*order[:5], *order[10:], *order[5:10]]
    elif gaps and channel == "delayed":
        order = [*order[:5], *order[10:]]
    shown: list[str] = []
    pages = 0
    cursor = None
    while pages == 0 or cursor is not None:
        page = await driver.peek(channel, 100, cursor=cursor)
        assert len(page.messages) <= 5
        shown += [each.id for each in page.messages]
        cursor = page.cursor
        pages += 1
    assert shown == order
    chosen = await driver.peek(channel, 100, ids=order)
    assert [each.id for each in chosen.messages] == order
    assert chosen.cursor is None


async def test_what_deletes_reads_only_what_it_must_and_little_at_once(make: Make, own_server: RedisServer) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}")

    async def reads(deleting: Awaitable[int], expected: int) -> tuple[int, int]:
        """Values read, and calls made, by a deletion."""
        before = calls(own_server, "hget", "hmget"), calls(own_server, "evalsha", "eval")
        assert await deleting == expected
        after = calls(own_server, "hget", "hmget"), calls(own_server, "evalsha", "eval")
        return after[0] - before[0], after[1] - before[1]

    sent = messages(20, body=b"x" * MEGABYTE)
    every = [each.id for each in sent]
    await driver.store(sent, "failed")
    assert (await reads(driver.forget("failed", every[:10]), 10))[0] == 0
    assert (await reads(driver.flush("failed"), 10))[0] == 0
    await driver.delay([msgspec.structs.replace(each, delay=60) for each in sent])
    assert (await reads(driver.forget("delayed", every[:10]), 10))[0] == 0
    assert (await reads(driver.flush("delayed"), 10))[0] == 0
    for forget in (True, False):
        await driver.push([msgspec.structs.replace(each, unique_key=each.id) for each in sent])
        deleting = driver.forget("waiting", every) if forget else driver.flush("waiting")
        assert (await reads(deleting, 20))[1] >= 5
        assert own_server.ask("EXISTS", "{q}:owners") == 0
    await driver.push(sent)
    assert (await reads(driver.forget("waiting", every[5:15]), 10))[1] >= 3
    assert (await reads(driver.flush("waiting"), 10))[1] >= 3
    assert await counts(driver) == {}


@pytest.mark.parametrize("verb", ["retry", "fail"])
async def test_what_is_settled_with_large_bodies_is_sent_in_parts_each_with_its_own_results(
    make: Make, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push(messages(12, body=b"x" * MEGABYTE))
    held = [each for _ in range(12) for each in await driver.pop(1, 0)]
    assert await driver.ack([held[1].receipt]) == [DONE]
    run, sent = driver._run, 0

    async def second_part_fails(script: scripts.Script, arguments: Sequence[Any], **options: Any) -> Any:
        nonlocal sent
        sent += 1
        assert sum(len(each) for each in arguments if isinstance(each, bytes)) <= ENOUGH + 1000
        if sent == 2:
            raise BackendUnavailable("gone")
        return await run(script, arguments, **options)

    monkeypatch.setattr(driver, "_run", second_part_fails)
    settle = driver.retry if verb == "retry" else partial(driver.fail, channel="failed")
    results = await settle(pairs(held))
    assert results[:3] == [DONE, STALE, DONE]
    assert all(isinstance(each, BackendUnavailable) for each in results[3:])
    assert len(results) == 12
    assert await settle(pairs(held[3:])) == [DONE] * 9
    assert sent == 5
    sent = 1
    with pytest.raises(BackendUnavailable):  # the first part: as if there were no others
        await settle(pairs(held))


async def shown(driver: Driver) -> list[str]:
    return [each.id for each in (await driver.peek("waiting", 9)).messages]


@pytest.mark.parametrize("pause", [0, 0.001, 0.003])
async def test_what_was_pushed_when_a_pop_had_just_given_up_is_seen_where_it_waits(
    backend: RedisBackend, prefix: str, pause: float
) -> None:
    driver = backend.driver(prefix)
    sent = message()
    looks: list[tuple[Callable[[], Awaitable[Any]], Any]] = [
        (lambda: counts(driver), {"waiting": 1}),
        (lambda: shown(driver), [sent.id]),
        (lambda: driver.flush("waiting"), 1),
        (lambda: driver.cancel(sent.id), True),
        (lambda: driver.forget("waiting", [sent.id]), 1),
    ]
    for look, expected in 5 * looks:
        assert await driver.pop(10, 0.01) == []
        await driver.push([sent])
        await asyncio.sleep(pause)
        assert await look() == expected
        await driver.flush("waiting")
