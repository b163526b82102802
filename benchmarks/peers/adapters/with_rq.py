"""RQ: its worker that runs jobs in its own process, as a fork for each takes most of the time."""

# Another job queue, which is installed for `peers` alone: the type checkers may not find it.
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, misc, no-any-return"
# pyright: reportMissingImports=false, reportMissingModuleSource=false

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from redis import Redis
from rq import Queue, Retry, SimpleWorker

from peers.base import Adapter, Place


def job(number: int) -> None:
    """The job, which RQ finds by its name."""
    _adapter.run(number)


#: The adapter of this process, of which the job knows.
_adapter: Adapter


class Rq(Adapter):
    """Options: ``retries`` of a job, its ``timeout``, and ``worker``, the arguments of the worker's class."""

    distributions: ClassVar = ("rq", "redis")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        global _adapter
        _adapter = self
        self._redis = Redis.from_url(place.url)
        self._queue = Queue(place.queue, connection=self._redis, default_timeout=place.options.get("timeout"))
        retries = place.options.get("retries")
        #: A job is gone once it has run, as it has no result.
        self._each: dict[str, Any] = {"result_ttl": 0, "retry": Retry(max=retries) if retries else None}

    async def close(self) -> None:
        self._redis.close()

    async def push(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._queue.enqueue(job, number, **self._each)

    async def push_bulk(self, numbers: Sequence[int]) -> None:
        self._queue.enqueue_many([Queue.prepare_data(job, (number,), **self._each) for number in numbers])

    async def left(self) -> int:
        intermediate = self._redis.llen(self._queue.intermediate_queue_key)
        return self._queue.count + self._queue.started_job_registry.get_job_count(cleanup=False) + intermediate

    def work(self) -> None:
        logging.getLogger("rq").setLevel(logging.ERROR)
        worker = SimpleWorker([self._queue], connection=self._redis, **self.place.options.get("worker", {}))
        worker.log_result_lifespan = worker.log_job_description = False
        worker.work(logging_level="ERROR")
