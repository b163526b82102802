"""One process of a contender: ``python -m peers.child ADAPTER produce|work PLACE``.

``ADAPTER`` is a module of `peers.adapters` and a class in it, as in ``with_celery:Celery``, and ``PLACE`` a
`Place` in JSON. A worker works until SIGTERM comes. A producer first says on its standard
output, in a line of JSON, which versions it has; then it is told what to do in lines on its
standard input, and answers each with one more:

    {"do": "push", "first": 0, "count": 100, "seconds": null, "bulk": true}   {"count": 100, "seconds": 0.01}
    {"do": "pace", "first": 0, "count": 100, "rate": 100}                     {"pushed": [2.01, 2.02, ...]}
    {"do": "left"}                                                           {"left": 0}

It ends with its standard input. ``adapters/with_bullmq.mjs`` speaks the same.
"""

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Any, Final, TypeAlias

from peers.base import Adapter, Place, run_loop

#: Jobs that are pushed one by one between two looks at the clock.
ONE_BY_ONE: Final = 20

#: Seconds before a job is due at which a pace no longer sleeps: a loop's timer is late by up to a millisecond.
SPIN: Final = 0.0012

Answer: TypeAlias = dict[str, Any]


async def _push(adapter: Adapter, first: int, count: int | None, seconds: float | None, bulk: bool) -> Answer:
    """Push ``count`` jobs, or as many as go into ``seconds``."""
    push, step = (adapter.push_bulk, adapter.bulk) if bulk else (adapter.push, ONE_BY_ONE)
    pushed = 0
    began = time.monotonic()
    while pushed < count if count is not None else time.monotonic() - began < (seconds or 0):
        size = step if count is None else min(step, count - pushed)
        await push(range(first + pushed, first + pushed + size))
        pushed += size
    return {"count": pushed, "seconds": time.monotonic() - began}


async def _pace(adapter: Adapter, first: int, count: int, rate: float) -> Answer:
    """Push at a fixed rate, each job when it is due, or as soon after that as the library is free."""
    pushed = []
    began = time.monotonic()
    for number in range(count):
        due = began + number / rate
        late = time.monotonic() >= due
        while (ahead := due - time.monotonic()) > 0:
            await asyncio.sleep(max(0.0, ahead - SPIN))
        # What a slow push holds up counts from when it was due; that a timer was late is nobody's fault.
        pushed.append(due if late else time.monotonic())
        await adapter.push([first + number])
    return {"pushed": pushed}


async def _left(adapter: Adapter) -> Answer:
    return {"left": await adapter.left()}


_ORDERS: Final[dict[str, Callable[..., Awaitable[Answer]]]] = {"push": _push, "pace": _pace, "left": _left}


async def _produce(adapter: Adapter, answer: Callable[[Answer], None]) -> None:
    await adapter.open()
    try:
        answer({"versions": _versions(adapter.distributions)})
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            answer(await _ORDERS[order.pop("do")](adapter, **order))
    finally:
        await adapter.close()


def _versions(distributions: Sequence[str]) -> dict[str, str]:
    """Of those that this process uses."""
    return {name: version(name) for name in distributions if name.replace("-", "_") in sys.modules}


def main() -> None:
    name, what, text = sys.argv[1:]
    module, _, kind = name.partition(":")
    place = Place(**json.loads(text))
    # Libraries print. The answers have the standard output to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    adapter: Adapter = getattr(importlib.import_module(f"peers.adapters.{module}"), kind)(place)

    def answer(what: Answer) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    if what == "work":
        adapter.work()
    else:
        run_loop(place, lambda: _produce(adapter, answer))


if __name__ == "__main__":
    main()
