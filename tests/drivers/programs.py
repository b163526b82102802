"""Programs that tests run as processes of their own: ``python programs.py NAME FILE ...``.

Each prints what it has confirmed, line by line, so that a test may kill it at any moment.
"""

import asyncio
import resource
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from headrace.driver import Message
from headrace.errors import BackendUnavailable
from headrace_sqlite.backend import SqliteBackend


def say(text: object) -> None:
    print(text, flush=True)


async def push(backend: SqliteBackend, name: str, count: str = "1000000", size: str = "100") -> None:
    """Push in batches of ten and print the ids of each as it is confirmed."""
    driver = backend.driver("{q}")
    for start in range(0, int(count), 10):
        batch = [Message(id=f"{name}-{start + n}", name="Job", body=b"x" * int(size)) for n in range(10)]
        say(" ".join(str(stored) for stored in await driver.push(batch)))


async def consume(backend: SqliteBackend, stop_after: str = "1.0") -> None:
    """Pop and ack until nothing has come for a while; print what was acked."""
    driver = backend.driver("{q}")
    say("ready")
    while deliveries := await driver.pop(7, float(stop_after)):
        await driver.ack([delivery.receipt for delivery in deliveries])
        say(" ".join(delivery.message.id for delivery in deliveries))


async def hold(backend: SqliteBackend, lease_seconds: str) -> None:
    """Reserve a message, and never settle it."""
    driver = backend.driver("{q}", lease_seconds=float(lease_seconds))
    (delivery,) = await driver.pop(1, 10)
    say(delivery.message.id)
    await asyncio.sleep(1000)


async def fill(backend: SqliteBackend) -> None:
    """Push until files may not grow any more, then let them, and push again."""
    driver = backend.driver("{q}")
    stored = 0
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        while True:
            stored += len(await driver.push([Message(id=f"a{stored}", name="Job", body=b"x" * 50_000)]))
    except BackendUnavailable as error:
        say(error)
    say(stored == (await driver.info()).waiting)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    say(await driver.push([Message(id="after", name="Job", body=b"")]))
    say(stored + 1 == (await driver.info()).waiting)


async def main(name: str, path: str, *arguments: str) -> None:
    backend = SqliteBackend(Path(path))
    await backend.open()
    programs: dict[str, Callable[..., Awaitable[None]]] = {"push": push, "consume": consume, "hold": hold, "fill": fill}
    await programs[name](backend, *arguments)
    await backend.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
