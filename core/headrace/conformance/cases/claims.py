"""Claims: capabilities hold both ways, and a backend says truly what it is, and touches nothing before it is opened."""

import asyncio
import dataclasses
import logging
import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from headrace.conformance.case import CLAIMABLE, case
from headrace.conformance.cases.waiting import expect_woken
from headrace.conformance.child import in_child
from headrace.conformance.lab import PATIENCE, Lab, ids, pairs, receipts
from headrace.conformance.moves import bring, hold, with_delay
from headrace.conformance.promises import Promise
from headrace.driver import ALL_CHANNELS, CONTRACT, Backend, Capabilities, Message, in_order

#: What a URL's secret looks like; a mask of asterisks is none.
SECRET: Final = re.compile(r"://[^\s/@]*:(?!\*+@)[^\s/@]+@")

#: Threads that belong to an event loop's own pool, which ends with the loop.
LOOPS_THREADS: Final = "asyncio_"

#: Where a system lists the descriptors of the process that asks.
DESCRIPTORS: Final = Path("/dev/fd")


@case(Promise.SAME)
async def capabilities_are_data_that_make_sense(lab: Lab) -> None:
    """Capabilities name a known contract and have limits within which something can be done."""
    claimed = lab.capabilities
    lab.expect("the type of capabilities", type(claimed), Capabilities)
    lab.expect("the contract", claimed.contract, CONTRACT)
    flags = ("durable", "shared", "ordered", "idempotent", "unique", "cancel", "wait_ready", "store")
    wrong = {name: getattr(claimed, name) for name in flags if type(getattr(claimed, name)) is not bool}
    lab.expect("flags that are neither true nor false", wrong, {})
    for name, possible in CLAIMABLE.items():
        value = getattr(claimed, name)
        expected = f"a frozenset of {', '.join(in_order(possible))}"
        lab.expect_that(isinstance(value, frozenset) and value <= possible, name, value, expected)
    lab.expect_that(claimed.leases in ("timed", "connection"), "leases", claimed.leases, "'timed' or 'connection'")
    known = ("exact", "approximate", "unknown")
    lab.expect_that(claimed.counts in known, "counts", claimed.counts, "'exact', 'approximate' or 'unknown'")
    for name in ("max_batch", "max_body"):
        value = getattr(claimed, name)
        lab.expect_that(type(value) is int and value >= 1, name, value, "a whole number from 1 on")
    for name in ("max_delay", "max_run"):
        value = getattr(claimed, name)
        lab.expect_that(not math.isnan(value) and value >= 1, name, value, "seconds, at least one")
    about = "more than 0 seconds, and an end"
    lab.expect_that(0 < claimed.pop_timeout < math.inf, "pop_timeout", claimed.pop_timeout, about)
    granularity = claimed.granularity
    lab.expect_that(0 <= granularity <= 1, "granularity", granularity, "seconds, one at most")
    lab.expect("the type of max_run_hint", type(claimed.max_run_hint), str)


@case(Promise.SAME)
async def capabilities_are_the_same_before_and_after_opening(lab: Lab) -> None:
    """What a backend can do is known before it is opened, and the same when it is open, when it is closed, and for
    clones; but for how long a delivery can be held, which one that is open may know better.
    """
    clone = lab.backend.clone()
    lab.expect("the capabilities of a clone that is not open", clone.capabilities, lab.capabilities)
    known, found = _but_for_the_longest_run(lab.capabilities), _but_for_the_longest_run(lab.backend.capabilities)
    lab.expect("the capabilities of the open backend", found, known)
    opened = await lab.clone()
    lab.expect("the capabilities of an open clone", opened.capabilities, lab.backend.capabilities)
    await lab.shut(opened)
    found = _but_for_the_longest_run(opened.capabilities)
    lab.expect("the capabilities of a clone that was closed", found, known)


def _but_for_the_longest_run(capabilities: Capabilities) -> Capabilities:
    return dataclasses.replace(capabilities, max_run=math.inf, max_run_hint="")


