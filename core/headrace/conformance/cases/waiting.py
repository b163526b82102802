"""Waiting: woken at once by whatever makes a message due, and idle at no cost."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from headrace.conformance.case import case
from headrace.conformance.lab import LONG_LEASE, PATIENCE, Lab, ids, pairs
from headrace.conformance.moves import bring, hold, long_delay, with_delay
from headrace.conformance.promises import Promise
from headrace.driver import Backend, Delivery, Driver, Message

#: Seconds in which the fastest of `TRIES` wake-ups comes: below the pause of a driver that looks once a second.
AT_ONCE: Final = 0.5
TRIES: Final = 4

#: Seconds until a pop that was woken has its message on any machine. Far less than it would wait, so that
#: it tells a wake-up from the last look of a pop whose time is up.
WOKEN: Final = PATIENCE / 2

#: Seconds for which idleness is measured, and the share of a processor that it may take: what watches
#: the clock now and then takes far less, what looks again and again far more.
IDLE_SECONDS: Final = 3.0
IDLE_SHARE: Final = 0.04

#: Commands a second of an idle caller: about one, and as many again for connections' signs of life.
IDLE_COMMANDS: Final = 2.0


async def expect_woken(lab: Lab, by: str, pop: Awaitable[Sequence[Delivery]], message_id: str) -> Delivery:
    """Await a pop, and fail unless it hands out this message long before it would have ended by itself."""
    began = time.monotonic()
    deliveries = await pop
    seconds = time.monotonic() - began
    lab.expect(f"what a waiting pop hands out after {by}", ids(deliveries), [message_id])
    lab.expect_that(seconds < WOKEN, f"seconds until {by} wakes a pop", f"{seconds:.2f}", f"less than {WOKEN:g}")
    return deliveries[0]


# A push.


async def _expect_at_once(lab: Lab, queue: Driver, push: Callable[[Message], Awaitable[Any]]) -> None:
    """Fail unless a push reaches a waiting pop at once, in the best of some tries: the machine may be busy."""
    fastest = PATIENCE
    for _ in range(TRIES):
        sent = lab.message()
        pop = await lab.waiting_pop(queue)
        await push(sent)
        began = time.monotonic()
        await expect_woken(lab, "a push", pop, sent.id)
        fastest = min(fastest, time.monotonic() - began)
        if fastest < AT_ONCE:
            return
    lab.expect_that(False, f"seconds of the fastest of {TRIES} wake-ups", f"{fastest:.2f}", f"less than {AT_ONCE}")


@case(Promise.WAITING)
async def a_push_wakes_a_waiting_pop_at_once(lab: Lab) -> None:
    """A pop that waits is woken at once by a push on the same backend."""
    queue = lab.queue()
    await _expect_at_once(lab, queue, lambda message: queue.push([message]))


@case(Promise.WAITING)
async def a_push_of_a_clone_wakes_a_waiting_pop_at_once(lab: Lab) -> None:
    """A pop that waits is woken at once by a push on another backend for the same place."""
    prefix = lab.prefix()
    pusher = lab.queue(prefix, on=await lab.clone(), title="a clone's")
    await _expect_at_once(lab, lab.queue(prefix), lambda message: pusher.push([message]))


@case(Promise.WAITING)
async def a_push_from_another_thread_wakes_a_waiting_pop_at_once(lab: Lab) -> None:
    """A pop that waits is woken at once by a push from another thread's event loop."""
    prefix = lab.prefix()

    async def push(message: Message) -> None:
        async def there(backend: Backend) -> None:
            await lab.queue(prefix, on=backend, title="a thread's").push([message])

        await lab.elsewhere(there)

    await _expect_at_once(lab, lab.queue(prefix), push)


@case(Promise.WAITING)
async def every_waiting_pop_is_woken_when_there_is_a_message_for_each(lab: Lab) -> None:
    """When several pops wait, on several backends, and as many messages are pushed, each of them gets one."""
    prefix = lab.prefix()
    queues = [lab.queue(prefix), lab.queue(prefix), lab.queue(prefix, on=await lab.clone(), title="a clone's")]
    pops = [await lab.waiting_pop(queue) for queue in queues]
    sent = lab.messages(len(pops))
    await lab.in_batches(lab.queue(prefix, title="pusher").push, sent)
    began = time.monotonic()
    came = [delivery for pop in pops for delivery in await pop]
    seconds = time.monotonic() - began
    lab.expect("the ids that came", sorted(ids(came)), sorted(each.id for each in sent))
    lab.expect_that(seconds < WOKEN, "seconds until all had theirs", f"{seconds:.2f}", f"less than {WOKEN:g}")


@case(Promise.WAITING)
async def a_cancelled_pop_leaves_the_wake_up_to_others(lab: Lab) -> None:
    """When one of two waiting pops is cancelled, a push wakes the other one."""
    prefix = lab.prefix()
    cancelled = await lab.waiting_pop(lab.queue(prefix, title="cancelled"))
    pop = await lab.waiting_pop(lab.queue(prefix, title="other"))
    cancelled.cancel()
    await asyncio.wait([cancelled])
    sent = lab.message()
    await lab.queue(prefix, title="pusher").push([sent])
    await expect_woken(lab, "a push", pop, sent.id)


