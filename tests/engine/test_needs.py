"""Jobs whose declarations need what a backend does not offer."""

import pytest

from headrace import Headrace, Job
from headrace.conformance.wrapping import LimitedBackend
from headrace.errors import CapabilityError
from headrace_memory.backend import MemoryBackend


class OnlyOnce(Job, queue="single", unique="key"):
    key: str
    ran = 0

    async def handle(self) -> None:
        OnlyOnce.ran += 1


def make_app() -> Headrace:
    queues = {"single": {"backend": "plain"}, "other": {}}
    config = {"backend": "memory", "listeners": [], "queues": queues}
    return Headrace(config, backends={"plain": LimitedBackend(MemoryBackend(), unique=False)})


async def test_a_worker_refuses_to_start_where_no_push_of_a_declared_job_could_succeed() -> None:
    async with make_app() as app:
        with pytest.raises(CapabilityError, match="'plain' does not offer 'unique': declare OnlyOnce without unique"):
            await app.worker("single").run(until_empty=True)
        with pytest.raises(CapabilityError, match="'plain' does not offer 'unique'"):
            await app.queue("single").push(OnlyOnce(key="a"))


async def test_what_was_pushed_to_another_queue_than_the_job_s_own_is_run() -> None:
    OnlyOnce.ran = 0
    async with make_app() as app:
        await app.queue("other").push(OnlyOnce(key="a"))
        await app.worker("other").run(until_empty=True)
    assert OnlyOnce.ran == 1
