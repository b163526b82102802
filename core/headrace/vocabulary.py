"""Other words for our settings: hyperf's, which are accepted, and other systems', which are answered with ours.

Owns words only; `headrace.tables` looks them up. They stand here in lower case with underscores,
and match however they were written: ``maxTries`` as well as ``max_tries``.
From the documentation of hyperf, Celery, RQ, Dramatiq, Huey, arq, Laravel, Sidekiq and Bull.
"""

from dataclasses import fields
from types import MappingProxyType
from typing import Final

from headrace.settings import QueueSettings, TopSettings
from headrace.tables import Vocabulary

_TRIES = "use max_retries, which counts the runs after the first: 3 tries are max_retries = 2"
_BACKOFF = "use retry_seconds: a number, a list, or a table { base, factor, max, jitter }"
_LEASE = "use lease_seconds; leases are extended while their worker lives, so it needs no tuning above the longest job"
_PUSH = "say it when pushing: push(job, delay=...)"
_LATE = "leave it out: a message is always acknowledged after its handler, and comes back when its worker dies"
_PREFETCH = "leave it out: how much is prefetched follows from how long jobs take; concurrent = { limit = N } bounds it"
_LIMIT = "use concurrent = { limit = N }, the handlers at once per process"
_PROCESSES = "use processes"
_DEADLINE = 'use handle_timeout, with on_timeout = "continue" or "cancel"'
_RESULTS = "leave it out: headrace keeps no results; what failed rests in the channel 'failed'"
_RECYCLE = "use max_messages, after which a worker process is replaced"
_MEMORY = "use max_memory, the MiB of resident memory above which a worker process is replaced"
_AGE = "use max_seconds, the age at which a worker process is replaced"
_GRACE = "use shutdown_timeout"
_POLL = "use pop_timeout"
_DEATHS = "use max_redeliveries, which counts deliveries that ended with their worker"
_PLACE = "say where messages go in [backends.NAME], and name it with backend"
_NO_EXPIRY = "leave it out: messages do not expire"
_DEAD = "leave it out: what failed for good rests in the queue's own channel 'failed'"

#: The words of a ``[queues.NAME]`` table.
QUEUE_WORDS: Final = Vocabulary(
    aliases=MappingProxyType({"channel": "prefix", "timeout": "pop_timeout", "driver": "backend"}),
    foreign=MappingProxyType(
        {
            # How often
            **dict.fromkeys(("attempts", "max_tries", "tries"), _TRIES),
            "max_attempts": f"{_TRIES} (hyperf's maxAttempts counts retries too: keep its number)",
            **dict.fromkeys(("retries", "retry", "retry_limit"), "use max_retries"),
            # How long between
            **dict.fromkeys(
                (
                    "backoff",
                    "backoff_base",
                    "default_retry_delay",
                    "max_backoff",
                    "min_backoff",
                    "retry_backoff",
                    "retry_backoff_max",
                    "retry_delay",
                    "retry_interval",
                    "retry_intervals",
                    "retry_jitter",
                ),
                _BACKOFF,
            ),
            # How long a delivery stays reserved
            **dict.fromkeys(
                ("ack_deadline", "heartbeat", "lock_duration", "reserve_timeout", "retry_after", "visibility_timeout"),
                _LEASE,
            ),
            # When
            **dict.fromkeys(("countdown", "defer_by", "delay", "eta"), _PUSH),
            # Acknowledging and prefetching
            **dict.fromkeys(("acks_late", "reject_on_worker_lost", "task_acks_late"), _LATE),
            **dict.fromkeys(
                ("prefetch", "prefetch_count", "prefetch_multiplier", "worker_prefetch_multiplier"), _PREFETCH
            ),
            # How many at once
            **dict.fromkeys(("concurrency", "limit", "max_concurrency", "threads", "worker_concurrency"), _LIMIT),
            **dict.fromkeys(("num_workers", "nums", "numprocs", "workers"), _PROCESSES),
            "max_jobs": f"{_LIMIT} (arq's meaning), or max_messages, after which a process is replaced (RQ's)",
            # How long a handler may run
            **dict.fromkeys(
                (
                    "default_timeout",
                    "job_timeout",
                    "max_run_time",
                    "soft_time_limit",
                    "task_soft_time_limit",
                    "task_time_limit",
                    "time_limit",
                ),
                _DEADLINE,
            ),
            # Results and expiry
            **dict.fromkeys(
                (
                    "expires_results",
                    "failure_ttl",
                    "ignore_result",
                    "keep_result",
                    "result_backend",
                    "result_expires",
                    "result_ttl",
                    "store_results",
                ),
                _RESULTS,
            ),
            **dict.fromkeys(("age_limit", "expires", "max_age", "message_ttl", "ttl"), _NO_EXPIRY),
            # Workers' lives
            **dict.fromkeys(
                ("max_requests", "max_tasks", "max_tasks_per_child", "worker_max_tasks_per_child"), _RECYCLE
            ),
            **dict.fromkeys(("max_memory_per_child", "memory", "worker_max_memory_per_child"), _MEMORY),
            **dict.fromkeys(("max_lifetime", "max_time"), _AGE),
            **dict.fromkeys(
                ("grace_period", "graceful_timeout", "job_completion_wait", "shutdown_grace_period", "stop_timeout"),
                _GRACE,
            ),
            **dict.fromkeys(
                ("block", "block_for", "poll_delay", "poll_interval", "polling_interval", "sleep", "wait_time"), _POLL
            ),
            **dict.fromkeys(("max_deliveries", "max_receive_count", "max_stalled_count"), _DEATHS),
            **dict.fromkeys(("enable", "is_enable", "is_enabled"), "use enabled"),
            "disabled": "use enabled = false",
            # Places
            **dict.fromkeys(("broker", "broker_url", "connection", "dsn", "redis_url", "url"), _PLACE),
            **dict.fromkeys(("dead_letter", "dead_letter_queue", "dlq"), _DEAD),
            "name": "leave it out: a queue's name is its table's, [queues.NAME]",
            **dict.fromkeys(("key", "key_prefix", "queue", "queue_name"), "use prefix"),
            "priority": "leave it out: `headrace worker high,low` serves queues in strict order",
            **dict.fromkeys(
                ("unique", "on_duplicate", "unique_for"),
                "say it of the job, or when pushing: unique=... and on_duplicate",
            ),
        }
    ),
)

