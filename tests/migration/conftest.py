"""Brokers for these tests: each is started once, when first needed, and nobody else uses it."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.conformance.servers.moto import ENVIRONMENT, MotoServer
from headrace.conformance.servers.rabbitmq import RabbitServer
from headrace.conformance.servers.redis import RedisServer


@pytest.fixture(scope="module")
def redis() -> Iterator[dict[str, Any]]:
    """The options of a backend, as for the others."""
    with RedisServer() as server:
        yield {"url": server.url}


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[dict[str, Any]]:
    with RabbitServer() as server:
        yield {"url": server.url}


@pytest.fixture(scope="module")
def sqs() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch, MotoServer() as server:
        for name, value in {**ENVIRONMENT, "AWS_CONFIG_FILE": os.devnull}.items():
            patch.setenv(name, value)
        # An emulator may take long to answer on a machine that is busy with others.
        yield {"endpoint_url": server.url, "timeout_seconds": 20}
