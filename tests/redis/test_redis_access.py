"""Who is let in: passwords, users of the server's access list, and the socket of this machine."""

import traceback
from collections.abc import Callable

import pytest
from words import ids, message

from headrace.conformance.servers.process import free_port
from headrace.conformance.servers.redis import RedisSentinels, RedisServer
from headrace.errors import BackendError, BackendUnavailable
from headrace_redis.backend import RedisBackend

Make = Callable[..., RedisBackend]


async def test_a_password_is_asked_for_and_used(make: Make) -> None:
    with RedisServer(requirepass="sesame") as server:
        backend = make(server.url)
        with pytest.raises(BackendError, match="asks for a password") as raised:
            await backend.open()
        assert not isinstance(raised.value, BackendUnavailable)
        backend = make(server.url, password="open-says-me")
        with pytest.raises(BackendError, match="does not know this username and password") as raised:
            await backend.open()
        assert "open-says-me" not in str(raised.value)
        for url, password in ((server.url, "sesame"), (server.url.replace("//", "//:sesame@"), None)):
            backend = make(url, password=password)
            await backend.open()
            assert await backend.driver("{q}").pop(1, 0) == []


async def test_a_user_of_the_access_list_is_let_in_wherever_its_name_and_password_stand(make: Make) -> None:
    with RedisServer(unixsocket="redis.sock") as server:  # in its folder
        server.ask("ACL", "SETUSER", "worker", "on", ">open sesame", "~{q}:*", "+@all", "-@admin")
        server.ask("ACL", "SETUSER", "default", "off")
        address, socket = server.url.partition("//")[2], f"{server.folder}/redis.sock"
        for url, options in (
            (f"redis://worker:open%20sesame@{address}", {}),
            (f"redis://{address}", {"username": "worker", "password": "open sesame"}),
            (f"unix://worker:open%20sesame@{socket}", {}),
            (f"unix://{socket}", {"username": "worker", "password": "open sesame"}),
        ):
            backend = make(url, **options)
            await backend.open()
            await backend.driver("{q}").push([message("a")])
            (held,) = await backend.driver("{q}").pop(1, 1)
            await backend.driver("{q}").ack([held.receipt])
            assert await backend.check() == []  # what it may not ask it cannot warn of
            assert "sesame" not in f"{backend.place} {backend!r} {vars(backend)}"


async def test_no_password_shows_in_what_is_raised_of_it(make: Make) -> None:
    secret = "sesame".upper()  # so that no line of this file shows it in a traceback
    with RedisServer(unixsocket="redis.sock") as server:
        server.ask("ACL", "SETUSER", "worker", "on", ">other", "~*", "+@all")
        hosts = f"worker:{secret}@127.0.0.1:{server.port}"
        for url in (
            f"redis://{hosts}",
            f"unix://worker:{secret}@{server.folder}/redis.sock",
            f"redis+sentinel://{hosts}/service",
            f"redis+cluster://{hosts}",
            f"redis://worker:{secret}@127.0.0.1:{free_port()}",
        ):
            with pytest.raises(BackendError) as raised:
                await make(url, sentinel_password=secret).open()
            assert secret not in "".join(traceback.format_exception(raised.value))


async def test_sentinels_are_asked_in_the_name_that_is_theirs(make: Make) -> None:
    with RedisSentinels(replicas=0) as sentinels:
        for each in sentinels.sentinels:
            each.ask("ACL", "SETUSER", "asker", "on", ">sesame", "+@all")
            each.ask("ACL", "SETUSER", "default", "off")
        backend = make(sentinels.url, sentinel_username="asker", sentinel_password="sesame")
        await backend.open()
        assert await backend.driver("{q}").pop(1, 0) == []
        with pytest.raises(BackendError, match="no Sentinel that answers"):
            await make(sentinels.url).open()


async def test_a_user_without_rights_gets_an_error_that_names_them(make: Make, own_server: RedisServer) -> None:
    own_server.ask("ACL", "SETUSER", "worker", "on", ">pass", "~{q}:*", "+@all", "-evalsha", "-eval")
    backend = make(own_server.url, username="worker", password="pass")
    await backend.open()
    with pytest.raises(BackendError, match="forbids") as raised:
        await backend.driver("{q}").pop(1, 0)
    assert not isinstance(raised.value, BackendUnavailable)


async def test_a_socket_of_this_machine_is_spoken_to(make: Make) -> None:
    with RedisServer(unixsocket="redis.sock") as server:  # in its folder
        backend = make(f"unix://{server.folder}/redis.sock?db=1")
        await backend.open()
        await backend.driver("{q}").push([message("a")])
        assert ids(await backend.driver("{q}").pop(1, 1)) == ["a"]
        assert server.info("keyspace").keys() == {"db1"}