@case(Promise.CANCELLATION)
async def a_pop_cancelled_as_it_is_woken_swallows_no_message(lab: Lab) -> None:
    """When one of two waiting pops is cancelled in the moment of a push, it has the message, or the other gets it."""
    for number in range(2):
        prefix = lab.prefix()
        pops = [await lab.waiting_pop(lab.queue(prefix, lease_seconds=2 * lab.tick, title=each)) for each in ("a", "b")]
        sent = lab.message()
        await lab.queue(prefix, title="pusher").push([sent])
        cancelled, other = pops[number], pops[1 - number]
        cancelled.cancel()
        await asyncio.wait([cancelled])
        came = [] if cancelled.cancelled() else ids(cancelled.result())
        if not came:
            await expect_woken(lab, "a push", other, sent.id)
        else:
            lab.expect("what the cancelled pop hands out", came, [sent.id])


@case(Promise.WAITING)
async def a_push_to_one_queue_does_not_end_the_wait_for_another(lab: Lab) -> None:
    """A pop goes on waiting while other queues of its backend are pushed to, and is woken by a push to its own."""
    queue, other = lab.queue(), lab.queue(title="other")
    pop = await lab.waiting_pop(queue)
    await lab.in_batches(other.push, lab.messages(3))
    await lab.elapse(lab.tick)
    lab.expect_that(not pop.done(), "a pop, after a push to another queue", "it has ended", "it waits")
    sent = lab.message()
    await queue.push([sent])
    await expect_woken(lab, "a push", pop, sent.id)


# What falls due.


@case(Promise.WAITING)
async def a_delay_that_ends_wakes_a_waiting_pop(lab: Lab) -> None:
    """A pop that waits is woken when a message falls due that was delayed before it began."""
    queue = lab.queue()
    sent = lab.message(delay=2 * lab.tick)
    await queue.delay([sent])
    await expect_woken(lab, "the end of a delay", queue.pop(1, PATIENCE), sent.id)


@case(Promise.WAITING)
async def a_delay_that_begins_and_ends_meanwhile_wakes_a_waiting_pop(lab: Lab) -> None:
    """A pop that waits is woken by a message that was delayed, by a clone, while it waited already."""
    prefix = lab.prefix()
    other = lab.queue(prefix, on=await lab.clone(), title="a clone's")
    await bring(lab, other, "delayed", [lab.message()])
    pop = await lab.waiting_pop(lab.queue(prefix))
    sent = lab.message(delay=lab.tick)
    await other.delay([sent])
    await expect_woken(lab, "the end of a delay", pop, sent.id)


@case(Promise.WAITING, needs=("timed_leases",))
async def a_lease_that_ends_wakes_a_waiting_pop(lab: Lab) -> None:
    """A pop that waits is woken when a lease ends, that of a clone's delivery too."""
    prefix = lab.prefix()
    holder = lab.queue(prefix, on=await lab.clone(), lease_seconds=3 * lab.tick, title="holder")
    (held,) = await hold(lab, holder)
    await expect_woken(lab, "the end of a lease", lab.queue(prefix).pop(1, PATIENCE), held.message.id)


@case(Promise.WAITING, needs=("timed_leases",))
async def a_lease_that_begins_and_ends_meanwhile_wakes_a_waiting_pop(lab: Lab) -> None:
    """Of two pops that wait for the one message that comes, the loser is woken by the end of the winner's lease."""
    prefix = lab.prefix()
    queue = lab.queue(prefix, lease_seconds=2 * lab.tick)
    other = lab.queue(prefix, on=await lab.clone(), lease_seconds=2 * lab.tick, title="a clone's")
    pops = [await lab.waiting_pop(queue), await lab.waiting_pop(other)]
    sent = lab.message()
    await queue.push([sent])
    deliveries = [await expect_woken(lab, "a push or the end of a lease", pop, sent.id) for pop in pops]
    first, second = sorted(each.count for each in deliveries)
    lab.expect("how often it was handed out at first", first, 1)
    if lab.capabilities.counts == "exact":
        lab.expect("how often it was handed out in the end", second, 2)
    else:  # what counts a message that it hands to a process may have had to do so twice until one got it in time
        lab.expect_that(second >= 2, "how often it was handed out in the end", second, "2, or somewhat more")


@case(Promise.WAITING, needs=("timed_leases",))
async def a_lease_that_is_cut_short_wakes_a_waiting_pop(lab: Lab) -> None:
    """A pop that waits is woken by the end of a lease which a clone has made shorter meanwhile."""
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    (held,) = await hold(lab, queue)
    pop = await lab.waiting_pop(queue)
    await lab.queue(prefix, on=await lab.clone(), title="a clone's").extend([held.receipt], lab.tick)
    await expect_woken(lab, "the end of a lease", pop, held.message.id)