_NO_SCHEDULE: Final = (
    "leave it out: headrace has no schedule of its own; let cron or a systemd timer run `headrace push`"
)

#: The words of a job's declaration.
JOB_WORDS: Final = Vocabulary(
    foreign=MappingProxyType(
        {
            **QUEUE_WORDS.foreign,
            "timeout": _DEADLINE,
            **dict.fromkeys(("queue_name", "key", "channel", "actor_queue"), "use queue"),
            **dict.fromkeys(("unique_for", "unique_key", "dedup", "deduplicate"), "use unique, the name of a field"),
            **dict.fromkeys(
                ("autoretry_for", "dont_autoretry_for", "retry_when", "throws"),
                "leave it out: each exception is retried while max_retries lets it; raise Drop to end a job without",
            ),
            **dict.fromkeys(
                ("rate_limit", "rate"), "leave it out: concurrent = { limit = N } of its queue bounds what runs at once"
            ),
            **dict.fromkeys(("bind", "pass_context"), "leave it out: current() is the run, wherever it is called"),
            **dict.fromkeys(("cron", "crontab", "periodic", "run_every", "schedule"), _NO_SCHEDULE),
            **dict.fromkeys(("backend", "broker", "driver"), "say it of the job's queue, in [queues.NAME]"),
            **dict.fromkeys(
                ("concurrency", "limit", "max_concurrency", "lease_seconds", "visibility_timeout", "processes"),
                "say it of the job's queue, in [queues.NAME]",
            ),
        }
    )
)

#: Settings of queues that do not stand above them as well.
_OF_QUEUES: Final = {each.name for each in fields(QueueSettings)} - {each.name for each in fields(TopSettings)}

#: The words of what stands outside ``[queues.*]`` and ``[backends.*]``.
TOP_WORDS: Final = Vocabulary(
    foreign=MappingProxyType(
        {
            **{word: f"{advice} (in [queues.NAME])" for word, advice in QUEUE_WORDS.foreign.items() if word != "queue"},
            **dict.fromkeys(_OF_QUEUES, "say it of a queue, in [queues.NAME]"),
            **dict.fromkeys(("task_always_eager", "always_eager", "immediate"), "use headrace.testing, in tests"),
            **dict.fromkeys(("beat_schedule", "cron_jobs", "periodic_tasks", "schedule", "timezone"), _NO_SCHEDULE),
            "path": "say where messages go in [backends.NAME]",
            **dict.fromkeys(("broker", "broker_url", "connection", "dsn", "redis_url", "url"), _PLACE),
            **dict.fromkeys(("default", "default_backend", "driver"), "use backend"),
            **dict.fromkeys(("autodiscover", "include", "modules", "tasks"), "use imports"),
            **dict.fromkeys(("result_backend", "result_expires", "result_ttl"), _RESULTS),
            **dict.fromkeys(("connections", "brokers", "drivers"), "use [backends.NAME]"),
            **dict.fromkeys(("pools", "task_queues"), "use [queues.NAME]"),
            "task_routes": "leave it out: each job names its queue",
            "tool": "write the tables at the top of this file: [queues.default], not [tool.headrace.queues.default]",
        }
    )
)
