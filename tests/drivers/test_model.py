"""SQLite held against the memory backend, the contract's executable reference, by random sequences of calls."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.driver import Backend, Channel, Delivery, Message, Note
from headrace_memory.backend import MemoryBackend
from headrace_sqlite.backend import SqliteBackend

from .conftest import FakeTime

CHANNELS: tuple[Channel, ...] = ("waiting", "reserved", "delayed", "failed", "timeout")

texts = st.sampled_from(["a", "b", "c", "d", "e", "f", "\0", "\N{SNOWMAN}"])
delays = st.sampled_from([0.0, 0.0, 1.0, 2.5, 7.0])
keys = st.sampled_from([(None, "replace"), ("k", "replace"), ("k", "keep"), ("l", "replace"), ("l", "keep")])
sent = st.builds(
    lambda key, **fields: Message(unique_key=key[0], on_duplicate=key[1], **fields),
    key=keys,
    id=texts,
    name=st.just("Job"),
    body=st.binary(max_size=3),
    attempt=st.integers(0, 3),
    headers=st.dictionaries(texts, texts, max_size=1),
    note=st.none() | st.builds(Note, texts, texts, texts, st.just(1.0)),
)
chosen = st.lists(texts, max_size=3)
#: Which of the receipts handed out so far; stale ones are meant to come up often.
picks = st.lists(st.integers(0, 30), min_size=1, max_size=4)
calls = st.one_of(
    st.tuples(st.just("push"), st.lists(st.tuples(sent, delays), min_size=1, max_size=4)),
    st.tuples(st.just("pop"), st.integers(-1, 4), st.sampled_from([5.0, 10.0])),
    st.tuples(st.just("ack"), picks),
    st.tuples(st.just("retry"), picks, delays),
    st.tuples(st.just("fail"), picks, st.sampled_from(["failed", "timeout"])),
    st.tuples(st.just("extend"), picks, st.sampled_from([1.0, 20.0])),
    st.tuples(st.just("reload"), st.sampled_from(["failed", "timeout"]), st.none() | st.integers(-2, 3)),
    st.tuples(st.just("reload ids"), st.sampled_from(["failed", "timeout"]), chosen),
    st.tuples(st.just("forget"), st.sampled_from(["waiting", "delayed", "failed", "timeout"]), chosen),
    st.tuples(st.just("flush"), st.sampled_from(["waiting", "delayed", "failed", "timeout"])),
    st.tuples(st.just("cancel"), texts),
    st.tuples(st.just("advance"), st.sampled_from([0.5, 1.0, 5.0, 30.0])),
)


class Side:
    """One backend, and what it has handed out."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.handed_out: list[Delivery] = []

    def picked(self, picks: Sequence[int]) -> list[Delivery]:
        return [self.handed_out[pick % len(self.handed_out)] for pick in picks] if self.handed_out else []

    async def call(self, verb: str, *arguments: Any) -> Any:
        """Make a call, and put what a caller sees of it into comparable form."""
        driver = self.backend.driver("{q}", lease_seconds=arguments[1] if verb == "pop" else 10.0)
        if verb == "push":
            now = [message for message, delay in arguments[0] if not delay]
            later = [_with(message, delay) for message, delay in arguments[0] if delay]
            return [list(await driver.push(now)) if now else [], list(await driver.delay(later)) if later else []]
        if verb == "pop":
            deliveries = await driver.pop(arguments[0], 0)
            self.handed_out += deliveries
            return [(delivery.message, delivery.count) for delivery in deliveries]
        if verb in ("ack", "retry", "fail", "extend"):
            held = self.picked(arguments[0])
            if not held:
                return None
            pairs = [(d.receipt, _with(d.message, arguments[1] if verb == "retry" else 0.0)) for d in held]
            if verb == "ack":
                return list(await driver.ack([receipt for receipt, _ in pairs]))
            if verb == "extend":
                return list(await driver.extend([receipt for receipt, _ in pairs], arguments[1]))
            if verb == "retry":
                return list(await driver.retry(pairs))
            return list(await driver.fail(pairs, arguments[1]))
        if verb == "reload":
            return await driver.reload(*arguments)
        if verb == "reload ids":
            return await driver.reload(arguments[0], ids=arguments[1])
        return await getattr(driver, verb)(*arguments)

    async def state(self) -> Any:
        """All that can be seen of the queue."""
        driver = self.backend.driver("{q}")
        pages = {channel: list((await driver.peek(channel, 100)).messages) for channel in CHANNELS}
        return pages, await driver.info()


def _with(message: Message, delay: float) -> Message:
    return Message(**{**{field: getattr(message, field) for field in message.__struct_fields__}, "delay": delay})


async def compare(script: Sequence[tuple[Any, ...]], folder: Path) -> None:
    clock = FakeTime()
    model, real = Side(MemoryBackend(clock)), Side(SqliteBackend(folder / "queue.db", machine=clock))
    await real.backend.open()
    try:
        for verb, *arguments in script:
            if verb == "advance":
                clock.advance(*arguments)
            else:
                assert await real.call(verb, *arguments) == await model.call(verb, *arguments)
            assert await real.state() == await model.state()
    finally:
        await real.backend.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=st.lists(calls, max_size=30))
def test_sqlite_does_what_the_model_does(script: Sequence[tuple[Any, ...]]) -> None:
    with TemporaryDirectory() as folder:
        asyncio.run(compare(script, Path(folder)))