@case(Promise.SAME, lacks=("peek:all",))
async def peek_that_is_not_claimed_is_not_there(lab: Lab) -> None:
    """Driver.peek of channels without the capability raises NotImplementedError; who can show one, must claim it."""
    queue = lab.queue()
    for channel in in_order(ALL_CHANNELS - lab.capabilities.peek):
        async with lab.expect_raises(f"peek of {channel}", NotImplementedError):
            await queue.peek(channel, 1)
        async with lab.expect_raises(f"peek of {channel} with ids", NotImplementedError):
            await queue.peek(channel, 1, ids=["unknown"])


@case(Promise.SAME, lacks=("cancel",))
async def cancel_that_is_not_claimed_is_not_there(lab: Lab) -> None:
    """Without the capability cancel, Driver.cancel raises NotImplementedError and removes nothing."""
    queue = lab.queue()
    sent = lab.message()
    await queue.push([sent])
    async with lab.expect_raises("cancel", NotImplementedError):
        await queue.cancel(sent.id)
    await lab.expect_back(queue, [sent])


@case(Promise.SAME, lacks=("selective:all",))
async def choosing_that_is_not_claimed_is_not_there(lab: Lab) -> None:
    """Forget, and reload with ids, of channels without selective raise NotImplementedError and move nothing."""
    for channel in in_order(CLAIMABLE["selective"] - lab.capabilities.selective):
        queue = lab.queue(title=channel)
        sent = lab.messages(2)
        await bring(lab, queue, channel, sent)
        async with lab.expect_raises(f"forget of {channel}", NotImplementedError):
            await queue.forget(channel, [sent[0].id])
        if channel in ("failed", "timeout"):
            async with lab.expect_raises(f"reload of {channel} with ids", NotImplementedError):
                await queue.reload(channel, ids=[sent[0].id])
            await lab.expect_nothing("after a reload that was refused", queue)
        await lab.expect_counts("after that", queue, **{channel: 2})


@case(Promise.SAME, lacks=("flush:all",))
async def flushing_that_is_not_claimed_is_not_there(lab: Lab) -> None:
    """Flush of a channel that the capability flush does not have raises NotImplementedError, and deletes nothing."""
    for channel in in_order(CLAIMABLE["flush"] - lab.capabilities.flush):
        queue = lab.queue(title=channel)
        await bring(lab, queue, channel, lab.messages(2))
        async with lab.expect_raises(f"flush of {channel}", NotImplementedError):
            await queue.flush(channel)
        await lab.expect_counts("after that", queue, **{channel: 2})


@case(Promise.SAME, lacks=("wait_ready",))
async def waiting_for_readiness_that_is_not_claimed_is_not_there(lab: Lab) -> None:
    """Without the capability wait_ready, Driver.wait_ready raises NotImplementedError."""
    queue = lab.queue()
    async with lab.expect_raises("wait_ready", NotImplementedError):
        await queue.wait_ready(0)


@case(Promise.IDENTICAL, lacks=("idempotent",))
async def repeated_ids_that_are_not_claimed_to_be_known_are_stored_twice(lab: Lab) -> None:
    """Without the capability idempotent, a push repeated with its id stores a second message; who knows ids, must claim
    it.
    """
    queue = lab.queue()
    sent = lab.message()
    await queue.push([sent])
    await queue.push([sent])
    lab.expect("what is handed out", ids(await lab.take(queue, 2)), [sent.id, sent.id])


@case(Promise.IDENTICAL, lacks=("unique",))
async def unique_keys_that_are_not_claimed_are_not_honoured(lab: Lab) -> None:
    """Without the capability unique, a key neither replaces nor keeps anything; who honours keys, must claim it."""
    queue = lab.queue()
    sent = [lab.message(unique_key="k"), lab.message(unique_key="k", on_duplicate="keep")]
    lab.expect("the ids that were stored", await lab.in_batches(queue.push, sent), [each.id for each in sent])
    lab.expect("what is handed out", sorted(ids(await lab.take(queue, 2))), sorted(each.id for each in sent))


# What outlives a process, and what another one sees, is asked of other processes.


async def _push_there(backend: Backend, prefix: str, id_: str) -> None:
    await backend.driver(prefix).push([Message(id=id_, name="conformance.Job", body=b"{}")])


async def _take_there(backend: Backend, prefix: str, wait: float) -> list[str]:
    queue = backend.driver(prefix)
    deliveries = await queue.pop(1, wait)
    if deliveries:
        await queue.ack(receipts(deliveries))
    return ids(deliveries)


