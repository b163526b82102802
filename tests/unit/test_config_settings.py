"""What a configuration may say: defaults, types, ranges, names, and the words of other systems."""

import math
from typing import Any

import pytest

from headrace.config import Backoff, Concurrent, Config, QueueSettings
from headrace.errors import ConfigError
from headrace.settings import TopSettings
from headrace.vocabulary import QUEUE_WORDS, TOP_WORDS


def queue(**settings: Any) -> QueueSettings:
    return Config.from_mapping({"queues": {"mail": settings}}, environ={}).queue("mail")


def problem(mapping: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping(mapping, environ={})
    return str(caught.value).removeprefix("configuration in code: ")


def queue_problem(**settings: Any) -> str:
    return problem({"queues": {"mail": settings}}).removeprefix("queues.mail.")


def test_a_queue_that_says_nothing_has_the_documented_defaults() -> None:
    assert queue() == QueueSettings(
        name="mail",
        backend="sqlite",
        prefix="{mail}",
        pop_timeout=None,
        retry_seconds=5.0,
        max_retries=0,
        handle_timeout=0.0,
        on_timeout="continue",
        lease_seconds=30.0,
        max_redeliveries=3,
        processes=1,
        concurrent=Concurrent(limit=10),
        max_messages=0,
        max_memory=0,
        max_seconds=0.0,
        shutdown_timeout=25.0,
        enabled=True,
        push_timeout=5.0,
        stall_seconds=300.0,
        on_stall="report",
        unknown_job_seconds=600.0,
        queue_length_seconds=10.0,
    )


def test_everything_of_a_file_arrives_in_the_type_that_it_has() -> None:
    config = Config.from_mapping(
        {
            "backend": "redis",
            "imports": ["shop.jobs"],
            "listeners": ["log", "queue-length", "shop.audit"],
            "middleware": ["shop.middleware:with_database"],
            "lifespan": "shop.worker:lifespan",
            "backends": {"audit-store": {"plugin": "redis", "url": "redis://10.0.0.7/1"}},
            "queues": {
                "mail": {
                    "prefix": "{shop.mail}",
                    "pop_timeout": 20,
                    "retry_seconds": [1, 5, 30.5],
                    "concurrent": {"limit": 1},
                    "on_timeout": "cancel",
                    "enabled": False,
                },
                "limit": {"backend": "audit-store"},
            },
        },
        environ={},
    )
    assert config.imports == ("shop.jobs",)
    assert config.listeners == ("log", "queue-length", "shop.audit")
    assert config.middleware == ("shop.middleware:with_database",)
    assert config.lifespan == "shop.worker:lifespan"
    mail = config.queue("mail")
    assert (mail.backend, mail.prefix) == ("redis", "{shop.mail}")
    assert repr((mail.pop_timeout, mail.retry_seconds)) == "(20.0, (1.0, 5.0, 30.5))"
    assert (mail.concurrent.limit, mail.on_timeout, mail.enabled) == (1, "cancel", False)
    assert config.queue("limit").backend == "audit-store"
    assert config.queue("default").backend == "redis"


def test_the_log_listener_is_on_unless_the_list_says_otherwise() -> None:
    assert Config.from_mapping({}, environ={}).listeners == ("log",)
    assert Config.from_mapping({"listeners": []}, environ={}).listeners == ()


def test_retry_seconds_may_be_a_number_a_list_or_a_table() -> None:
    assert queue(retry_seconds=7).retry_seconds == 7.0
    assert queue(retry_seconds=[1, 2]).retry_seconds == (1.0, 2.0)
    assert queue(retry_seconds={"base": 1, "jitter": 0.1}).retry_seconds == Backoff(
        base=1.0, factor=2.0, max=3600.0, jitter=0.1
    )


def test_the_shortest_leases_and_periods_and_none_at_all_are_accepted() -> None:
    shortest = queue(lease_seconds=0.1, stall_seconds=0.1, queue_length_seconds=0.1)
    assert (shortest.lease_seconds, shortest.stall_seconds, shortest.queue_length_seconds) == (0.1, 0.1, 0.1)
    assert [queue(queue_length_seconds=never).queue_length_seconds for never in (0, 0.0)] == [0, 0]


def test_an_empty_list_of_retry_seconds_means_ten_as_in_hyperf() -> None:
    assert queue(retry_seconds=[]).retry_seconds == 10.0


def test_hyperfs_names_are_accepted() -> None:
    mail = queue(channel="{queue}", timeout=3, driver="redis")
    assert (mail.prefix, mail.pop_timeout, mail.backend) == ("{queue}", 3.0, "redis")


def test_an_alias_beside_the_name_that_it_stands_for_is_refused() -> None:
    assert queue_problem(channel="a", prefix="b") == (
        'prefix: means the same as "channel", and both are given; keep one'
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pop_timeout": 0}, "pop_timeout: found 0; allowed: a number of seconds above 0"),
        ({"pop_timeout": "2"}, 'pop_timeout: found "2"; allowed: a number of seconds above 0'),
        ({"timeout": -1}, "timeout: found -1; allowed: a number of seconds above 0"),
        ({"handle_timeout": -0.5}, "handle_timeout: found -0.5; allowed: a number of seconds, 0 or more"),
        ({"handle_timeout": True}, "handle_timeout: found true; allowed: a number of seconds, 0 or more"),
        ({"handle_timeout": math.nan}, "handle_timeout: found nan; allowed: a number of seconds, 0 or more"),
        (
            {"handle_timeout": math.inf},
            "handle_timeout: found inf; allowed: a number of seconds, 0 or more",
        ),
        ({"push_timeout": 10**400}, f"push_timeout: found 1{'0' * 59}...; allowed: a number of seconds above 0"),
        ({"lease_seconds": 0}, "lease_seconds: found 0; allowed: a number of seconds, 0.1 or more"),
        ({"lease_seconds": 1e-6}, "lease_seconds: found 1e-06; allowed: a number of seconds, 0.1 or more"),
        ({"stall_seconds": 0.05}, "stall_seconds: found 0.05; allowed: a number of seconds, 0.1 or more"),
        (
            {"queue_length_seconds": 0.001},
            "queue_length_seconds: found 0.001; allowed: 0, or a number of seconds, 0.1 or more",
        ),
        (
            {"queue_length_seconds": -1},
            "queue_length_seconds: found -1; allowed: 0, or a number of seconds, 0.1 or more",
        ),
        ({"processes": 0}, "processes: found 0; allowed: a whole number, 1 or more"),
        ({"processes": True}, "processes: found true; allowed: a whole number, 1 or more"),
        ({"processes": 1.5}, "processes: found 1.5; allowed: a whole number, 1 or more"),
        ({"max_retries": -1}, "max_retries: found -1; allowed: a whole number, 0 or more"),
        ({"max_redeliveries": 0}, "max_redeliveries: found 0; allowed: a whole number, 1 or more"),
        ({"enabled": 1}, "enabled: found 1; allowed: true or false"),
        ({"enabled": "yes"}, 'enabled: found "yes"; allowed: true or false'),
        ({"on_timeout": "kill"}, 'on_timeout: found "kill"; allowed: "cancel" or "continue"'),
        ({"prefix": ""}, 'prefix: found ""; allowed: a string without spaces'),
        ({"prefix": "a b"}, 'prefix: found "a b"; allowed: a string without spaces'),
        ({"prefix": None}, "prefix: found nothing; allowed: a string without spaces"),
        ({"concurrent": 5}, "concurrent: found 5; allowed: a table such as { limit = 10 }"),
        ({"concurrent": {"limit": 0}}, "concurrent.limit: found 0; allowed: a whole number, 1 or more"),
        ({"concurrent": {"limits": 1}}, 'concurrent.limits: is unknown; did you mean "limit"?'),
        (
            {"retry_seconds": {"base": 1, "factor": 0.5}},
            "retry_seconds.factor: found 0.5; allowed: a number, 1 or more",
        ),
        ({"retry_seconds": {"base": 1, "jitter": 2}}, "retry_seconds.jitter: found 2; allowed: a number from 0 to 1"),
        ({"retry_seconds": {"max": 5}}, "retry_seconds.base: is required: a number of seconds, 0 or more"),
        ({"retry_secnds": 5}, 'retry_secnds: is unknown; did you mean "retry_seconds"?'),
    ],
    ids=str,
)
def test_a_wrong_setting_is_told_with_what_was_found_and_what_is_allowed(
    settings: dict[str, Any], expected: str
) -> None:
    assert queue_problem(**settings) == expected


