"""Unique keys: of the messages that wait or are delayed, one for each key, whoever pushes and however many at once."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from headrace.conformance.case import case
from headrace.conformance.lab import Lab, ids, pairs, receipts
from headrace.conformance.moves import long_delay, with_delay
from headrace.conformance.promises import Promise
from headrace.driver import Backend, Delivery, Driver

#: Threads that push at once, and how often each of them does.
THREADS: Final = 3
PUSHES: Final = 15

#: Replacements of one message: enough for a backend to tidy up what it keeps of them.
THOUSANDS: Final = 3000


@case(Promise.IDENTICAL, needs=("unique",))
async def a_push_replaces_the_waiting_message_of_its_key(lab: Lab) -> None:
    """A push with a unique key puts its message in the place of the one of that key that waits, returns its own id, and
    leaves others alone.
    """
    queue = lab.queue()
    other, plain = lab.message(unique_key="other"), lab.message()
    await lab.in_batches(queue.push, [lab.message("old", unique_key="k"), other, plain])
    new = lab.message("new", unique_key="k", body=b"new")
    lab.expect("the id that survives", list(await queue.push([new])), ["new"])
    deliveries = await lab.take(queue, 3)
    lab.expect("what is handed out", sorted(ids(deliveries)), sorted(["new", other.id, plain.id]))
    (delivery,) = [each for each in deliveries if each.message.id == "new"]
    lab.expect_same("the message that replaced the other", delivery.message, new)
    await lab.expect_nothing("after that", queue)


@case(Promise.IDENTICAL, needs=("unique",))
async def a_message_may_replace_one_that_is_due_at_another_time(lab: Lab) -> None:
    """A push replaces the delayed message of its key and a delayed one the waiting message, and the new one's time is
    what counts.
    """
    queue = lab.queue()
    await queue.push([lab.message("first", unique_key="k")])
    delayed = lab.message("second", unique_key="k", delay=long_delay(lab))
    lab.expect("the id that survives", list(await queue.delay([delayed])), ["second"])
    await lab.expect_nothing("when it is delayed", queue)
    await lab.expect_counts("when it is delayed", queue, delayed=1)
    lab.expect("the id that survives", list(await queue.push([lab.message("third", unique_key="k")])), ["third"])
    await lab.expect_counts("when it waits again", queue, waiting=1)
    lab.expect("what is handed out", (await lab.take_one(queue)).message.id, "third")


@case(Promise.IDENTICAL, needs=("unique",))
async def a_push_that_keeps_returns_the_id_of_the_pending_message(lab: Lab) -> None:
    """With on_duplicate "keep" the pending message of the key stays as it is, waiting or delayed, and its id is
    returned; where there is none, the new one is stored.
    """
    queue = lab.queue()
    old = lab.message("old", unique_key="k", on_duplicate="keep", body=b"old")
    lab.expect("the id where none is pending", list(await queue.push([old])), ["old"])
    await queue.delay([lab.message("delayed", unique_key="l", delay=long_delay(lab))])
    keeping = [lab.message(unique_key=key, on_duplicate="keep", body=b"new") for key in ("k", "l")]
    lab.expect("the ids that survive", await lab.in_batches(queue.push, keeping), ["old", "delayed"])
    delayed = with_delay(lab.message(unique_key="k", on_duplicate="keep"), long_delay(lab))
    lab.expect("the id that survives a delayed push", list(await queue.delay([delayed])), ["old"])
    await lab.expect_counts("after pushes that kept", queue, waiting=1, delayed=1)
    delivery = await lab.take_one(queue)
    lab.expect("what is handed out", (delivery.message.id, delivery.message.body), ("old", b"old"))


@case(Promise.IDENTICAL, needs=("unique",))
async def messages_of_one_key_in_one_batch_follow_each_other(lab: Lab) -> None:
    """Within a batch each message finds the key as those before it left it."""
    queue = lab.queue()
    batch = [
        lab.message("a", unique_key="k"),
        lab.message("b", unique_key="k"),
        lab.message("c", unique_key="k", on_duplicate="keep"),
        lab.message("d"),
        lab.message("e", unique_key="l", on_duplicate="keep"),
        lab.message("f", unique_key="l"),
    ]
    lab.expect("the ids that survive", await lab.in_batches(queue.push, batch), ["a", "b", "b", "d", "e", "f"])
    lab.expect("what is handed out", sorted(ids(await lab.take(queue, 3))), ["b", "d", "f"])
    await lab.expect_nothing("after that", queue)


@case(Promise.IDENTICAL, needs=("unique",), time_limit=90)
async def thousands_of_replacements_leave_one_message_and_its_neighbours(lab: Lab) -> None:
    """However often a message is replaced, its last successor is handed out, and so is what was pushed before and
    after.
    """
    queue = lab.queue()
    await queue.push([lab.message("before")])
    several = lab.messages(min(THOUSANDS, 30 * lab.capabilities.max_batch), unique_key="k")
    await lab.in_batches(queue.push, several)
    await queue.push([lab.message("after")])
    await lab.expect_counts("after all replacements", queue, waiting=3)
    taken = ids(await lab.take(queue, 3))
    lab.expect("what is handed out", sorted(taken), sorted(["before", several[-1].id, "after"]))


@case(Promise.IDENTICAL, needs=("unique",))
async def keys_are_each_queue_s_own_and_each_their_own(lab: Lab) -> None:
    """A key is held in its own queue only, and keys that resemble each other are different keys."""
    one, other = lab.queue(title="one"), lab.queue(title="other")
    keys = ["k", "K", "k ", "k:", "\N{SNOWMAN}", "k" * 200]
    sent = [lab.message(unique_key=key) for key in keys]
    await lab.in_batches(one.push, sent)
    twins = [lab.message(unique_key=key) for key in keys]
    await lab.in_batches(other.push, twins)
    lab.expect("what the one queue has", sorted(ids(await lab.take(one, 6))), sorted(each.id for each in sent))
    lab.expect("what the other has", sorted(ids(await lab.take(other, 6))), sorted(each.id for each in twins))


async def _hold(lab: Lab, queue: Driver, held: list[Delivery]) -> None:
    pass


async def _retry(lab: Lab, queue: Driver, held: list[Delivery]) -> None:
    await queue.retry(pairs(held, attempt=1))


async def _retry_later(lab: Lab, queue: Driver, held: list[Delivery]) -> None:
    await queue.retry(pairs(held, attempt=1, delay=long_delay(lab)))


async def _fail(lab: Lab, queue: Driver, held: list[Delivery]) -> None:
    await queue.fail(pairs(held), "failed")


async def _reload(lab: Lab, queue: Driver, held: list[Delivery]) -> None:
    await queue.fail(pairs(held), "failed")
    await queue.reload("failed")


async def _ack(lab: Lab, queue: Driver, held: list[Delivery]) -> None:
    await queue.ack(receipts(held))


#: What may have become of a message that was popped, and the counts that it then makes up.
AFTER_ITS_POP: Final[dict[str, tuple[Callable[[Lab, Driver, list[Delivery]], Awaitable[None]], dict[str, int]]]] = {
    "reserved": (_hold, {"reserved": 1}),
    "given back": (_retry, {"waiting": 1}),
    "given back for later": (_retry_later, {"delayed": 1}),
    "failed": (_fail, {"failed": 1}),
    "reloaded": (_reload, {"waiting": 1}),
    "acked": (_ack, {}),
}


@case(Promise.IDENTICAL, needs=("unique",))
async def a_key_is_free_from_the_first_pop_on(lab: Lab) -> None:
    """A message that was popped never owns its key again, whatever becomes of it: pushes of that key neither replace
    nor keep it.
    """
    for state, (bring_there, counts) in AFTER_ITS_POP.items():
        queue = lab.queue(title=state)
        await queue.push([lab.message("old", unique_key="k")])
        await bring_there(lab, queue, [await lab.take_one(queue)])
        keeping = lab.message("new", unique_key="k", on_duplicate="keep")
        lab.expect(
            f"the id of a push that keeps, when the old one is {state}", list(await queue.push([keeping])), ["new"]
        )
        replacing = lab.message("newer", unique_key="k")
        lab.expect(f"the id of a push, when the old one is {state}", list(await queue.push([replacing])), ["newer"])
        # The old one where it was, and one new one.
        expected = {**counts, "waiting": counts.get("waiting", 0) + 1}
        await lab.expect_counts(f"when the old one is {state}", queue, **expected)


@case(Promise.IDENTICAL, needs=("unique",))
async def a_key_is_not_owned_again_by_what_came_back_from_a_lost_worker(lab: Lab) -> None:
    """A message whose worker was lost waits again without its key."""
    prefix = lab.prefix()
    queue = lab.queue(prefix)
    await queue.push([lab.message("old", unique_key="k")])
    worker = await lab.clone()
    await lab.take_one(lab.queue(prefix, on=worker, lease_seconds=2 * lab.tick, title="lost worker"))
    await lab.shut(worker)
    await lab.elapse(3 * lab.tick)
    keeping = lab.message("new", unique_key="k", on_duplicate="keep")
    lab.expect("the id of a push that keeps", list(await queue.push([keeping])), ["new"])
    lab.expect("the id of a push", list(await queue.push([lab.message("newer", unique_key="k")])), ["newer"])
    lab.expect("what is handed out", sorted(ids(await lab.take(queue, 2))), ["newer", "old"])


@case(Promise.IDENTICAL, needs=("unique",))
async def a_key_is_free_when_its_message_was_removed(lab: Lab) -> None:
    """Flushing, destroying, and where it can be done cancelling, frees the keys of what is removed."""
    removals: dict[str, Callable[[Driver], Awaitable[Any]]] = {
        "flushed": lambda queue: queue.flush("waiting"),
        "destroyed": lambda queue: queue.destroy(),
    }
    if lab.capabilities.cancel:
        removals["cancelled"] = lambda queue: queue.cancel("old")
    for removal, remove in removals.items():
        queue = lab.queue(title=removal)
        await queue.push([lab.message("old", unique_key="k")])
        await remove(queue)
        keeping = lab.message("new", unique_key="k", on_duplicate="keep")
        lab.expect(f"the id of a push after the old one was {removal}", list(await queue.push([keeping])), ["new"])
        lab.expect("what is handed out", (await lab.take_one(queue)).message.id, "new")


@case(Promise.IDENTICAL, needs=("unique", "idempotent"))
async def a_repeated_push_of_a_unique_message_stores_nothing_new(lab: Lab) -> None:
    """A push that is repeated with its id and its key returns that id, and there is one message; so too when it has
    been popped since.
    """
    queue = lab.queue()
    message = lab.message(unique_key="k")
    for _ in range(2):
        lab.expect("the id while it waits", list(await queue.push([message])), [message.id])
    await lab.take_one(queue)
    lab.expect("the id while it is reserved", list(await queue.push([message])), [message.id])
    await lab.expect_nothing("after the pushes were repeated", queue)


@case(Promise.IDENTICAL, needs=("unique",))
async def of_many_who_replace_at_once_one_message_remains(lab: Lab) -> None:
    """However many threads and connections push one key at once, each gets its own id, and exactly one message is
    pending in the end.
    """
    prefix = lab.prefix()

    async def push(backend: Backend) -> list[tuple[str, Any]]:
        queue = lab.queue(prefix, on=backend, title="pusher")
        stored: list[tuple[str, Any]] = []
        for _ in range(PUSHES):
            message = lab.message(unique_key="k")
            (survivor,) = await queue.push([message])
            stored.append((message.id, survivor))
        return stored

    stored = [each for pushed in await lab.on_threads(THREADS, push) for each in pushed]
    lab.expect("ids that are not their push's own", [each for each in stored if each[0] != each[1]], [])
    queue = lab.queue(prefix)
    await lab.expect_counts("after all pushed", queue, waiting=1)
    await lab.take_one(queue)
    await lab.expect_nothing("after the one that remained", queue)


@case(Promise.IDENTICAL, needs=("unique",))
async def of_many_who_keep_at_once_all_get_the_same_id(lab: Lab) -> None:
    """However many threads and connections push one key at once and keep what is pending, all are given the id of the
    one message.
    """
    prefix = lab.prefix()

    async def push(backend: Backend) -> set[Any]:
        queue = lab.queue(prefix, on=backend, title="pusher")
        return {
            survivor
            for _ in range(PUSHES)
            for survivor in await queue.push([lab.message(unique_key="k", on_duplicate="keep")])
        }

    survivors = {each for given in await lab.on_threads(THREADS, push) for each in given}
    lab.expect_that(len(survivors) == 1, "the ids that were given", survivors, "one and the same")
    queue = lab.queue(prefix)
    lab.expect("the message that is pending", (await lab.take_one(queue)).message.id, *survivors)
    await lab.expect_nothing("after it", queue)
