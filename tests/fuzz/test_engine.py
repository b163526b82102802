"""Whatever a message says, the worker goes on: it is run, or rests in ``failed`` with a note."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_envelopes import TRIED, damaged, texts

from headrace import Headrace, Job
from headrace.delays import DUE_HEADER, REMAINING_HEADER
from headrace.driver import Message
from headrace.queue import OPTIONS_HEADER
from headrace.signing import UNKNOWN_HEADER

ran: list[str] = []


class Fuzzed(Job, max_retries=1, retry_seconds=[0]):
    text: str
    count: int = 0
    items: tuple[dict[str, float], ...] = ()

    async def handle(self) -> None:
        ran.append(self.text)
        if self.count > 5:
            raise ValueError(self.text)


bodies = st.binary(max_size=60) | damaged(
    st.just(b'{"text":"a","count":7,"items":[{"a":1.5}]}') | st.just(b'{"text":"\\ud800","count":1}')
)
numbers = st.sampled_from(["nan", "inf", "-inf", "-1", "0", "-1e308", "", "x"])  # none of which delays
options = st.binary(max_size=40).map(lambda raw: raw.decode(errors="replace")) | damaged(
    st.just(b'{"max_retries":0,"handle_timeout":1.5}')
).map(lambda raw: raw.decode(errors="replace"))
headers = st.dictionaries(texts, texts, max_size=2) | st.fixed_dictionaries(
    {}, optional={OPTIONS_HEADER: options, REMAINING_HEADER: numbers, DUE_HEADER: numbers, UNKNOWN_HEADER: numbers}
)
messages = st.builds(
    Message,
    id=st.uuids().map(lambda each: each.hex),
    name=st.sampled_from(["Fuzzed", "", "Unknown"]) | texts,
    body=bodies,
    attempt=st.sampled_from([0, 1, 2**31, 2**63]),
    deaths=st.sampled_from([0, 1]),
    headers=headers,
)


@settings(max_examples=TRIED // 5, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(sent=st.lists(messages, min_size=1, max_size=5, unique_by=lambda message: message.id))
async def test_any_message_is_run_or_rests_with_a_note(sent: list[Message]) -> None:
    configuration: dict[str, Any] = {
        "backend": "memory",
        "listeners": [],
        "queues": {"default": {"unknown_job_seconds": 0}},
    }
    ran.clear()
    async with Headrace(configuration) as app:
        await (await app.queue().driver()).push(sent)
        async with asyncio.timeout(20):  # seconds; what is never due would be waited for
            await app.worker().run(until_empty=True)
        info = await app.queue().info()
        failed = await app.queue().list("failed", limit=10)
    assert (info.waiting, info.reserved, info.delayed, info.timeout) == (0, 0, 0, 0)
    assert all(each.message.note for each in failed)
    assert len(failed) + len(ran) >= len(sent)
