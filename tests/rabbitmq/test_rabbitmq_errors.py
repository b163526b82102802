"""What a backend says, and does, when the broker refuses, is short of memory, or cannot be reached."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from helpers_rabbitmq import Make, eventually, push_when_back, stored, take
from words import counts, ids, message, messages, receipts

from headrace.conformance.servers.process import TlsFiles, free_port
from headrace.conformance.servers.proxy import Proxy
from headrace.conformance.servers.rabbitmq import RabbitServer
from headrace.driver import Backend, Settled
from headrace.errors import BackendError, BackendUnavailable, ConfigError

#: Occurs in no message but those that give a secret away.
SECRET = "hunter2-ü@/:"

#: Seconds within which what cannot succeed is refused, and what gets no answer is given up.
SOON = 10.0


async def refusal(call: Awaitable[object]) -> str:
    """What is said, at once, of something that waiting does not mend; it has no secret."""
    began = time.monotonic()
    with pytest.raises(BackendError) as raised:
        await call
    assert not isinstance(raised.value, BackendUnavailable), raised.value
    assert time.monotonic() - began < SOON
    return clean(raised.value)


async def unavailable(call: Awaitable[object]) -> str:
    """What is said, within some seconds, of something that may work later; it has no secret."""
    began = time.monotonic()
    with pytest.raises(BackendUnavailable) as raised:
        await call
    assert time.monotonic() - began < SOON
    return clean(raised.value)


def clean(error: BaseException) -> str:
    """The text of an error, once nothing in it or its causes, written in any way, gives the secret away."""
    seen: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and each not in seen:
            assert "hunter2" not in f"{each} {each!r} {each.args!r}"
            seen.append(each)
            left += [each.__cause__, each.__context__]
    return str(error)


@pytest.fixture(scope="module")
def users(session_server: RabbitServer) -> Iterator[RabbitServer]:
    """The server with somebody who may do nothing, one who may not write, and a vhost that they have no part in."""
    session_server.add_user("nobody", SECRET, permissions=("^$", "^$", "^$"))
    session_server.add_user("reader", SECRET, permissions=(".*", "^$", ".*"))
    session_server.add_vhost("locked")
    yield session_server
    session_server.ctl("delete_vhost", "locked")
    for user in ("nobody", "reader"):
        session_server.ctl("delete_user", user)


async def test_a_wrong_user_password_or_vhost_is_told_at_once_and_without_the_password(
    make: Make, users: RabbitServer
) -> None:
    for user, password in (("stranger", SECRET), ("guest", SECRET)):
        said = await refusal(make(users.url_of(user, password)).open())
        assert "password" in said
        assert f"127.0.0.1:{users.port}" in said
    said = await refusal(make(users.url_of("nobody", SECRET, "nowhere")).open())
    assert "nowhere" in said
    said = await refusal(make(users.url_of("nobody", SECRET, "locked")).open())
    assert "locked" in said
    assert "permissions" in said


async def test_a_password_with_every_odd_character_is_understood(make: Make, users: RabbitServer) -> None:
    for backend in (
        make(users.url_of("reader", SECRET)),
        make(users.url, username="reader", password=SECRET),
    ):
        await backend.open()
        assert SECRET not in f"{backend.place} {backend!r} {backend.versions}"


async def test_missing_permissions_are_told_and_named(make: Make, users: RabbitServer) -> None:
    backend = make(users.url_of("nobody", SECRET))
    await backend.open()
    driver = backend.driver("{mail}")
    for call in (stored(driver.push(messages(1))), driver.pop(1, 1), driver.info()):
        said = await refusal(call)
        assert "permissions" in said
        assert "{mail}" in said
    await make(users.url).open()
    reader = make(users.url_of("reader", SECRET))
    await reader.open()
    said = await refusal(stored(reader.driver("{mail}").push(messages(1))))
    assert "permissions" in said


async def test_a_queue_with_other_arguments_is_told_with_both_and_the_way_out(make: Make, server: RabbitServer) -> None:
    await _declare(server, "mail", {"x-max-length": 10, "x-queue-type": "classic"})
    backend = make(server.url)
    await backend.open()
    driver = backend.driver("mail")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: stored(driver.push(messages(1))),
        lambda: driver.pop(1, 1),
        lambda: driver.pop(1, 0),
        lambda: driver.info(),
        lambda: stored(driver.delay(messages(1, delay=1))),
    ]
    for call in calls:
        said = await refusal(call())
        assert "'mail'" in said
        assert "inequivalent arg" in said  # the broker's words for one of its arguments
        assert "x-delivery-limit" in said  # ours
        assert "delete or rename it" in said
        assert "prefix" in said
    await backend.driver("post").push([message("a")])
    assert ids(await take(backend.driver("post"), 1)) == ["a"]
    assert server.queues()["mail"]["x-max-length"] == 10


async def test_a_level_with_other_arguments_is_told_and_harms_no_other_queue(make: Make, server: RabbitServer) -> None:
    await _declare(server, "mail.delay.03", {"x-queue-type": "quorum", "x-message-ttl": 17})
    backend = make(server.url)
    await backend.open()
    said = await refusal(stored(backend.driver("mail").delay(messages(1, delay=1))))
    assert "'mail.delay.03'" in said
    await backend.driver("mail").push([message("a")])
    await backend.driver("post").delay([message("b", delay=0.02)])
    assert ids(await take(backend.driver("mail"), 1)) == ["a"]
    assert ids(await take(backend.driver("post"), 1)) == ["b"]


async def _declare(server: RabbitServer, name: str, arguments: dict[str, Any]) -> None:
    async with await aio_pika.connect(server.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(name, durable=True, arguments=arguments)


async def test_tls_is_spoken_with_whom_one_trusts(make: Make, server: RabbitServer, tls_files: TlsFiles) -> None:
    for backend in (make(server.tls_url, tls_ca=tls_files.authority), make(server.tls_url, tls_verify=False)):
        await backend.open()
        driver = backend.driver("{mail}")
        await driver.push([message("a")])
        (held,) = await take(driver, 1)
        assert await driver.ack([held.receipt]) == [Settled.DONE]


async def test_tls_that_fails_is_told_at_once(
    make: Make, server: RabbitServer, tls_files: TlsFiles, tmp_path: Path
) -> None:
    assert "certificate" in await refusal(make(server.tls_url).open())
    plain_port = server.tls_url.replace(str(server.tls_port), str(server.port))
    assert "amqp instead of amqps" in await refusal(make(plain_port, tls_ca=tls_files.authority).open())
    tls_port = server.url.replace(str(server.port), str(server.tls_port))
    assert "amqps instead of amqp" in await refusal(make(tls_port).open())
    missing = replace(tls_files, authority=tmp_path / "none.pem")
    with pytest.raises(ConfigError, match=r"none\.pem"):
        await make(server.tls_url, tls_ca=missing.authority).open()


async def test_a_broker_that_is_not_there_is_out_of_reach_and_nothing_stays_open(make: Make) -> None:
    port = free_port()
    assert f"127.0.0.1:{port}" in await unavailable(make(f"amqp://user:hunter2@127.0.0.1:{port}/").open())


async def test_hosts_are_tried_in_turn(make: Make, server: RabbitServer) -> None:
    backend = make(f"amqp://127.0.0.1:{free_port()},127.0.0.1:{server.port}/")
    await backend.open()
    await backend.driver("{mail}").push([message("a")])
    assert ids(await take(backend.driver("{mail}"), 1)) == ["a"]


async def test_something_that_speaks_another_protocol_is_given_up(make: Make) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read(8)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(BackendError, match=str(port)):
            await make(f"amqp://127.0.0.1:{port}/").open()


async def test_a_broker_short_of_memory_refuses_pushes_and_is_drained(make: Make, server: RabbitServer) -> None:
    backend = make(server.url, timeout_seconds=1)
    await backend.open()
    driver = backend.driver("{mail}")
    sent = messages(20)
    await driver.push(sent)
    held = await take(driver, 5)
    await asyncio.to_thread(server.raise_alarm)
    for call in (driver.push(messages(1)), driver.delay(messages(1, delay=1)), driver.push(messages(300))):
        await unavailable(stored(call))
    assert await driver.ack(receipts(held)) == [Settled.DONE] * 5
    rest = await take(driver, 10)
    assert len(rest) == 10
    assert await driver.ack(receipts(rest)) == [Settled.DONE] * 10
    await asyncio.to_thread(server.lift_alarm)
    await push_when_back(driver, [message("afterwards")])
    seen = set(ids([*held, *rest]))
    while not seen >= {"afterwards", *(each.id for each in sent)}:  # and some of what it refused it may have stored
        (another,) = await take(driver, 1)
        seen.add(another.message.id)


async def test_a_paused_broker_ends_each_call_and_is_used_again_when_it_goes_on(
    make: Make, server: RabbitServer
) -> None:
    backend = make(server.url, timeout_seconds=0.5, heartbeat=1)
    await backend.open()
    driver = backend.driver("{mail}")
    await driver.push(messages(5))
    held = await take(driver, 2)
    server.pause()
    await asyncio.wait_for(driver.ack(receipts(held)), SOON)  # has no answer, so it cannot know
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: stored(driver.push(messages(1))),
        lambda: driver.info(),
        lambda: backend.driver("{other}").pop(1, 0),
        lambda: driver.destroy(),
    ]
    for call in calls:
        await unavailable(call())
    server.resume()
    await push_when_back(backend.driver("{another}"), [message("a")])
    assert ids(await take(backend.driver("{another}"), 1)) == ["a"]


async def test_a_black_hole_ends_each_call_and_a_healed_network_is_used_again(
    make: Make, server: RabbitServer, proxy: Proxy
) -> None:
    backend = make(f"amqp://127.0.0.1:{proxy.port}/", timeout_seconds=0.5, heartbeat=1)
    await backend.open()
    driver = backend.driver("{mail}")
    await driver.push(messages(3))
    proxy.black_hole()
    await unavailable(driver.push(messages(1)))  # told of the call, as nothing is known of any message
    await unavailable(driver.pop(1, 0))
    proxy.heal()
    proxy.cut()
    await push_when_back(driver, [message("a")])
    assert "a" in ids(await take(driver, 5))  # with one that was refused and is stored all the same


async def test_a_waiting_pop_notices_a_connection_that_broke_in_silence(
    make: Make, server: RabbitServer, proxy: Proxy
) -> None:
    backend = make(f"amqp://127.0.0.1:{proxy.port}/", timeout_seconds=0.5, heartbeat=1)
    await backend.open()
    driver = backend.driver("{mail}")
    assert await driver.pop(1, 0.2) == []
    taking = asyncio.create_task(take(driver, 1))
    await asyncio.sleep(0.2)
    proxy.black_hole()
    await asyncio.sleep(3)
    proxy.heal()
    healthy = make(server.url)
    await healthy.open()
    await healthy.driver("{mail}").push([message("a")])
    assert ids(await taking) == ["a"]


async def test_every_connection_may_break_at_any_time(make: Make, server: RabbitServer) -> None:
    backend = make(server.url)
    await backend.open()
    driver = backend.driver("{mail}")
    for end in (server.disconnect, server.close_connections, server.close_channels, server.restart):
        await asyncio.to_thread(end)
        await push_when_back(driver, [message(end.__name__)])
        (held,) = await take(driver, 1)
        assert held.message.id == end.__name__
        assert await driver.ack([held.receipt]) == [Settled.DONE]


async def test_who_looks_is_told_of_versions_and_of_nothing_else(backend: Backend) -> None:
    assert await backend.check() == ()
    assert backend.versions["server"].startswith("rabbitmq ")
    assert {"aiormq", "pamqp"} < set(backend.versions)


async def test_the_management_plugin_tells_what_is_reserved_how_queues_were_declared_and_of_alarms(make: Make) -> None:
    with RabbitServer(management=True) as server:
        backend = make(server.url, management_url=server.management_url)
        await backend.open()
        driver = backend.driver("{mail}")
        await driver.push(messages(7))
        held = await take(driver, 3)

        async def reserved() -> int | None:
            return (await driver.info()).reserved

        async def is_short_of_memory() -> bool:
            return any("short of memory" in each for each in await backend.check())

        await eventually(reserved, 3)
        await driver.ack(receipts(held))
        await eventually(reserved, 0)
        await _declare(server, "post", {"x-queue-type": "classic", "x-max-length": 10})
        said = await refusal(stored(backend.driver("post").push(messages(1))))
        assert "x-max-length" in said  # theirs
        assert "x-delivery-limit" in said  # ours
        assert await backend.check() == []
        await asyncio.to_thread(server.raise_alarm)
        await eventually(is_short_of_memory, True)
        await asyncio.to_thread(server.lift_alarm)
        await eventually(is_short_of_memory, False)
        wrong = make(server.url, management_url=f"http://guest:{'hunter2'}@127.0.0.1:{server.management_port}")
        await wrong.open()
        assert (await wrong.driver("{mail}").info()).reserved is None
        (said,) = await wrong.check()
        assert "does not answer" in said
        assert "hunter2" not in said
        await wrong.close()
        await backend.close()


async def test_a_consumer_that_the_broker_lost_without_a_word_is_replaced(make: Make) -> None:
    """One of its own, as what the broker does for all queues of a node may not survive this."""
    with RabbitServer() as server:
        worker, producer = make(server.url), make(server.url)
        await worker.open()
        driver = worker.driver("{mail}")
        await driver.push([message("a")])
        (held,) = await take(driver, 1)
        waiting = asyncio.create_task(driver.pop(5, 60))  # has the consumer go on
        await asyncio.sleep(0.5)
        server.evaluate(
            '{ok, Queue} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{mail}">>)), '
            "{Name, _} = amqqueue:get_pid(Queue), "
            "ra:stop_server(quorum_queues, {Name, node()}), "
            'rabbit_amqqueue:delete(Queue, false, false, <<"operator">>)'
        )
        await producer.open()
        await producer.driver("{mail}").push([message("b")])
        at_once = await driver.pop(5, 0)
        if not at_once:
            at_once = await asyncio.wait_for(waiting, 5)
        assert ids(at_once) == ["b"]
        assert list(await driver.ack(receipts(at_once))) == [Settled.DONE]
        await eventually(lambda: counts(driver), {})
        assert list(await driver.ack([held.receipt])) == [Settled.DONE]  # what is held of others need not end
        waiting.cancel()
        await asyncio.wait([waiting])
        for backend in (worker, producer):
            await backend.close()
