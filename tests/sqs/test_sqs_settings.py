"""The options of a ``[backends.NAME]`` table, and what is told of a place."""

from pathlib import Path
from typing import Any

import pytest

from headrace.config import Config
from headrace.driver import Backend
from headrace.errors import ConfigError
from headrace.registry import Registry


def build(**options: Any) -> Backend:
    config = Config.from_mapping({"backends": {"sqs": options}}, root=Path(), environ={})
    return Registry().build(config.backend_options("sqs"))


def test_no_option_is_needed() -> None:
    assert build().place == "the region that boto3 finds"
    assert build(region="eu-central-1").place == "eu-central-1"
    assert build(endpoint_url="http://127.0.0.1:4566").place == "http://127.0.0.1:4566"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"regoin": "eu-central-1"}, "region"),
        ({"queue_name_prefix": "shop."}, "queue_name_prefix"),
        ({"queue_name_prefix": "x" * 41}, "queue_name_prefix"),
        ({"receivers": 0}, "receivers"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"endpoint_url": "localhost:4566"}, "must be like https://host"),
        ({"endpoint_url": "ftp://localhost"}, "must be like https://host"),
        ({"endpoint_url": "http://localhost:99999"}, "must be like https://host"),
        ({"access_key": "AKIA"}, "access_key"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(**options)


def test_credentials_in_an_endpoint_are_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="must not hold credentials") as raised:
        build(endpoint_url="http://user:hunter2@localhost")
    assert "hunter2" not in str(raised.value)


def test_what_sqs_cannot_do_is_not_claimed() -> None:
    claimed = build().capabilities
    assert not (claimed.ordered or claimed.unique or claimed.idempotent or claimed.cancel or claimed.wait_ready)
    assert claimed.peek == claimed.selective == {"failed", "timeout"}
    assert "delayed" not in claimed.flush
    assert claimed.max_run == 12 * 3600
    assert claimed.granularity == 1