async def _take_and_destroy(backend: Backend, prefix: str, wait: float) -> list[str]:
    taken = await _take_there(backend, prefix, wait)
    await backend.driver(prefix).destroy()
    return taken


@case(Promise.AT_LEAST_ONCE, needs=("durable",))
def what_is_durable_outlives_the_process_that_pushed_it(lab: Lab) -> None:
    """A message that a process pushed, which has ended since and was the only one, is there for the next one."""
    prefix = lab.prefix()
    in_child(lab, _push_there, prefix, "a")
    lab.expect("what the next process finds", in_child(lab, _take_and_destroy, prefix, PATIENCE), ["a"])


@case(Promise.SAME, lacks=("durable",))
def what_is_not_durable_ends_with_its_process(lab: Lab) -> None:
    """Without the capability durable, the next process finds nothing of what one pushed; where it does, durable must be
    claimed.
    """
    prefix = lab.prefix()
    in_child(lab, _push_there, prefix, "a")
    lab.expect("what the next process finds", in_child(lab, _take_and_destroy, prefix, lab.tick), [])


@case(Promise.SAME, needs=("shared",))
async def processes_that_share_a_queue_see_one_queue(lab: Lab) -> None:
    """What one process pushes, another one takes while the first goes on; and it is gone for the first."""
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    sent = lab.message()
    await queue.push([sent])
    taken = await asyncio.to_thread(in_child, lab, _take_there, prefix, PATIENCE)
    lab.expect("what another process takes", taken, [sent.id])
    await lab.expect_nothing("after another process took it", queue)
    await lab.expect_counts("after another process acked it", queue)


@case(Promise.WAITING, needs=("shared",), time_limit=60.0)
async def a_push_of_another_process_wakes_a_waiting_pop(lab: Lab) -> None:
    """A pop that waits is woken by a push of another process, long before it would have ended by itself."""
    prefix = lab.prefix()
    pop = await lab.waiting_pop(lab.queue(prefix), wait=3 * PATIENCE)  # it outlasts the start of an interpreter
    await asyncio.to_thread(in_child, lab, _push_there, prefix, "a")
    await expect_woken(lab, "a push of another process", pop, "a")


@case(Promise.SAME, lacks=("shared", "durable"))
async def a_place_that_is_not_shared_is_seen_by_nobody_else(lab: Lab) -> None:
    """Without the capability shared, another process finds nothing of what was pushed; where it does, shared must be
    claimed.
    """
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    sent = lab.message()
    await queue.push([sent])
    taken = await asyncio.to_thread(in_child, lab, _take_there, prefix, lab.tick)
    lab.expect("what another process takes", taken, [])
    await lab.expect_back(queue, [sent])


# What a backend says of itself.


@case(Promise.SAME)
async def a_place_is_told_without_secrets(lab: Lab) -> None:
    """The place is a few words for people, on one line, without a password, before and after opening; the lines of
    check too.
    """
    told = {"the place, not open": lab.backend.clone().place, "the place": lab.backend.place}
    told.update({f"line {number} of check": line for number, line in enumerate(await lab.backend.check())})
    for about, text in told.items():
        lab.expect(f"the type of {about}", type(text), str)
        lab.expect_that(bool(text.strip()) and "\n" not in text, about, text, "one line of text")
        lab.expect_that(not SECRET.search(text), about, "a URL with a password", "none, or a mask in its stead")


@case(Promise.SAME)
async def versions_are_words_for_reports(lab: Lab) -> None:
    """Versions are texts by name, whether the backend is open or not."""
    for about, backend in (("open", lab.backend), ("not open", lab.backend.clone())):
        wrong = {name: value for name, value in backend.versions.items() if not _is_text(name) or not _is_text(value)}
        lab.expect(f"versions of a backend that is {about} which are no text", wrong, {})


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