@case(Promise.WAITING)
async def a_message_that_is_given_back_wakes_a_waiting_pop(lab: Lab) -> None:
    """A pop that waits is woken by a retry: at once, or when the retry's delay is over."""
    prefix = lab.prefix()
    holder = lab.queue(prefix, title="holder")
    queue = lab.queue(prefix, on=await lab.clone())
    for delay in (0.0, lab.tick):
        (held,) = await hold(lab, holder)
        pop = await lab.waiting_pop(queue)
        await holder.retry(pairs([held], delay=delay))
        delivery = await expect_woken(lab, f"a retry with the delay {delay:g}", pop, held.message.id)
        await queue.ack([delivery.receipt])


# Waiting without reserving.


@case(Promise.WAITING, needs=("wait_ready",))
async def wait_ready_says_no_when_there_is_nothing_to_pop(lab: Lab) -> None:
    """Where nothing is due, be the queue empty or full of what is reserved or delayed, it says false after its time.

    It may say true once too often: once, not again and again.
    """
    empty, full = lab.queue(title="empty"), lab.queue(title="full")
    await hold(lab, full)
    await bring(lab, full, "delayed", [lab.message()])
    for queue in (empty, full):
        answers = [await queue.wait_ready(seconds) for seconds in (0, 0, lab.tick)]
        lab.expect_that(answers.count(True) <= 1, "three answers where nothing is due", answers, "at most one true")
    began = time.monotonic()
    if not await empty.wait_ready(2 * lab.tick):
        seconds = time.monotonic() - began
        lab.expect_that(
            seconds >= 2 * lab.tick - lab.tolerance, "seconds until it said no", f"{seconds:.3f}", "its time"
        )


@case(Promise.WAITING, needs=("wait_ready",))
async def wait_ready_reserves_nothing(lab: Lab) -> None:
    """Where a message waits it says true at once, any number of times, and the message stays for the next pop."""
    queue = lab.queue()
    sent = lab.message()
    await queue.push([sent])
    began = time.monotonic()
    answers = [await queue.wait_ready(seconds) for seconds in (0, PATIENCE, PATIENCE)]
    seconds = time.monotonic() - began
    lab.expect("its answers while a message waits", answers, [True, True, True])
    lab.expect_that(seconds < WOKEN, "seconds of three calls while a message waits", f"{seconds:.2f}", "no wait")
    await lab.expect_counts("after that", queue, waiting=1)
    (delivery,) = await lab.expect_back(queue, [sent])
    lab.expect("how often it was handed out", delivery.count, 1)


@case(Promise.WAITING, needs=("wait_ready",))
async def wait_ready_is_woken_as_a_pop_is(lab: Lab) -> None:
    """It says true as soon as a message is pushed, by a clone too, or falls due."""
    prefix = lab.prefix()
    queue, other = lab.queue(prefix), lab.queue(prefix, on=await lab.clone(), title="a clone's")
    for by, delay in (("a push", 0.0), ("the end of a delay", lab.tick)):
        ready = lab.start(queue.wait_ready(PATIENCE))
        await lab.elapse(lab.tick)
        sent = lab.message(delay=delay)
        await (other.delay if delay else other.push)([sent])
        began = time.monotonic()
        lab.expect(f"its answer after {by}", await ready, True)
        seconds = time.monotonic() - began
        lab.expect_that(seconds < WOKEN, f"seconds until {by} is seen", f"{seconds:.2f}", f"less than {WOKEN:g}")
        await lab.expect_back(queue, [sent])


# Idleness.


@case(Promise.WAITING, alone=True)
async def an_idle_pop_costs_next_to_nothing(lab: Lab) -> None:
    """A pop that waits, be it beside messages that are delayed or reserved, leaves the processor to others."""
    queue, other = lab.queue(), lab.queue(title="other")
    await hold(lab, queue)
    await queue.delay([with_delay(lab.message(), long_delay(lab))])
    shares: list[float] = []
    while len(shares) < TRIES:  # the least of them, as others of this process may have had something to do
        began = time.process_time()
        await asyncio.gather(queue.pop(1, IDLE_SECONDS), other.pop(1, IDLE_SECONDS))
        shares.append((time.process_time() - began) / IDLE_SECONDS)
        if shares[-1] < IDLE_SHARE:
            return
    found = ", ".join(f"{share:.1%}" for share in shares)
    lab.expect_that(False, "the share of a processor, each time", found, f"less than {IDLE_SHARE:.0%} once")


@case(Promise.WAITING, abilities=("commands",), alone=True)
async def an_idle_pop_sends_few_commands(lab: Lab) -> None:
    """An idle caller costs the backend about one command a second at most."""
    queue = lab.queue(lease_seconds=LONG_LEASE)
    await queue.pop(1, 0)  # whatever it does once
    before = await lab.harness.commands()
    for _ in range(2):
        await queue.pop(1, IDLE_SECONDS)
    sent = await lab.harness.commands() - before
    most = IDLE_COMMANDS * 2 * IDLE_SECONDS
    lab.expect_that(sent <= most, f"commands in {2 * IDLE_SECONDS:g} s", sent, f"at most {most:g}")