def test_a_wrong_item_of_a_list_is_pointed_at() -> None:
    assert queue_problem(retry_seconds=[1, -2]).startswith("retry_seconds[1]: found -2; allowed: ")
    assert queue_problem(retry_seconds=[1, math.inf]).startswith("retry_seconds[1]: found inf; allowed: ")


def test_an_unknown_key_that_is_like_no_other_is_answered_with_all_of_them() -> None:
    assert problem({"zzz": 1}) == (
        "zzz: is unknown; known are: backend, backends, imports, lifespan, listeners, middleware, queues, signing_keys"
    )


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"queue": {}}, 'queue: is unknown; did you mean "queues"?'),
        ({"queues": []}, "queues: found an empty list; allowed: tables [queues.NAME]"),
        ({"queues": {"mail": 5}}, "queues.mail: found 5; allowed: a table [queues.mail]"),
        ({"backends": {"redis": "x"}}, 'backends.redis: found "x"; allowed: a table [backends.redis]'),
        (
            {"queues": {"a,b": {}}},
            'queues."a,b": cannot be a name; allowed: letters, digits and _ . : - only, beginning with none of . : -',
        ),
        (
            {"imports": "shop"},
            'imports: found "shop"; allowed: a list, each item the name of a module, such as "shop.jobs"',
        ),
        (
            {"imports": ["shop", "shop/jobs.py"]},
            'imports[1]: found "shop/jobs.py"; allowed: a list, each item the name of a module, such as "shop.jobs"',
        ),
        (
            {"lifespan": "shop"},
            'lifespan: found "shop"; allowed: a module and a name in it, such as "shop.worker:lifespan"',
        ),
        (
            {"backend": "redis://h/0"},
            (
                'backend: found "redis://h/0"; allowed: the name of a backend, such as "redis"; '
                "where that is goes into a table [backends.redis]"
            ),
        ),
    ],
    ids=str,
)
def test_what_stands_outside_of_queues_is_checked_too(mapping: dict[str, Any], expected: str) -> None:
    assert problem(mapping) == expected