@case(Promise.SAME, alone=True)
async def a_backend_logs_nothing_of_jobs(lab: Lab) -> None:
    """Whatever becomes of a message, the backend writes neither its id nor its body to the log: telling is core's."""
    queue = lab.queue()
    mark = "conform-must-not-be-logged"
    sent = lab.message(mark, body=mark.encode())
    with _logged() as lines:
        await queue.delay([with_delay(sent, lab.tick)])
        await queue.retry(pairs([await lab.take_one(queue)], attempt=1))
        await queue.fail(pairs([await lab.take_one(queue)]), "failed")
        await queue.reload("failed")
        held = await lab.take_one(queue)
        await queue.ack([held.receipt])
        await queue.ack([held.receipt])  # stale by now
        await queue.push([sent])
        await queue.flush("waiting")
    lab.expect("what was logged of a message", [line for line in lines if mark in line], [])


@contextmanager
def _logged() -> Iterator[list[str]]:
    """The lines that anything logs meanwhile, but for those that are for debugging."""
    lines: list[str] = []
    root, handler = logging.getLogger(), logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    try:
        yield lines
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


# Opening and closing.


@case(Promise.SAME, alone=True)
def building_a_backend_touches_nothing(lab: Lab) -> None:
    """Backends, clones and drivers are made without an event loop, a file, a descriptor or a thread; opening is what
    connects.
    """
    # The least of several looks: whatever else lives in this process starts threads and opens files, too.
    looks = [_building(lab) for _ in range(5)]
    files = [str(path) for path in lab.harness.folder.rglob("*") if path.is_file()]
    lab.expect("files that were made", files, [])
    lab.expect("threads that were started", min((threads for threads, _ in looks), key=len), [])
    # Fewer there may be: what earlier cases left to be collected is closed at any time.
    lab.expect("descriptors that were opened", max(0, min(opened for _, opened in looks)), 0)


def _building(lab: Lab) -> tuple[list[str], int]:
    """What came with making backends and drivers: the names of threads, and how many descriptors."""
    before, threads = descriptors(), set(threading.enumerate())
    backends = [lab.harness.backend(), lab.backend.clone()]
    drivers = [backend.driver("{conform-never-used}") for backend in backends]
    said = [(backend.capabilities, backend.place, backend.versions) for backend in backends]
    lab.expect("how many were made", (len(drivers), len(said)), (2, 2))
    return [each.name for each in set(threading.enumerate()) - threads], descriptors() - before


def descriptors() -> int:
    """How many this process has open, where its system tells."""
    return len(os.listdir(DESCRIPTORS)) if DESCRIPTORS.is_dir() else 0  # noqa: PTH208 - names are all that is needed


@case(Promise.SAME, alone=True)
async def closing_ends_threads_and_tasks(lab: Lab) -> None:
    """When close returns, the tasks that the backend started are over, and its threads end."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    prefix = lab.prefix()
    clone = await lab.clone()
    queue = lab.queue(prefix, on=clone)
    await hold(lab, queue)
    await bring(lab, queue, "delayed", lab.messages(1))
    await queue.pop(1, lab.tick)
    await queue.info()
    await lab.shut(clone)
    left = [task.get_name() for task in asyncio.all_tasks() - tasks]
    lab.expect("tasks that are left", left, [])
    for _ in range(round(PATIENCE / lab.tick)):
        names = [each.name for each in set(threading.enumerate()) - threads]
        if not (left := [name for name in names if not name.startswith(LOOPS_THREADS)]):
            return
        await asyncio.sleep(lab.tick)
    lab.expect("threads that are left", left, [])


@case(Promise.CANCELLATION)
async def a_backend_whose_opening_was_cut_short_can_be_closed(lab: Lab) -> None:
    """Close works at whatever moment open was cancelled, and a clone of that backend can be opened."""
    for steps in range(5):
        backend = lab.backend.clone()
        opening = asyncio.create_task(backend.open())
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await backend.close()
        clone = backend.clone()
        await clone.open()
        await clone.close()


@case(Promise.SAME)
async def a_clone_of_a_closed_backend_works(lab: Lab) -> None:
    """After a backend was closed, a clone of it can be opened, and finds the queue."""
    prefix = lab.prefix()
    first = await lab.clone()
    sent = lab.message()
    await lab.queue(prefix, on=first).push([sent])
    await lab.shut(first)
    second = first.clone()
    await second.open()
    try:
        await lab.expect_back(lab.queue(prefix, on=second, title="second"), [sent])
    finally:
        await second.close()
