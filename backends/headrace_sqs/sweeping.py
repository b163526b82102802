"""Going through a queue: all of its messages that can be received, ten by ten, and what is done with them.

SQS cannot list. Who wants to see receives, which hides a message from others for a time, and lets it be seen
again afterwards. So what is seen here is what SQS had at hand, once; others who look at
the same time see the rest.
"""

import heapq
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from headrace.driver import Message, Page
from headrace_sqs.batches import TEN
from headrace_sqs.service import Received, Service

#: Seconds for which messages are hidden that are moved or deleted, which is at once: many times what that takes. If
#: the process ends in the middle of it, or an answer is lost, they are seen again after that.
_MOVING: Final = 5

#: The same for messages that are looked at, until all of a queue has been.
_LOOKING: Final = 20

#: What is done with the messages of one round; false when no more are wanted.
Work = Callable[[list[Received]], Awaitable[bool]]


async def sweep(service: Service, name: str, work: Work, limit: int | None = None, *, hidden: int = _MOVING) -> None:
    """Receive what a queue holds, at most ``limit``, and do the work with it, round by round.

    What was stored since it began is left alone, and ends it when nothing else comes: a sweep ends,
    though what it moves comes back at once.
    """
    left, requests = limit, 1
    began = service.calls.clock.latest()
    seen: set[str] = set()
    while left is None or left > 0:
        came = await receive_round(service, name, requests, left, hidden)
        began = min((began, *(each.hidden for each in came)))
        news = [each for each in came if each.stored <= began and each.key not in seen]
        keys = {each.key for each in news}
        seen |= keys
        await _let_be_seen(service, name, [each.handle for each in came if each.key not in keys])
        if not news or not await work(news):
            return
        left = None if left is None else left - len(news)
        requests = service.settings.receivers if len(came) == requests * TEN else 1


async def receive_round(service: Service, name: str, requests: int, left: int | None, hidden: int) -> list[Received]:
    """What some requests bring that do not wait. If that is nothing, and SQS counts some, one that does."""
    sizes = (
        [TEN] * requests if left is None else [min(TEN, left - at) for at in range(0, min(left, requests * TEN), TEN)]
    )
    tasks = [service.begin(service.receive_existing(name, size, 0, hidden)) for size in sizes]
    await service.in_time(tasks, 0)
    came = [received for task in tasks for received in service.result(task)]
    if came:
        return came
    if await service.queues.counts(name, ("ApproximateNumberOfMessages",)) == [0]:
        return []
    waiting = service.begin(service.receive_existing(name, sizes[0], 1, hidden))
    await service.in_time([waiting], 1)
    return service.result(waiting)


async def look(service: Service, name: str, limit: int, cursor: str | None, ids: Collection[str] | None) -> Page:
    """A page of a queue's messages, in the order in which SQS stored them.

    All of it is received for each page; with ``ids`` until each of them was found once.
    """
    after = _place_of(cursor) if cursor is not None else (-1.0, "")
    shown: list[tuple[tuple[float, str], Message]] = []
    handles: dict[str, str] = {}
    missing = set(ids or ())

    async def see(came: list[Received]) -> bool:
        nonlocal shown
        handles.update((each.key, each.handle) for each in came)
        missing.difference_update(each.unpacked.message.id for each in came)
        found = [
            ((each.stored, each.key), each.unpacked.message)
            for each in came
            if (each.stored, each.key) > after and (ids is None or each.unpacked.message.id in ids)
        ]
        # One more than are shown tells whether there is more. The rest is let go, as bodies may be large.
        shown = heapq.nsmallest(limit + 1, dict((*shown, *found)).items(), key=_place)
        return ids is None or bool(missing)

    try:
        await sweep(service, name, see, hidden=_LOOKING)
    finally:
        await _let_be_seen(service, name, list(handles.values()))
    page = shown[:limit]
    return Page([message for _, message in page], _cursor_of(page[-1][0]) if len(shown) > limit and page else None)


def _place(shown: tuple[tuple[float, str], Message]) -> tuple[float, str]:
    return shown[0]


def _cursor_of(place: tuple[float, str]) -> str:
    return f"{place[0]!r} {place[1]}"


def _place_of(cursor: str) -> tuple[float, str]:
    stored, _, key = cursor.partition(" ")
    return float(stored), key


async def pick(
    service: Service,
    name: str,
    ids: Collection[str],
    work: Callable[[list[Received]], Awaitable[None]],
    limit: int | None = None,
) -> None:
    """Do the work with messages of these ids, ``limit`` at most, and let the others be seen again.

    Ends when each id was found once; of a duplicate the second one may stay.
    """
    wanted = set(ids)
    others: list[str] = []
    left = len(wanted) if limit is None else min(limit, len(wanted))

    async def choose(came: list[Received]) -> bool:
        nonlocal left
        chosen: list[Received] = []
        for each in came:
            id_ = each.unpacked.message.id
            if id_ in wanted and left:
                wanted.discard(id_)
                left -= 1
                chosen.append(each)
            else:
                others.append(each.handle)
        if chosen:
            await work(chosen)
        return left > 0

    if not left:
        return
    try:
        await sweep(service, name, choose, hidden=_LOOKING)
    finally:
        await _let_be_seen(service, name, others)


async def _let_be_seen(service: Service, name: str, handles: Sequence[str]) -> None:
    if handles:
        await service.hide(name, [(each, 0) for each in handles])
