"""What `current()` gives in a job that no worker's event loop runs: in a child process, or where it was pushed."""

import time
from collections.abc import Mapping
from typing import Any

from headrace.context import Current
from headrace.driver import Message
from headrace.job import Job
from headrace.queue import without_own_headers


class DetachedRun(Current):
    """One run, timed from when this is made. ``handle_timeout`` in seconds; 0: none."""

    def __init__(self, message: Message, queue: str, job: Job, handle_timeout: float, state: Any) -> None:
        self._message = message
        self._queue = queue
        self._job = job
        self._deadline = time.monotonic() + handle_timeout if handle_timeout else None
        self._state = state

    @property
    def job(self) -> Job:
        return self._job

    @property
    def id(self) -> str:
        return self._message.id

    @property
    def attempt(self) -> int:
        return self._message.attempt

    @property
    def queue(self) -> str:
        return self._queue

    @property
    def headers(self) -> Mapping[str, str]:
        return without_own_headers(self._message.headers)

    @property
    def deadline(self) -> float | None:
        return self._deadline

    @property
    def state(self) -> Any:
        return self._state

    def extend(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline = max(self._deadline, time.monotonic() + seconds)
