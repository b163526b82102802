"""How many cases a server bears side by side.

Most cases wait most of the time, so many at once are no burden. But some servers, emulators above all, answer
one request after the other and take their time: cases that share one then run into limits that have nothing to do with
the contract.
"""

import asyncio
import contextlib
import secrets
import tempfile
import time
from copy import copy
from pathlib import Path
from typing import Final

from headrace.conformance.harness import Harness
from headrace.driver import Backend, Driver, Message

#: Cases that run side by side where the server is no slower than a case expects.
MOST: Final = 8

#: Seconds that so many may take for a push, a pop and an ack each. Redis takes some milliseconds, RabbitMQ some tens,
#: SQS itself not much more; moto, an emulator of SQS, takes four times as long.
_BRISK: Final = 0.05

#: Seconds after which a server counts as so slow that one case at a time is enough.
_PATIENCE: Final = 20.0


def bearable(harness: Harness) -> int:
    """From 1 to `MOST`, after having tried; `MOST` if nothing works, which the cases will tell."""
    trying = copy(harness)
    with tempfile.TemporaryDirectory(prefix="headrace-conform-") as folder:
        trying.folder = Path(folder)
        try:
            seconds = asyncio.run(asyncio.wait_for(_measure(trying), _PATIENCE))
        except TimeoutError:
            return 1
        except Exception:
            return MOST
    return min(MOST, max(1, round(MOST * _BRISK / seconds)))


async def _measure(harness: Harness) -> float:
    """The seconds that the slowest of `MOST` takes for its round beside the others."""
    async with contextlib.AsyncExitStack() as stack:
        drivers = [await _opened(harness.backend(), stack) for _ in range(MOST)]
        await asyncio.gather(*map(_round, drivers))  # makes what must exist
        return max(await asyncio.gather(*map(_round, drivers)))


async def _opened(backend: Backend, stack: contextlib.AsyncExitStack) -> Driver:
    stack.push_async_callback(backend.close)
    await backend.open()
    driver = backend.driver(f"{{conform-{secrets.token_hex(4)}}}")
    stack.push_async_callback(driver.destroy)
    return driver


async def _round(driver: Driver) -> float:
    began = time.perf_counter()
    await driver.push([Message(id=secrets.token_hex(16), name="probe", body=b"")])
    await driver.ack([each.receipt for each in await driver.pop(1, _PATIENCE)])
    return time.perf_counter() - began
