"""What the coverage-guided fuzzer is let loose on: a reader of bytes, and some that it reads well to begin with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import readers

from headrace_bench.results import Calibration, Machine, Measurement, Participant, Report, Run, to_json
from headrace_redis import codec as redis
from headrace_sqlite import rows


@dataclass(frozen=True)
class Target:
    """A reader, and where what it reads comes from."""

    read: Callable[[bytes], None]
    what: str
    seeds: Callable[[], Sequence[bytes]]


def _halves(data: bytes) -> None:
    headers, _, note = data.partition(b"\0")
    readers.texts_of_sqlite(headers, note)


def _texts() -> bytes:
    headers, note = rows.headers_text(readers.NOTED.headers), rows.note_text(readers.NOTED.note)
    return f"{headers}\0{note}".encode()


CONFIGURATION: Final = b"""
backend = "here"
imports = ["shop"]
listeners = ["log"]
signing_keys = ["${KEY:-0123456789abcdef0123456789abcdef}"]

[backends.here]
plugin = "sqlite"
path = "jobs.db"

[queues.default]
prefix = "{default}"
retry_seconds = { base = 1, factor = 2, max = 60, jitter = 0.1 }
handle_timeout = 10
on_timeout = "cancel"
concurrent = { limit = 10 }

[queues]
slow = { processes = 2, retry_seconds = [1, 5.5], shutdown_timeout = 1e3, enabled = false }
"""

REPORT: Final = Report(
    began=0.0,
    size="quick",
    machine=Machine("a processor", 2, 2**33, "Linux 6", "CPython 3.11"),
    calibration=Calibration(0.1, 1.5),
    participants=[Participant(name="memory", kind="backend", broker="memory")],
    measurements=[Measurement(scenario="consume", participant="memory", runs=[Run(round=0, figures={"rate": 1.5})])],
)

TARGETS: Final = {
    "redis": Target(readers.value_of_redis, "a value in Redis", lambda: [bytes(24) + redis.pack(readers.NOTED)]),
    "rabbitmq": Target(
        readers.header_of_rabbitmq, "a header of RabbitMQ", lambda: [readers.whole_header_of_rabbitmq(readers.NOTED)]
    ),
    "sqs": Target(
        readers.attribute_of_sqs, "an attribute of SQS", lambda: [readers.whole_attribute_of_sqs(readers.NOTED)]
    ),
    "sqlite": Target(_halves, "the texts beside a row of SQLite", lambda: [_texts()]),
    "sqlite-file": Target(
        readers.file_of_sqlite, "a file of SQLite, opened and used", lambda: [readers.whole_file_of_sqlite()]
    ),
    "body": Target(
        readers.body_of_job,
        "a job's body",
        lambda: [b'{"text":"a","count":7,"inner":{"ratio":1.5,"names":["a"]},"table":{"b":{"ratio":0}}}'],
    ),
    "options": Target(
        readers.options_of_push,
        "the options that a push stated",
        lambda: [b'{"max_retries":1,"handle_timeout":1.5,"on_timeout":"cancel","retry_seconds":[1,2.5]}'],
    ),
    "signature": Target(readers.signature, "a signature", lambda: [b"01234567:" + b"0" * 64]),
    "configuration": Target(readers.configuration, "a configuration file", lambda: [CONFIGURATION]),
    "report": Target(readers.report_of_bench, "a report of headrace bench", lambda: [to_json(REPORT)]),
}
