"""All that reads bytes of others, each as a function of bytes: it returns, or an assertion or an error tells.

What a backend gives back is read as a message, be it one that names no job. What a person or a program wrote into a
file is read, or refused by the one error that is meant for that.
"""

import asyncio
import contextlib
import math
import sqlite3
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from headrace import Headrace, Job
from headrace.codec import JobCodec
from headrace.config import Config
from headrace.driver import Backend, Message, Note
from headrace.errors import BackendError, ConfigError, InvalidPayload, InvalidSignature, UnknownJob
from headrace.plans import JobPlan, Plans
from headrace.queue import OPTIONS_HEADER
from headrace.signing import SIGNATURE_HEADER, Signer
from headrace.threads import Threads
from headrace_bench.results import UnreadableReport, from_json
from headrace_rabbitmq import codec as rabbitmq
from headrace_redis import codec as redis
from headrace_sqlite import rows
from headrace_sqlite.backend import SqliteBackend
from headrace_sqs import codec as sqs

#: A message with something in every field.
WHOLE: Final = Message(
    id="0" * 32,
    name="fuzz.Read",
    body=b'{"text":"a"}',
    attempt=2,
    deaths=1,
    unique_key="key",
    headers={"a": "b", OPTIONS_HEADER: "{}"},
)

#: And one that has failed.
NOTED: Final = msgspec.structs.replace(WHOLE, note=Note("ValueError", "a reason", "a traceback", 1.5))


def expect_message(found: Message) -> None:
    assert isinstance(found.id, str)
    assert isinstance(found.name, str)
    assert isinstance(found.body, bytes)
    assert found.attempt >= 0
    assert found.deaths >= 0


def value_of_redis(data: bytes) -> None:
    expect_message(redis.unpack(redis.id_text(data[:16]), data[16:]))


def attribute_of_sqs(data: bytes, body: str = "body", binary: bytes = b"") -> None:
    attributes = {"headrace": {"DataType": "Binary", "BinaryValue": data}}
    for _ in range(2):
        found = sqs.unpack({"MessageId": "a", "Body": body, "MessageAttributes": attributes})
        expect_message(found.message)
        assert all(seconds is None or 0 <= seconds < math.inf for seconds in (found.after, found.due))
        attributes["headrace-body"] = {"DataType": "Binary", "BinaryValue": binary}


def whole_attribute_of_sqs(message: Message) -> bytes:
    value: bytes = sqs.pack(message).fields["MessageAttributes"]["headrace"]["BinaryValue"]
    return value


def header_of_rabbitmq(data: bytes, body: bytes = b"", count: Any = 1) -> None:
    for value in (data, data.decode(errors="replace"), [data], {"a": data}, len(data)):
        properties = Basic.Properties(headers={"headrace": value, "x-delivery-count": count})  # type: ignore[dict-item]
        delivery = DeliveredMessage(Basic.Deliver(), ContentHeader(properties=properties), body, None)  # type: ignore[arg-type]
        message, deliveries = rabbitmq.received(delivery)
        expect_message(message)
        assert deliveries >= 0


def whole_header_of_rabbitmq(message: Message) -> bytes:
    headers = rabbitmq.properties(message).headers or {}
    return str(headers.get("headrace", "")).encode()


def texts_of_sqlite(headers: bytes, note: bytes) -> None:
    connection = sqlite3.connect(":memory:")
    try:
        for row in (_row(headers, None), _row(None, note), _row(headers, note)):
            expect_message(rows.message(connection, row))
    finally:
        connection.close()


def _row(headers: bytes | None, note: bytes | None) -> rows.Row:
    texts = [None if each is None else each.decode(errors="replace") for each in (headers, note)]
    return rows.Row(1, 1, 1, "a", "Job", "00", 0, 0, None, *texts)


def file_of_sqlite(data: bytes) -> None:
    """A damaged database: all that a worker and the commands ask of it is answered, or refused."""
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-") as folder:
        path = Path(folder, "fuzzed.db")
        path.write_bytes(data)
        asyncio.run(_use(SqliteBackend(path)))


def whole_file_of_sqlite() -> bytes:
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-") as folder:
        path = Path(folder, "whole.db")
        asyncio.run(_fill(SqliteBackend(path)))
        return path.read_bytes()


async def _fill(backend: Backend) -> None:
    try:
        await backend.open()
        driver = backend.driver("{default}")
        await driver.push([WHOLE])
        await driver.delay([msgspec.structs.replace(WHOLE, id="1" * 32, delay=60.0, unique_key=None)])
        await driver.store([msgspec.structs.replace(NOTED, id="2" * 32)], "failed")
    finally:
        await backend.close()


async def _use(backend: Backend) -> None:
    try:
        with contextlib.suppress(BackendError):
            await backend.open()
            driver = backend.driver("{default}")
            for delivery in await driver.pop(10, 0):
                expect_message(delivery.message)
                await driver.ack([delivery.receipt])
            await driver.info()
            for channel in ("waiting", "delayed", "failed"):
                for message in (await driver.peek(channel, 10)).messages:
                    expect_message(message)
            await driver.reload("failed")
    finally:
        await backend.close()


def configuration(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-") as folder:
        path = Path(folder, "headrace.toml")
        path.write_bytes(data)
        with contextlib.suppress(ConfigError):
            Config.load(path, environ={})


def report_of_bench(data: bytes) -> None:
    with contextlib.suppress(UnreadableReport):
        from_json(data)


@dataclass
class Inner:
    ratio: float
    names: list[str] | None = None


class Read(Job, name="fuzz.Read"):
    text: str
    count: int = 0
    inner: Inner | None = None
    table: dict[str, Inner] | None = None

    async def handle(self) -> None: ...


def body_of_job(data: bytes) -> None:
    with contextlib.suppress(InvalidPayload, UnknownJob):
        job = _codec().decode(data)
        assert isinstance(job.text, str)
        assert isinstance(job.count, int)


def options_of_push(data: bytes) -> None:
    message = msgspec.structs.replace(WHOLE, headers={OPTIONS_HEADER: data.decode(errors="surrogateescape")})
    with contextlib.suppress(InvalidPayload):
        terms = _plan().terms_of(message)
        assert terms.max_retries >= 0
        assert 0 <= terms.handle_timeout < math.inf


def signature(data: bytes) -> None:
    """No bytes are a signature, but that of the key: nobody guesses it."""
    signer = Signer(["k" * 32], "{default}")
    with contextlib.suppress(InvalidSignature):
        signer.verify(msgspec.structs.replace(WHOLE, headers={SIGNATURE_HEADER: data.decode(errors="surrogateescape")}))
        raise AssertionError(data)


@cache
def _codec() -> JobCodec[Read]:
    return JobCodec(Read)


@cache
def _plan() -> JobPlan:
    app = Headrace({"backend": "memory", "listeners": []})
    return Plans(app, app.config.queue("default"), [], Threads(1, "fuzz")).get("fuzz.Read")
