"""A backend behind a socket: for the cases of connections, which the embedded backends leave nothing to prove.

Its server, on a thread of the test's own process, keeps its messages in the memory backend. Each call is a
connection of its own, so that breaking connections strikes calls at whatever step they are.
"""

import asyncio
import contextlib
import dataclasses
import io
import itertools
import pickle
import threading
from collections.abc import Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final

from headrace.conformance import Harness
from headrace.driver import Backend, Capabilities, Channel, Delivery, Driver, Info, Message, RestingChannel, Result
from headrace.errors import BackendError, BackendUnavailable
from headrace_memory.backend import CAPABILITIES, MemoryBackend

#: Seconds after which a server that says nothing is taken for gone.
PATIENCE: Final = 5.0

#: Read to the end: a request and an answer are a pickle each, after which the line is closed.
_WHOLE: Final = -1


class _Pickler(pickle.Pickler):
    """Takes read-only mappings too, as which messages without headers share theirs."""

    def reducer_override(self, obj: Any) -> Any:
        return (_read_only, (dict(obj),)) if isinstance(obj, MappingProxyType) else NotImplemented


def _read_only(mapping: dict[str, str]) -> Mapping[str, str]:
    return MappingProxyType(mapping)


def _pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer).dump(value)
    return buffer.getvalue()


class WireServer:
    """Listens on a free port of the loopback, until `stop`. What it holds outlives its restarts, as on a disk."""

    #: Those that run, by port: a harness keeps the port alone, so that it can be pickled.
    running: ClassVar[dict[int, "WireServer"]] = {}

    def __init__(self) -> None:
        self._backend = MemoryBackend()
        self._receipts: dict[int, Any] = {}
        self._numbers = itertools.count(1)
        self._handlers: set[asyncio.Task[None]] = set()
        self._is_away = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire server")
        self._thread.start()
        self.port = 0
        self._call(self._listen()).result()
        self.running[self.port] = self

    def stop(self) -> None:
        del self.running[self.port]
        self._call(self._end()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def restart(self, seconds: float = 0.3) -> None:
        """Refuse everybody for so long, and break what is under way."""

        async def restart() -> None:
            self._is_away = True
            await self._break()
            await asyncio.sleep(seconds)
            self._is_away = False

        await asyncio.wrap_future(self._call(restart()))

    async def disconnect(self) -> None:
        await asyncio.wrap_future(self._call(self._break()))

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        await self._break()
        await self._server.wait_closed()

    async def _break(self) -> None:
        handlers = [task for task in self._handlers if task is not asyncio.current_task()]
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._is_away:
            writer.transport.abort()
            return
        self._handlers.add(task)
        try:
            prefix, lease_seconds, verb, arguments = pickle.loads(await reader.read(_WHOLE))
            driver = self._backend.driver(prefix, lease_seconds=lease_seconds)
            answer = await getattr(driver, verb)(*self._with_tickets(verb, arguments))
            writer.write(_pickled(self._with_numbers(answer)))
            writer.write_eof()
            await writer.drain()
        except (asyncio.CancelledError, EOFError, ConnectionError):
            writer.transport.abort()
        except Exception as error:
            writer.write(_pickled(error))
        finally:
            self._handlers.discard(task)
            writer.close()

    def _with_tickets(self, verb: str, arguments: Sequence[Any]) -> list[Any]:
        """The store's receipts instead of the numbers that clients have for them."""
        if verb in ("ack", "extend"):
            return [[self._receipts[number] for number in arguments[0]], *arguments[1:]]
        if verb in ("retry", "fail"):
            return [[(self._receipts[number], message) for number, message in arguments[0]], *arguments[1:]]
        return list(arguments)

    def _with_numbers(self, answer: Any) -> Any:
        if not (isinstance(answer, list) and answer and isinstance(answer[0], Delivery)):
            return answer
        numbered = []
        for delivery in answer:
            number = next(self._numbers)
            self._receipts[number] = delivery.receipt
            numbered.append(Delivery(delivery.message, number, delivery.count))
        return numbered


#: What a server gives that has few gifts: no looking into channels, no choosing, and counts that may lag.
FEW: Final = dataclasses.replace(
    CAPABILITIES,
    durable=True,
    shared=True,
    counts="approximate",
    max_batch=100,
    peek=frozenset(),
    cancel=False,
    selective=frozenset(),
    wait_ready=False,
)


class WireBackend(Backend):
    """Has no connection but those of its calls; open looks whether somebody listens."""

    def __init__(self, port: int) -> None:
        self._port = port

    @property
    def capabilities(self) -> Capabilities:
        return FEW

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def open(self) -> None:
        await self.driver("").info()

    async def close(self) -> None:
        """Nothing is open between calls."""

    def clone(self) -> "WireBackend":
        return type(self)(self._port)

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> Driver:
        return WireDriver(self._port, prefix, lease_seconds)


class WireDriver(Driver):
    """Sends each call to the server, and gives what it answers."""

    def __init__(self, port: int, prefix: str, lease_seconds: float) -> None:
        self._port = port
        self._prefix = prefix
        self._lease_seconds = lease_seconds

    async def _ask(self, verb: str, *arguments: Any, wait: float = 0.0) -> Any:
        try:
            async with asyncio.timeout(wait + PATIENCE):
                data = await self._exchange(_pickled((self._prefix, self._lease_seconds, verb, arguments)))
            answer = pickle.loads(data)
        except (OSError, EOFError, pickle.UnpicklingError) as error:  # TimeoutError is an OSError
            raise BackendUnavailable(f"127.0.0.1:{self._port} does not answer: {error}") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _exchange(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            writer.write_eof()
            return await reader.read(_WHOLE)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def push(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        answer: Sequence[str | BackendError] = await self._ask("push", messages)
        return answer

    async def delay(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        answer: Sequence[str | BackendError] = await self._ask("delay", messages)
        return answer

    async def pop(self, limit: int, wait: float) -> Sequence[Delivery]:
        answer: Sequence[Delivery] = await self._ask("pop", limit, wait, wait=wait)
        return answer

    async def ack(self, receipts: Sequence[Any]) -> Sequence[Result]:
        answer: Sequence[Result] = await self._ask("ack", receipts)
        return answer

    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> Sequence[Result]:
        answer: Sequence[Result] = await self._ask("retry", pairs)
        return answer

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> Sequence[Result]:
        answer: Sequence[Result] = await self._ask("fail", pairs, channel)
        return answer

    async def extend(self, receipts: Sequence[Any], seconds: float) -> Sequence[Result]:
        answer: Sequence[Result] = await self._ask("extend", receipts, seconds)
        return answer

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        if ids is not None:
            raise NotImplementedError
        moved: int = await self._ask("reload", channel, limit)
        return moved

    async def flush(self, channel: Channel) -> int:
        answer: int = await self._ask("flush", channel)
        return answer

    async def info(self) -> Info:
        answer: Info = await self._ask("info")
        return answer

    async def destroy(self) -> None:
        await self._ask("destroy")


class WireHarness(Harness):
    """A fresh backend for the server on a port."""

    def __init__(self, port: int, kind: type[WireBackend] = WireBackend) -> None:
        self.port = port
        self.kind = kind

    def backend(self) -> Backend:
        return self.kind(self.port)

    async def restart(self) -> None:
        await WireServer.running[self.port].restart()

    async def disconnect(self) -> None:
        await WireServer.running[self.port].disconnect()
