"""A backend that cannot hold a delivery for long, and tells so when it is open."""

import pytest

from headrace import Headrace, Job
from headrace.conformance.wrapping import LimitedBackend
from headrace.errors import ConfigError, InvalidPayload
from headrace.events import FailedHandle
from headrace_memory.backend import MemoryBackend

from .conftest import Record, counts

REFUSED = "and the backend 'strict' can hold a delivery for 1800 s at most: raise consumer_timeout of the server"


class Strict(LimitedBackend):
    """Knows no limit until its server has told it."""

    async def open(self) -> None:
        await super().open()
        self._changes |= {"max_run": 1800.0, "max_run_hint": "raise consumer_timeout of the server"}


class UpToTheLimit(Job, queue="quick"):
    ran = 0

    async def handle(self) -> None:
        UpToTheLimit.ran += 1


class BeyondTheLimit(Job, queue="long", handle_timeout=7200):
    async def handle(self) -> None: ...


def make_app(queue: str, handle_timeout: float = 0.0) -> Headrace:
    queues = {queue: {"handle_timeout": handle_timeout, "pop_timeout": 0.05}}
    config = {"backend": "strict", "listeners": [], "queues": queues}
    return Headrace(config, backends={"strict": Strict(MemoryBackend())})


async def test_a_worker_refuses_a_queue_whose_timeout_is_beyond_it_before_the_first_message() -> None:
    UpToTheLimit.ran = 0
    async with make_app("quick", 7200) as app:
        await app.queue("quick").push(UpToTheLimit())
        with pytest.raises(ConfigError, match=f"^the handle_timeout of queue quick is 7200 s, {REFUSED}$"):
            await app.worker("quick").run(until_empty=True)
        assert await counts(app, "quick") == {"waiting": 1}
    assert UpToTheLimit.ran == 0


async def test_a_worker_refuses_a_job_whose_timeout_is_beyond_it() -> None:
    async with make_app("long") as app:
        with pytest.raises(ConfigError, match=f"^the handle_timeout of job BeyondTheLimit is 7200 s, {REFUSED}$"):
            await app.worker("long").run(until_empty=True)


async def test_timeouts_up_to_it_and_none_at_all_are_run() -> None:
    for timeout in (1800, 0):
        UpToTheLimit.ran = 0
        async with make_app("quick", timeout) as app:
            await app.queue("quick").push(UpToTheLimit())
            assert await app.worker("quick").run(until_empty=True) == 1
        assert UpToTheLimit.ran == 1


async def test_a_push_that_states_more_fails_and_the_job_is_not_run() -> None:
    UpToTheLimit.ran = 0
    async with make_app("quick") as app:
        seen = Record(app)
        await app.queue("quick").push(UpToTheLimit(), handle_timeout=7200)
        await app.worker("quick").run(until_empty=True)
        (failure,) = seen.of(FailedHandle)
        assert isinstance(failure.error, InvalidPayload)
        assert "handle_timeout=7200, and the backend can hold a delivery for 1800 s at most" in str(failure.error)
        assert await counts(app, "quick") == {"failed": 1}
    assert UpToTheLimit.ran == 0


async def test_a_queue_knows_it_once_its_backend_is_open() -> None:
    async with make_app("quick") as app:
        queue = app.queue("quick")
        assert queue.capabilities.max_run == float("inf")
        await queue.info()
        assert queue.capabilities.max_run == 1800
