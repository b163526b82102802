"""Keeping the leases of a worker's deliveries, from a thread with its own loop and connection.

A handler that blocks the worker's event loop, or a batch of slow ones, so loses nothing:
leases are short, and last as long as the worker lives. A loop that is blocked for longer
than ``stall_seconds`` counts as dead, and its leases run out. What counts as blocked is
looked for from here, and is defined in `headrace.stalls`.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from headrace.driver import Backend, Driver, Settled
from headrace.errors import BackendError
from headrace.execution import Execution
from headrace.log_fields import about_queue

if TYPE_CHECKING:
    from headrace.app import Headrace
    from headrace.consumer import QueueConsumer
    from headrace.stalls import Stalls

logger = logging.getLogger("headrace")

#: A lease is renewed when a third of it is over; looks are twice as frequent, so that one
#: failed call still leaves time for another.
_RENEW_AFTER: Final = 1 / 3
_LOOK_EVERY: Final = 1 / 6
#: Seconds that closing a connection may take at the end; the process is about to go anyhow.
_CLOSE_SECONDS: Final = 5.0


class LeaseKeeper:
    """Extends the leases of what the consumers hold, while their loop shows signs of life.

    Where no lease needs it, as those that last as long as a connection, it looks for stalls alone.
    """

    def __init__(
        self,
        app: "Headrace",
        consumers: Sequence["QueueConsumer"],
        stalls: "Stalls",
        lost: Callable[[Execution], None],
        broken: Callable[[], None],
    ) -> None:
        """``app``: whose backends are cloned; both others are called on the worker's loop.

        ``lost``: of a lease that is over; ``broken``: when leases are no longer kept, though nobody has asked to stop.
        """
        timed = [each for each in consumers if each.capabilities.leases == "timed"]
        self._interval = min([stalls.interval, *(each.settings.lease_seconds * _LOOK_EVERY for each in timed)])
        self._backends = {each.settings.backend: app.backend(each.settings.backend) for each in timed}
        self._by_backend: dict[str, list[QueueConsumer]] = {}
        for consumer in timed:
            self._by_backend.setdefault(consumer.settings.backend, []).append(consumer)
        self._stalls = stalls
        self._lost = lost
        self._broken = broken
        self._look_failed = False  #: whether the last look for stalls did, which was told
        self._home = asyncio.get_running_loop()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = threading.Event()
        self._ended = asyncio.Event()
        self._failing: set[str] = set()  #: queues whose leases could not be extended the last time
        self._opened: dict[str, Backend] = {}
        self._drivers: dict[str, Driver] = {}
        self._thread = threading.Thread(target=self._run, name="headrace-leases", daemon=True)

    def start(self) -> None:
        """Start the thread. It connects when there is first a lease to extend."""
        self._thread.start()

    async def stop(self) -> None:
        """End the thread and close its connections, whatever it waits for."""
        self._stopping.set()
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended already
                self._loop.call_soon_threadsafe(self._task.cancel)
        # Not by a thread of the loop's executor, which handlers may have filled for ever.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._keep())
        except asyncio.CancelledError:
            pass
        except Exception:
            logger.exception("the lease keeper ended, and so does this worker: what it holds may be delivered again")
            with contextlib.suppress(RuntimeError):
                self._home.call_soon_threadsafe(self._broken)
        finally:
            with contextlib.suppress(RuntimeError):  # the worker's loop has ended before
                self._home.call_soon_threadsafe(self._ended.set)

    async def _keep(self) -> None:
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        try:
            # The flag is for a stop that came before there was a task to cancel.
            while not self._stopping.is_set():
                if self._loop_turns():
                    # Side by side: one backend that does not answer must not cost the others' leases.
                    await asyncio.gather(*(self._extend_all(each) for each in self._by_backend.values()))
                await asyncio.sleep(self._interval)
        finally:
            for backend in self._opened.values():
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(_CLOSE_SECONDS):
                        await backend.close()

    def _loop_turns(self) -> bool:
        """Whether leases are to be kept. What fails in telling of stalls must not cost them."""
        try:
            turns = self._stalls.look()
        except Exception:
            if not self._look_failed:
                logger.exception("whether this worker is stuck could not be told")
            self._look_failed = True
            return True
        self._look_failed = False
        return turns

    async def _extend_all(self, consumers: Sequence["QueueConsumer"]) -> None:
        """Extend what is due on one backend; what fails is said once, and tried again at the next look."""
        for consumer in consumers:
            name = consumer.settings.name
            try:
                async with asyncio.timeout(consumer.settings.lease_seconds * _RENEW_AFTER):
                    await self._extend(consumer)
            except Exception as error:
                if name not in self._failing:
                    text = "leases of %s cannot be extended, and are tried again: %r"
                    logger.warning(text, name, error, extra=about_queue(name))
                self._failing.add(name)
            else:
                self._failing.discard(name)

    async def _extend(self, consumer: "QueueConsumer") -> None:
        lease = consumer.settings.lease_seconds
        now = time.monotonic()
        # list() of a set is one step to other threads, and so is each attribute read below.
        # What is being settled is extended too: its ack may have to wait for the backend.
        due = [each for each in list(consumer.held) if now - each.leased > lease * _RENEW_AFTER and not each.lost]
        if not due:
            return
        driver = await self._driver(consumer)
        size = consumer.capabilities.max_batch
        failure: BackendError | None = None
        for start in range(0, len(due), size):
            batch = due[start : start + size]
            results = await driver.extend([each.delivery.receipt for each in batch], lease)
            for execution, result in zip(batch, results, strict=True):
                if result is Settled.DONE:
                    execution.leased = now
                elif result is Settled.STALE:
                    self._home.call_soon_threadsafe(self._lost, execution)
                else:
                    failure = failure or result
        if failure is not None:
            raise failure

    async def _driver(self, consumer: "QueueConsumer") -> Driver:
        name = consumer.settings.name
        if name not in self._drivers:
            key = consumer.settings.backend
            if key not in self._opened:
                backend = self._backends[key].clone()
                await backend.open()
                self._opened[key] = backend
            self._drivers[name] = self._opened[key].driver(
                consumer.settings.prefix, lease_seconds=consumer.settings.lease_seconds
            )
        return self._drivers[name]