def test_all_problems_are_told_at_once() -> None:
    assert problem({"imports": 1, "queues": {"mail": {"processes": 0, "tries": 3}}}).splitlines() == [
        "3 problems",
        '  imports: found 1; allowed: a list, each item the name of a module, such as "shop.jobs"',
        "  queues.mail.processes: found 0; allowed: a whole number, 1 or more",
        (
            "  queues.mail.tries: is called otherwise here: use max_retries, which counts the runs after the first: "
            "3 tries are max_retries = 2"
        ),
    ]


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("tries", "max_retries"),
        ("max_tries", "max_retries"),
        ("maxAttempts", "max_retries"),
        ("max_attempts", "max_retries"),
        ("backoff", "retry_seconds"),
        ("retry-backoff", "retry_seconds"),
        ("retry_after", "lease_seconds"),
        ("visibility_timeout", "lease_seconds"),
        ("countdown", "push(job, delay=...)"),
        ("eta", "push(job, delay=...)"),
        ("acks_late", "always acknowledged after its handler"),
        ("prefetch", "concurrent"),
        ("worker_prefetch_multiplier", "concurrent"),
        ("concurrency", "concurrent = { limit = N }"),
        ("time_limit", "handle_timeout"),
        ("soft_time_limit", "handle_timeout"),
        ("job_timeout", "handle_timeout"),
        ("result_ttl", "keeps no results"),
        ("max_jobs", "concurrent = { limit = N }"),
        ("max_jobs", "max_messages"),
        ("worker_max_memory_per_child", "max_memory"),
        ("max_time", "max_seconds"),
        ("isEnable", "enabled"),
    ],
)
def test_a_word_of_another_system_is_answered_with_ours(word: str, ours: str) -> None:
    text = queue_problem(**{word: 1})
    assert text.startswith(f"{word}: is called otherwise here: ")
    assert ours in text


def test_no_foreign_word_hides_one_of_ours() -> None:
    ours = {*QueueSettings.__dataclass_fields__} - {"name"}
    assert not ours & {*QUEUE_WORDS.foreign}
    assert not {*TopSettings.__dataclass_fields__, "backends", "queues"} & {*TOP_WORDS.foreign}
    assert {*QUEUE_WORDS.aliases.values()} <= ours
    assert not {*QUEUE_WORDS.aliases} & (ours | {*QUEUE_WORDS.foreign})


def test_two_queues_may_not_share_a_prefix_on_one_backend() -> None:
    assert problem({"queues": {"bulk": {"prefix": "{mail}"}, "mail": {}}}) == (
        'queues.mail.prefix: is "{mail}" on the backend "sqlite", as that of the queue "bulk"; give each queue its own'
    )
    assert "as that of the queue" in problem({"queues": {"bulk": {"prefix": "{default}"}}})


def test_one_prefix_on_two_backends_is_no_conflict() -> None:
    config = Config.from_mapping({"queues": {"bulk": {"prefix": "{default}", "backend": "redis"}}}, environ={})
    assert config.queue("bulk").prefix == config.queue("default").prefix


def test_a_configuration_cannot_be_changed() -> None:
    config = Config.from_mapping({}, environ={})
    with pytest.raises(AttributeError):
        config.backend = "redis"  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.queues["x"] = config.queue("default")  # type: ignore[index]
