"""Requests to SQS from an event loop: threads, in which boto3 blocks, and what it raises, translated.

Requests that are answered at once share a few threads, and wait for one. Each request that waits
for messages has a thread to itself: there is one for each queue that is waited for, and for each of
its receivers while much comes.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from headrace.errors import BackendError, BackendUnavailable
from headrace_sqs.clients import THREADS, Clients, Sockets
from headrace_sqs.clock import ServerClock, now
from headrace_sqs.errors import FOREIGN, cause_of, translate
from headrace_sqs.settings import SqsSettings

Answer = dict[str, Any]
Made = TypeVar("Made")

#: Threads for requests that wait; they are started as needed. A bound for a mistake, not for use.
_POLLS: Final = 1000

#: What is answered to credentials that were good once: they have expired, or others have taken their place.
_OUTDATED: Final = frozenset({"ExpiredToken", "InvalidClientTokenId"})

#: Seconds after which outdated credentials are looked for again. A file that is renewed is found soon, and a
#: hundred requests that fail together look once.
_RENEWAL: Final = 1.0

#: Seconds that closing waits for threads whose connections it has ended.
_ENDING: Final = 2.0


class Calls:
    """One place, while it is open. ``requests`` counts what was sent, by operation."""

    def __init__(self, settings: SqsSettings, place: str) -> None:
        self._settings = settings
        self._place = place
        self.requests: Final[Counter[str]] = Counter()
        self.clock: Final = ServerClock()
        self._clients: Clients | None = None
        self._sockets = Sockets()
        self._made_at = 0.0
        self._renewing = asyncio.Lock()
        self._calls = ThreadPoolExecutor(THREADS, "headrace-sqs")
        self._polls = ThreadPoolExecutor(_POLLS, "headrace-sqs-poll")
        self._under_way: set[Future[Any]] = set()
        self._is_closed = False

    async def open(self) -> None:
        """Make the clients, and see that SQS answers them. Raises `BackendError`."""
        await self._make_clients()
        try:
            await self.ask("list_queues", MaxResults=1)
        except BackendError as error:
            # Who knows the credentials, and just may not list queues, may do all that is needed.
            if cause_of(error) != "AccessDenied":
                raise self._with_region(error) from error.__cause__

    async def _make_clients(self) -> None:
        self._made_at = time.monotonic()
        self._clients = await self._in_thread(self._calls, self._made_clients)

    def _made_clients(self) -> Clients:
        try:
            return Clients(self._settings, self.requests, self._sockets)
        except (KeyError, RuntimeError):  # as another thread set a variable while botocore read the environment
            return Clients(self._settings, self.requests, self._sockets)

    def _with_region(self, error: BackendError) -> BackendError:
        """The error; or, as a region that does not exist looks like a broken network, one that tells of it."""
        clients = self._clients
        if self._settings.endpoint_url is not None or clients is None or clients.region_known:
            return error
        return BackendError(f"{error}; the region {clients.region!r} is not known: is it spelt so?")

    async def ask(self, operation: str, **parameters: Any) -> Answer:
        """Send a request that is answered at once. Raises `BackendError`."""
        return await self._send(self._calls, "calls", operation, parameters)

    async def poll(self, **parameters: Any) -> Answer:
        """Receive messages, waiting for them in SQS. Raises `BackendError`."""
        return await self._send(self._polls, "polls", "receive_message", parameters)

    async def _send(
        self, threads: ThreadPoolExecutor, client: str, operation: str, parameters: dict[str, Any]
    ) -> Answer:
        if self._clients is None:
            raise BackendUnavailable(f"{self._place} is not open")
        try:
            method: Callable[..., Answer] = getattr(getattr(self._clients, client), operation)
            began = now()
            answer = await self._in_thread(threads, partial(method, **parameters))
            self.clock.learn(began, answer)
            return answer
        except BackendError as error:
            if cause_of(error) in _OUTDATED:
                await self._renew()
            raise

    async def _renew(self) -> None:
        """Let boto3 look for credentials again: it keeps for ever those that it found in a file."""
        async with self._renewing:
            if time.monotonic() - self._made_at > _RENEWAL and not self._is_closed:
                with contextlib.suppress(BackendError):  # a file that is just being written: the next call looks again
                    await self._make_clients()

    async def _in_thread(self, threads: ThreadPoolExecutor, work: Callable[[], Made]) -> Made:
        if self._is_closed:
            raise self._closed()
        try:
            future = threads.submit(work)  # refused while Python itself is ending
            self._under_way.add(future)
            future.add_done_callback(self._under_way.discard)
            return await asyncio.wrap_future(future)
        except FOREIGN as error:
            raise translate(error, self._place) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():
                raise self._closed() from error  # it was not the caller who was cancelled, but what waited for a thread
            raise

    def _closed(self) -> BackendUnavailable:
        return BackendUnavailable(f"{self._place} is closed")

    async def close(self) -> None:
        """End what is under way, and the threads."""
        self._is_closed = True
        clients, self._clients = self._clients, None
        self._sockets.shut()
        for threads in (self._calls, self._polls):
            threads.shutdown(wait=False, cancel_futures=True)
        ending = [asyncio.wrap_future(each) for each in tuple(self._under_way)]
        if ending:
            done, _ = await asyncio.wait(ending, timeout=_ENDING)
            for each in done:
                if not each.cancelled():
                    each.exception()  # heard: nobody else awaits it
        if clients is not None:
            clients.close()
