"""An application that pushes orders of all kinds, each until it is confirmed: ``python produce.py RATE``.

Ends when it is told to by SIGTERM, after a last order for each unique key.
"""

import asyncio
import random
import signal
import sys
from itertools import count
from typing import Any, Final

from soak_jobs import Kind, Order, note, reporting

from headrace import Headrace
from headrace.errors import BackendError
from headrace.queue import Queue

#: Of a hundred orders, how many are of each kind.
SHARES: Final[dict[Kind, int]] = {
    "plain": 52,
    "delayed": 20,
    "retrying": 10,
    "failing": 5,
    "late": 3,
    "large": 2,
    "long": 2,
    "unique": 6,
}

#: The words of a push of each kind.
WORDS: Final[dict[Kind, dict[str, Any]]] = {
    "retrying": {"max_retries": 1, "retry_seconds": 0.5},
    "late": {"handle_timeout": 0.2},
}

#: Characters of a large order.
LARGE: Final = 200_000

#: Keys of the unique ones.
KEYS: Final = ("red", "green", "blue")


async def produce(rate: float) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Headrace.load() as app, reporting():
        queue, numbers = app.queue(), count()
        shares = {kind: share for kind, share in SHARES.items() if kind != "unique" or queue.capabilities.unique}
        while not stopped.is_set():
            (kind,) = random.choices([*shares], [*shares.values()])
            number = next(numbers)
            words = dict(WORDS.get(kind, {}))
            if kind == "delayed":
                words["delay"] = random.uniform(0.5, 5)
            if kind == "unique":
                # One that is pending is replaced, so none of them has to run.
                await push(queue, number, kind, {**words, "unique": random.choice(KEYS)})
            else:
                await push(queue, number, kind, words)
                note("confirmed", str(number))
            await asyncio.sleep(random.uniform(0, 2 / rate))
        if "unique" in shares:
            for key in KEYS:
                number = next(numbers)
                await push(queue, number, "unique", {"unique": key})
                note("confirmed", str(number))


async def push(queue: Queue, number: int, kind: Kind, words: dict[str, Any]) -> None:
    order = Order(number=number, kind=kind, filling="x" * LARGE if kind == "large" else "")
    while True:
        try:
            await queue.push(order, id=f"{number:032x}", **words)
            return
        except BackendError:
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(produce(float(sys.argv[1])))
