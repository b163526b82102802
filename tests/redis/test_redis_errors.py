"""What a driver says, and does, when the server refuses, vanishes or changes its place."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from redis import exceptions
from words import counts, ids, message, messages, receipts

from headrace.conformance.servers.process import free_port
from headrace.conformance.servers.proxy import Proxy
from headrace.conformance.servers.redis import RedisCluster, RedisSentinels, RedisServer
from headrace.driver import Driver
from headrace.errors import BackendError, BackendUnavailable, ConfigError
from headrace_redis.backend import RedisBackend
from headrace_redis.errors import is_cut, is_passing, translate

Make = Callable[..., RedisBackend]


@pytest.mark.parametrize(
    ("error", "kind", "passing"),
    [
        (exceptions.ReadOnlyError("You can't write"), BackendUnavailable, True),
        (exceptions.BusyLoadingError("loading"), BackendUnavailable, True),
        (exceptions.MovedError("1 127.0.0.1:1"), BackendUnavailable, True),
        (exceptions.AskError("1 127.0.0.1:1"), BackendUnavailable, True),
        (exceptions.TryAgainError("multiple keys"), BackendUnavailable, True),
        (exceptions.ClusterDownError("down"), BackendUnavailable, True),
        (exceptions.MasterDownError("down"), BackendUnavailable, True),
        (exceptions.ResponseError("BUSY Redis is busy"), BackendUnavailable, True),
        (exceptions.ResponseError("UNBLOCKED force"), BackendUnavailable, True),
        (exceptions.ResponseError("MISCONF no disk"), BackendUnavailable, False),
        (exceptions.ResponseError("NOREPLICAS too few"), BackendUnavailable, False),
        (exceptions.OutOfMemoryError("command not allowed"), BackendUnavailable, False),
        (exceptions.ConnectionError("reset"), BackendUnavailable, False),
        (exceptions.TimeoutError("slow"), BackendUnavailable, False),
        (TimeoutError(), BackendUnavailable, False),
        (ConnectionResetError(), BackendUnavailable, False),
        (exceptions.AuthenticationError("invalid username-password pair"), BackendError, False),
        (exceptions.NoPermissionError("no"), BackendError, False),
        (exceptions.ResponseError("WRONGTYPE Operation"), BackendError, False),
        (exceptions.ResponseError("ERR something"), BackendError, False),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_each_error_becomes_one_of_ours(error: Exception, kind: type[BackendError], passing: bool) -> None:
    assert type(translate(error, "a place")) is kind
    assert is_passing(error) == passing
    assert not (is_passing(error) and is_cut(error))


async def test_a_server_that_is_not_there_is_out_of_reach_and_nothing_stays_open(make: Make) -> None:
    port = free_port()
    backend = make(f"redis://user:hunter2@127.0.0.1:{port}/0")
    with pytest.raises(BackendUnavailable, match=f"127.0.0.1:{port}") as raised:
        await backend.open()
    assert "hunter2" not in f"{raised.value} {raised.value.__cause__}"


@pytest.mark.parametrize("scheme", ["redis+sentinel://127.0.0.1:{port}/service", "redis+cluster://127.0.0.1:{port}"])
async def test_sentinels_or_a_cluster_that_are_not_there_are_out_of_reach(make: Make, scheme: str) -> None:
    backend = make(scheme.format(port=free_port()))
    with pytest.raises(BackendUnavailable):
        await backend.open()


async def test_keys_of_another_kind_are_left_alone(make: Make, own_server: RedisServer) -> None:
    own_server.ask("SET", "{q}:messages", "mine")
    backend = make(own_server.url)
    await backend.open()
    with pytest.raises(BackendError, match="change the queue's prefix"):
        await backend.driver("{q}").push(messages(1))
    assert own_server.ask("GET", "{q}:messages") == "mine"


async def test_a_cluster_is_not_taken_for_a_single_server(make: Make, cluster: RedisCluster) -> None:
    backend = make(cluster.servers[0].url)
    with pytest.raises(BackendError, match=r"redis\+cluster://"):
        await backend.open()


async def test_a_prefix_without_braces_is_refused_on_a_cluster(make: Make, cluster: RedisCluster) -> None:
    backend = make(cluster.url)
    await backend.open()
    for prefix in ("mail", "{}mail", "mail{", "}{"):
        with pytest.raises(ConfigError, match=r"prefix = '\{.*\}'"):
            backend.driver(prefix)
    assert await backend.driver("shop:{mail}").pop(1, 0) == []


async def test_two_queues_of_a_cluster_live_on_different_nodes(make: Make, cluster: RedisCluster) -> None:
    backend = make(cluster.url)
    await backend.open()
    prefixes = [f"{{queue {number}}}" for number in range(12)]
    assert len({cluster.owner(prefix).port for prefix in prefixes}) == 3
    for prefix in prefixes:
        await backend.driver(prefix).push([message(prefix)])
    for prefix in prefixes:
        assert ids(await backend.driver(prefix).pop(1, 0)) == [prefix]


async def test_a_busy_server_is_waited_for_a_little_and_then_reported(make: Make, own_server: RedisServer) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push(messages(1))
    own_server.ask("CONFIG", "SET", "busy-reply-threshold", "50")
    spinning = asyncio.create_task(asyncio.to_thread(_spin, own_server))
    await asyncio.sleep(0.3)
    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match="BUSY"):
        await driver.info()
    assert time.monotonic() - began < 8
    own_server.ask("SCRIPT", "KILL")
    await spinning
    assert await counts(driver) == {"waiting": 1}


def _spin(server: RedisServer) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        server.ask("EVAL", "while true do end", 0)


async def test_a_demoted_server_is_reported_as_a_replica_and_used_again_afterwards(
    make: Make, own_server: RedisServer
) -> None:
    backend = make(own_server.url)
    await backend.open()
    driver = backend.driver("{q}")
    popping = asyncio.create_task(driver.pop(1, 10))
    await asyncio.sleep(0.2)
    own_server.ask("REPLICAOF", "127.0.0.1", free_port())
    with pytest.raises(BackendUnavailable):
        await popping
    with pytest.raises(BackendUnavailable, match="replica"):
        await driver.push(messages(1))
    own_server.ask("REPLICAOF", "NO", "ONE")
    await driver.push([message("a")])
    assert ids(await driver.pop(1, 0)) == ["a"]


async def test_a_paused_server_ends_each_call_and_is_used_again_when_it_goes_on(
    make: Make, own_server: RedisServer
) -> None:
    backend = make(own_server.url, timeout_seconds=0.5)
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push(messages(5))
    held = await driver.pop(2, 0)
    waiting = asyncio.create_task(backend.driver("{other}").pop(1, 1))
    await asyncio.sleep(0.2)
    own_server.pause()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: driver.push(messages(1)),
        lambda: driver.pop(1, 1),
        lambda: driver.ack(receipts(held)),
        lambda: driver.info(),
        lambda: driver.destroy(),
    ]
    for call in calls:
        began = time.monotonic()
        with pytest.raises(BackendUnavailable):
            await call()
        assert time.monotonic() - began < 6
    await asyncio.wait((waiting,))
    own_server.resume()
    await asyncio.sleep(0.1)  # what had been sent, it now reads
    await backend.driver("{another}").push([message("a")])
    assert ids(await backend.driver("{another}").pop(1, 0)) == ["a"]


async def test_calls_work_at_once_when_a_server_or_a_node_is_back(make: Make, own_server: RedisServer) -> None:
    with RedisCluster(append_only=True) as cluster:
        for url, server in ((own_server.url, own_server), (cluster.url, cluster.owner("{q}"))):
            backend = make(url)
            await backend.open()
            driver = backend.driver("{q}")
            for _ in range(3):
                await driver.push(messages(3))
                (first, *_rest) = await driver.pop(2, 0)
                await asyncio.to_thread(server.restart)
                for each in cluster.servers:
                    while "cluster_state:ok" not in str(each.ask("CLUSTER", "INFO")):
                        await asyncio.sleep(0.05)
                assert len(await driver.pop(10, 0)) >= 1
                await driver.ack([first.receipt])


async def test_a_black_hole_ends_each_call_and_a_healed_network_is_used_at_once(
    make: Make, own_server: RedisServer, proxy: Proxy
) -> None:
    backend = make(f"redis://127.0.0.1:{proxy.port}/0", timeout_seconds=0.5)
    await backend.open()
    driver = backend.driver("{q}")
    await asyncio.gather(*(driver.info() for _ in range(5)))
    waiting = asyncio.create_task(driver.pop(1, 2))
    await asyncio.sleep(0.2)
    proxy.black_hole()
    began = time.monotonic()
    assert await waiting == []
    with pytest.raises(BackendUnavailable):
        await driver.pop(1, 0)
    assert time.monotonic() - began < 8
    proxy.heal()
    proxy.cut()
    await driver.push([message("a")])
    assert ids(await driver.pop(1, 1)) == ["a"]


async def test_replicas_confirm_a_push_or_it_is_reported(make: Make, own_server: RedisServer) -> None:
    backend = make(own_server.url, wait_replicas=1, timeout_seconds=2)
    await backend.open()
    driver = backend.driver("{q}")
    sent = message()
    with pytest.raises(BackendUnavailable, match="0 of 1 replicas"):
        await driver.push([sent])
    assert await counts(driver) == {"waiting": 1}
    with RedisServer(replicaof=f"127.0.0.1 {own_server.port}") as replica:
        while replica.info("replication").get("master_link_status") != "up":
            await asyncio.sleep(0.05)
        await _push_when_confirmed(driver, sent.id)
        assert await counts(driver) == {"waiting": 1}


async def _push_when_confirmed(driver: Driver, id_: str) -> None:
    """A new replica counts as one some moments after its link is up."""
    while True:
        try:
            await driver.push([message(id_)])
            return
        except BackendUnavailable:
            await asyncio.sleep(0.1)


async def test_a_push_on_a_cluster_is_confirmed_on_the_connection_that_made_it(make: Make) -> None:
    with RedisCluster(masters=1) as cluster:
        backend = make(cluster.url, wait_replicas=1, timeout_seconds=2)
        await backend.open()
        with pytest.raises(BackendUnavailable, match="0 of 1 replicas"):
            await backend.driver("{q}").push(messages(1))
        assert await counts(backend.driver("{q}")) == {"waiting": 1}


async def test_the_check_warns_of_what_loses_messages(make: Make, own_server: RedisServer) -> None:
    backend = make(own_server.url)
    await backend.open()
    assert await backend.check() == []
    own_server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    own_server.ask("CONFIG", "SET", "appendonly", "no")
    eviction, disk = await backend.check()
    assert "allkeys-lru" in eviction
    assert "noeviction" in eviction
    assert "keeps nothing on disk" in disk
    own_server.ask("CONFIG", "SET", "save", "3600 1")
    assert "saves to disk only now and then" in (await backend.check())[1]


async def test_a_check_looks_at_every_node(make: Make, cluster: RedisCluster, sentinels: RedisSentinels) -> None:
    for url in (cluster.url, sentinels.url):
        backend = make(url)
        await backend.open()
        (disk,) = await backend.check()
        assert "keeps nothing on disk" in disk
        assert backend.versions["server"].partition(" ")[0] in ("redis", "valkey")


async def test_more_calls_than_connections_take_turns(make: Make, own_server: RedisServer) -> None:
    backend = make(own_server.url, max_connections=2)
    await backend.open()
    driver = backend.driver("{q}")
    await asyncio.gather(*(driver.push(messages(1)) for _ in range(200)))
    assert await counts(driver) == {"waiting": 200}
    assert int(own_server.info("clients")["connected_clients"]) <= 3
