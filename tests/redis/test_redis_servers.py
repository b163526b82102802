"""Where the tests' servers come from, and what is said when there are none to be had."""

from pathlib import Path

import pytest

from headrace.conformance.servers.process import ServerNotFound
from headrace.conformance.servers.redis import PROGRAM, RedisServer


def test_without_a_server_the_error_says_in_one_line_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(PROGRAM, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerNotFound) as raised:
        RedisServer()
    for way in ("redis-server, valkey-server", "package redis-server", PROGRAM, "docker or podman"):
        assert way in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_program_that_is_named_and_not_there_is_not_replaced_by_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(PROGRAM, str(tmp_path / "missing"))
    with pytest.raises(ServerNotFound, match=f"{PROGRAM} is .*missing, where there is no file"):
        RedisServer()
