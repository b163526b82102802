"""TLS: each kind of place, our own certificate, and what is said at once when the two sides do not agree."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from words import ids, message

from headrace.config import Config
from headrace.conformance.servers.process import TlsFiles
from headrace.conformance.servers.redis import RedisCluster, RedisSentinels, RedisServer
from headrace.errors import BackendError, BackendUnavailable, ConfigError
from headrace.registry import Registry
from headrace_redis.backend import RedisBackend

Make = Callable[..., RedisBackend]


class Authority:
    """One that signs certificates, and the files that they are in."""

    def __init__(self, folder: Path) -> None:
        self._signs = trustme.CA()
        self._folder = folder
        self.file = folder / "authority.pem"
        self._signs.cert_pem.write_to_path(str(self.file))

    def sign(self, name: str, *identities: str) -> TlsFiles:
        made = self._signs.issue_cert(*identities)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        made.cert_chain_pems[0].write_to_path(str(certificate))
        made.private_key_pem.write_to_path(str(key))
        return TlsFiles(certificate, key, self.file)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority, which the server knows nothing of."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> TlsFiles:
    return authority.sign("server", "127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def secured(files: TlsFiles) -> Iterator[RedisServer]:
    with RedisServer(tls=files) as server:
        yield server


async def works(backend: RedisBackend) -> bool:
    await backend.open()
    driver = backend.driver("{q}")
    await driver.push([message("a")])
    (held,) = await driver.pop(1, 1)
    await driver.ack([held.receipt])
    return ids([held]) == ["a"] and await driver.pop(1, 0.1) == []


async def test_a_server_is_spoken_to_in_tls(make: Make, secured: RedisServer, authority: Authority) -> None:
    assert secured.url.startswith("rediss://")
    assert await works(make(secured.url, tls_ca=authority.file))


async def test_sentinels_and_their_servers_are_spoken_to_in_tls(
    make: Make, files: TlsFiles, authority: Authority
) -> None:
    with RedisSentinels(replicas=1, tls=files) as sentinels:
        assert sentinels.url.startswith("rediss+sentinel://")
        assert await works(make(sentinels.url, tls_ca=authority.file, wait_replicas=1))


async def test_the_nodes_of_a_cluster_are_spoken_to_in_tls(make: Make, files: TlsFiles, authority: Authority) -> None:
    with RedisCluster(tls=files) as cluster:
        assert cluster.url.startswith("rediss+cluster://")
        assert await works(make(cluster.url, tls_ca=authority.file))


async def test_a_server_that_asks_for_our_certificate_is_shown_it(
    make: Make, files: TlsFiles, authority: Authority, stranger: Authority
) -> None:
    ours, another = authority.sign("ours", "headrace"), stranger.sign("another", "headrace")
    with RedisServer(tls=files, tls_auth_clients="yes") as server:
        known = {"tls_ca": authority.file, "tls_certificate": ours.certificate, "tls_key": ours.key}
        assert await works(make(server.url, **known))
        unknown = {"tls_ca": authority.file, "tls_certificate": another.certificate, "tls_key": another.key}
        for options, reason in (({"tls_ca": authority.file}, "CERTIFICATE_REQUIRED"), (unknown, "UNKNOWN_CA")):
            with pytest.raises(BackendError, match=rf"{reason}.*look at tls_certificate and tls_key") as raised:
                await make(server.url, **options).open()
            assert not isinstance(raised.value, BackendUnavailable)


@pytest.mark.parametrize("scheme", ["rediss://{}", "rediss+sentinel://{}/service", "rediss+cluster://{}"])
async def test_a_certificate_that_is_not_trusted_is_an_error_at_once(
    make: Make, secured: RedisServer, stranger: Authority, scheme: str
) -> None:
    url = scheme.format(f"127.0.0.1:{secured.front_port}")
    for options in ({}, {"tls_ca": stranger.file}):
        began = time.monotonic()
        with pytest.raises(BackendError, match=r"certificate that is not trusted here .* set tls_ca") as raised:
            await make(url, **options).open()
        assert not isinstance(raised.value, BackendUnavailable)
        assert time.monotonic() - began < 5


async def test_a_certificate_for_another_name_is_not_trusted_unless_none_is_looked_at(
    make: Make, authority: Authority
) -> None:
    with RedisServer(tls=authority.sign("elsewhere", "elsewhere.example")) as server:
        with pytest.raises(BackendError, match=r"not trusted here .*not valid for '127.0.0.1'"):
            await make(server.url, tls_ca=authority.file).open()
        assert await works(make(server.url, tls_verify=False))


@pytest.mark.parametrize("kind", ["{}://{}", "{}+sentinel://{}/service", "{}+cluster://{}"])
async def test_clear_text_to_a_server_that_speaks_tls_is_an_error_at_once_and_the_other_way_round(
    make: Make, secured: RedisServer, authority: Authority, kind: str
) -> None:
    for scheme, port, told in (
        ("redis", secured.front_port, "speaks TLS: the url must begin with rediss"),
        ("rediss", secured.port, "does not speak TLS: the url must begin with redis"),
    ):
        options: dict[str, Any] = {"tls_ca": authority.file} if scheme == "rediss" else {}
        backend = make(kind.format(scheme, f"127.0.0.1:{port}"), timeout_seconds=2, **options)
        began = time.monotonic()
        with pytest.raises(BackendError, match=told) as raised:
            await backend.open()
        assert not isinstance(raised.value, BackendUnavailable)
        assert time.monotonic() - began < 10


async def test_a_file_that_cannot_be_used_is_named(make: Make, secured: RedisServer, files: TlsFiles) -> None:
    missing = files.key.with_name("missing.pem")
    for told, options in {
        r"tls_ca is .*missing\.pem.*no such file": {"tls_ca": missing},
        r"tls_ca is .*server\.key, which cannot be used": {"tls_ca": files.key},
        r"tls_certificate is .*no such file": {"tls_certificate": missing, "tls_key": files.key},
        r"tls_key is .*missing\.pem.*no such file": {"tls_certificate": files.certificate, "tls_key": missing},
        r"tls_key is .*server\.pem, which cannot be used": {
            "tls_certificate": files.certificate,
            "tls_key": files.certificate,
        },
    }.items():
        with pytest.raises(ConfigError, match=told):
            await make(secured.url, **options).open()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"url": "redis://host", "tls_ca": "ca.pem"}, r"backends\.redis\.tls_ca.*begins with rediss"),
        ({"url": "unix:///run/redis.sock", "tls_certificate": "c.pem"}, r"tls_certificate.*begins with rediss"),
        ({"url": "rediss://host", "tls_key": "k.pem"}, r"tls_key.*tls_certificate, which is not set"),
    ],
)
def test_an_option_that_would_be_of_no_use_is_refused(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    config = Config.from_mapping({"backends": {"redis": options}}, root=tmp_path, environ={})
    with pytest.raises(ConfigError, match=told):
        Registry().build(config.backend_options("redis"))
