"""boto3's clients: how they are made, what they send, and how their waiting is ended.

Two of them, as a request that waits for messages may take longer to answer than any other, and
is not repeated by botocore: whoever waits asks again. Both may be used from any thread.
"""

import contextlib
import socket
import threading
import weakref
from collections import Counter
from functools import cache
from typing import Any, Final

import boto3  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError  # type: ignore[import-untyped]
from botocore.loaders import Loader  # type: ignore[import-untyped]

from headrace.errors import BackendUnavailable
from headrace_sqs.settings import SqsSettings

#: Threads for requests that are answered at once: enough to keep SQS busy from one process, whose one processor
#: they share.
THREADS: Final = 10

#: Seconds for which SQS waits for messages at most.
LONGEST_POLL: Final = 20

#: Connections that are kept for requests that wait: one for each queue that is waited for. More are made, not kept.
_KEPT_POLLS: Final = 50

#: What requests to another server than AWS's are signed for where no region is set: an emulator takes any.
_ANY_REGION: Final = "us-east-1"

#: How often a request is sent at most. botocore pauses in between, for about a second.
_ATTEMPTS: Final = 3


@cache
def _loader() -> Any:
    """botocore's data files: large, and read once for all clients of this process."""
    return Loader(include_default_search_paths=True)


class Clients:
    """One client for requests, and one for those that wait. Making it reads files: in a thread, that is."""

    def __init__(self, settings: SqsSettings, requests: Counter[str], sockets: "Sockets") -> None:
        """``requests`` counts each request that is sent, by its operation; ``sockets`` has each connection."""
        self._requests = requests
        self._sockets = sockets
        inner = botocore.session.get_session()
        inner.register_component("data_loader", _loader())
        session = boto3.Session(botocore_session=inner, region_name=settings.region)
        if session.region_name is None and settings.endpoint_url is not None:
            session = boto3.Session(botocore_session=inner, region_name=_ANY_REGION)
        timeout = settings.timeout_seconds
        self.calls: Final = self._made(
            session,
            settings,
            max_pool_connections=THREADS,
            read_timeout=timeout,
            retries={"mode": "adaptive", "total_max_attempts": _ATTEMPTS},
        )
        self.polls: Final = self._made(
            session,
            settings,
            max_pool_connections=_KEPT_POLLS,
            read_timeout=LONGEST_POLL + timeout,
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        self.region: Final[str] = str(self.calls.meta.region_name)
        #: Whether botocore's data know the region; an emulator's may be any.
        self.region_known: Final = any(
            self.region in session.get_available_regions("sqs", partition)
            for partition in session.get_available_partitions()
        )

    def _made(self, session: Any, settings: SqsSettings, **config: Any) -> Any:
        client = session.client(
            "sqs",
            endpoint_url=settings.endpoint_url,
            config=Config(connect_timeout=settings.timeout_seconds, **config),
        )
        client.meta.events.register("before-send.sqs", self._before_send)
        client.meta.events.register_first("needs-retry.sqs.SendMessageBatch", self._before_retry)
        self._sockets.watch(client)
        return client

    def _before_send(self, event_name: str, **_: Any) -> None:
        if self._sockets.are_shut:  # botocore would send a request again whose connection was ended
            raise BackendUnavailable("the backend is closed")
        with self._sockets.lock:
            self._requests[event_name.rpartition(".")[2]] += 1

    def _before_retry(self, caught_exception: Exception | None, **_: Any) -> None:
        """Messages whose sending was not answered in time are not sent again: they might be stored twice."""
        if isinstance(caught_exception, ConnectTimeoutError | ReadTimeoutError):
            raise caught_exception

    def close(self) -> None:
        """Close connections, when no thread uses them any more."""
        self.calls.close()
        self.polls.close()


class Sockets:
    """The connections of all clients of a backend, so that a thread that waits on one can be freed.

    botocore has no way to end a request: it would keep its thread until SQS answers, for 20 seconds. So
    the classes of its connections are derived from, which urllib3 provides for and botocore keeps in a private
    dictionary of the client's session.
    """

    def __init__(self) -> None:
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.lock: Final = threading.Lock()
        self.are_shut = False  #: nothing may be sent any more

    def watch(self, client: Any) -> None:
        pools: dict[str, Any] = client._endpoint.http_session._pool_classes_by_scheme
        for scheme, pool in list(pools.items()):
            pools[scheme] = self._watched(pool)

    def _watched(self, pool: Any) -> Any:
        outer = self

        class Connection(pool.ConnectionCls):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                outer._opened(self.sock)

        class Pool(pool):  # type: ignore[misc]
            ConnectionCls = Connection

        return Pool

    def _opened(self, opened: socket.socket) -> None:
        with self.lock:
            self._open.add(opened)
            if self.are_shut:
                _end(opened)

    def shut(self) -> None:
        """End what is under way, in whatever thread, and let nothing begin."""
        with self.lock:
            self.are_shut = True
            for each in self._open:
                _end(each)


def _end(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may have ended by itself
        # Not the socket's own method: that of TLS would take its state from under the thread that reads.
        socket.socket.shutdown(opened, socket.SHUT_RDWR)
