"""Programs that tests run as processes of their own: ``python programs.py NAME FILE ...``.

Each prints what it has confirmed, line by line, so that a test may kill it at any moment.
"""

import asyncio
import atexit
import resource
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from headrace import Headrace, Job
from headrace.driver import Message
from headrace.errors import BackendUnavailable
from headrace.queue import Queue
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


async def leave(backend: SqliteBackend, verb: str) -> None:
    """Push, and leave the rest to the interpreter's exit, when no executor takes work any more."""
    await backend.driver("{q}").push([Message(id="a", name="Job", body=b"")])
    loop = asyncio.get_running_loop()
    loop.close = lambda: None  # type: ignore[method-assign]  # it is needed once more

    async def end() -> None:
        if verb == "push":
            await backend.driver("{q}").push([Message(id="late", name="Job", body=b"")])
        await backend.close()

    atexit.register(lambda: loop.run_until_complete(end()))


class Big(Job):
    """Takes up space, and says when it ran."""

    number: int
    filling: str

    async def handle(self) -> None:
        ran.add(self.number)


ran: set[int] = set()


async def work_when_full(backend: SqliteBackend) -> None:
    """A worker on a file that may not grow for a while: it lives on, and every job that was confirmed runs."""
    app = Headrace({"backends": {"sqlite": {"path": backend.place}}, "queues": {"default": {"retry_seconds": 0.1}}})
    async with app:
        queue = app.queue()
        await queue.push_many([Big(number=n, filling="x" * 10_000) for n in range(300)])
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = max(file.stat().st_size for file in Path(backend.place).parent.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        pushed = 300
        try:
            while True:
                await queue.push(Big(number=pushed, filling="x" * 100_000))
                pushed += 1
        except BackendUnavailable:
            say("full")
        working = asyncio.create_task(app.worker(concurrency=10).run(until_empty=False))
        await asyncio.sleep(1)
        assert not working.done()
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        deadline = asyncio.get_running_loop().time() + 30
        while (await counts(queue)) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        say("every job ran" if ran >= set(range(pushed)) else f"lost: {set(range(pushed)) - ran}")
        say("nothing is left" if not await counts(queue) else await counts(queue))
        working.cancel()
        await asyncio.wait([working])


async def counts(queue: Queue) -> dict[str, int]:
    info = await queue.info()
    return {name: count for name in ("waiting", "reserved", "delayed", "failed") if (count := getattr(info, name))}


async def main(name: str, path: str, *arguments: str) -> None:
    backend = SqliteBackend(Path(path))
    await backend.open()
    programs: dict[str, Callable[..., Awaitable[None]]] = {
        "push": push,
        "consume": consume,
        "hold": hold,
        "fill": fill,
        "leave": leave,
        "work_when_full": work_when_full,
    }
    await programs[name](backend, *arguments)
    if name != "leave":
        await backend.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
