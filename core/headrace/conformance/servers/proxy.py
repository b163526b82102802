"""A network that breaks when told to: a TCP proxy before a server of this machine.

It runs on an event loop in a thread of its own, so that a test's own loop may be as busy as
it likes. Every method may be called from any thread, and has taken effect when it returns.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, TypeVar

Direction = Literal["server", "client"]

T = TypeVar("T")

#: Bytes passed on at once: as many as come together are seldom more.
_CHUNK: Final = 65536

#: ``SO_LINGER`` on, for 0 seconds: closing then sends a reset instead of an end.
_RESET: Final = struct.pack("ii", 1, 0)


class _Pair:
    """One connection of a client, and ours to the server for it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.writers = (client, server)

    def cut(self, reset: bool) -> None:
        for writer in self.writers:
            if reset:
                connection: socket.socket = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):  # it may have broken by itself
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
            else:
                writer.close()


class Proxy:
    """Passes connections on to ``port`` of 127.0.0.1. As a context manager it starts and ends."""

    def __init__(self, port: int) -> None:
        self.port = 0  #: where clients connect, once started
        self.cuts = 0  #: connections that were cut so far
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay = 0.0
        self._passing = asyncio.Event()
        self._passing.set()
        self._left: dict[Direction, int | None] = {"server": None, "client": None}
        self._resets = False
        self._server: asyncio.Server | None = None

    def cut(self, *, reset: bool = False) -> None:
        """End every connection; with ``reset`` as a crashed machine would. New ones work."""
        self._do(lambda: self._cut(reset))

    def cut_after(self, count: int, towards: Direction, *, reset: bool = False) -> None:
        """Let so many more bytes pass in one direction, of whatever connections, and cut the one that they come to."""

        def arm() -> None:
            self._left[towards] = count
            self._resets = reset

        self._do(arm)

    def delay(self, seconds: float) -> None:
        """From now on everything takes so much longer, each way."""

        def set_delay() -> None:
            self._delay = seconds

        self._do(set_delay)

    def black_hole(self) -> None:
        """From now on nothing passes, and nothing tells of it. Connections are still taken."""
        self._do(self._passing.clear)

    def heal(self) -> None:
        """Let everything pass again, also what came in since `black_hole`."""

        def heal() -> None:
            self._passing.set()
            self._delay = 0.0
            self._left = {"server": None, "client": None}

        self._do(heal)

    def _do(self, action: Callable[[], T]) -> T:
        async def act() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result()

    def _cut(self, reset: bool) -> None:
        pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            pair.cut(reset)
        self.cuts += len(pairs)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        pair = _Pair(writer, far_writer)
        self._pairs.add(pair)
        for source, sink, towards in ((reader, far_writer, "server"), (far_reader, writer, "client")):
            task = self._loop.create_task(self._pass_on(pair, source, sink, towards))  # type: ignore[arg-type]
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, pair: _Pair, source: asyncio.StreamReader, sink: asyncio.StreamWriter, towards: Direction
    ) -> None:
        try:
            while data := await source.read(_CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._passing.wait()
                left = self._left[towards]
                if left is not None:
                    self._left[towards] = left - len(data) if left > len(data) else None
                    data = data[:left]
                sink.write(data)
                await sink.drain()
                if left is not None and self._left[towards] is None:
                    self.cuts += 1
                    self._pairs.discard(pair)
                    pair.cut(self._resets)
                    return
        except OSError:
            pass
        self._pairs.discard(pair)
        pair.cut(False)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        starting = asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._cut(True)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
