"""What the options mean, which are refused, and that no secret shows."""

from pathlib import Path

import pytest

from headrace.config import Config
from headrace.errors import ConfigError
from headrace.registry import Registry
from headrace_redis.connections.place import parse


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis at localhost:6379, database 0"),
        ("redis://", "redis at 127.0.0.1:6379, database 0"),
        ("rediss://u:p@redis.example:7000/3", "redis at redis.example:7000, database 3"),
        ("redis://[::1]:7000", "redis at [::1]:7000, database 0"),
        ("unix:///run/redis.sock?db=2", "redis at /run/redis.sock, database 2"),
        ("redis+sentinel://:p@one,two:7/mail/1", "redis at 'mail' of the sentinels one:26379, two:7, database 1"),
        ("redis+cluster://u:p@one,two:7", "redis at the cluster of one:6379, two:7"),
        ("rediss+cluster://one", "redis at the cluster of one:6379"),
    ],
)
def test_a_url_says_where_the_server_is(url: str, shown: str) -> None:
    assert str(parse(url)) == shown


def test_names_and_passwords_are_unquoted() -> None:
    place = parse("redis://us%40er:p%2Fss%3A@host")
    assert (place.username, place.password) == ("us@er", "p/ss:")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis+proxy://localhost",
        "redis://one,two",
        "redis://host/one",
        "redis://host/1/2",
        "redis://host:99999",
        "redis://host:port",
        "redis://host?db=1",
        "redis://user:sec/ret@host",
        "redis+sentinel://host",
        "redis+sentinel://host/",
        "redis+cluster://host/1",
        "unix://run/redis.sock?timeout=3",
        "unix://",
    ],
)
def test_a_url_that_means_nothing_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse(url)
    assert "sec" not in str(refused.value)


def test_a_wrong_url_is_an_error_of_the_configuration_that_names_the_option(tmp_path: Path) -> None:
    config = Config.from_mapping({"backends": {"redis": {"url": "redis://:hunter2@host/a"}}}, root=tmp_path, environ={})
    with pytest.raises(ConfigError, match=r"backends\.redis\.url") as refused:
        Registry().build(config.backend_options("redis"))
    assert "hunter2" not in str(refused.value)


def test_no_secret_shows_in_what_a_backend_says_of_itself(tmp_path: Path) -> None:
    options = {"url": "redis://user:hunter2@host", "password": "hunter3"}
    config = Config.from_mapping({"backends": {"redis": options}}, root=tmp_path, environ={})
    backend = Registry().build(config.backend_options("redis"))
    assert "hunter" not in f"{backend.place} {backend!r} {vars(backend)}"
