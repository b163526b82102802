"""One connection to the broker: made when it is needed, and again after it broke.

Nobody tries to reconnect in the background: a call that finds no connection makes one, or fails as
unavailable, and core calls again with a growing pause. Calls that come while one is being made
wait for that one.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import Any, Final

import pamqp.frame
from aiormq import Channel, Connection, exceptions
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from pamqp import commands
from pamqp.base import Frame
from yarl import URL

from headrace.errors import BackendError, BackendUnavailable
from headrace.tls import context
from headrace_rabbitmq.connections.channel import AnyChannel, largest_content, open_channel
from headrace_rabbitmq.connections.lenient import UNREADABLE, LenientTransport
from headrace_rabbitmq.connections.place import Place
from headrace_rabbitmq.connections.pulse import Pulse
from headrace_rabbitmq.connections.tls import trouble
from headrace_rabbitmq.errors import FOREIGN, translate, translated
from headrace_rabbitmq.settings import RabbitSettings

#: Seconds to take leave of the broker.
_LEAVE: Final = 2.0

#: Bytes that the system may take before they are sent: enough for each millisecond of a fast network.
_AHEAD: Final = 256 * 1024

#: What aiormq logs of connections, it also tells by its errors, which reach our callers.
_LOGGER: Final = logging.getLogger("aiormq")


class _TellingConnection(Connection):
    """A connection that tells why a vhost was refused: aiormq takes the broker's answer for a broken frame."""

    transport: "_RememberingTransport"

    @staticmethod
    async def _rpc(request: Frame, writer: Any, frame_receiver: Any, wait_response: bool = True) -> Any:
        if not isinstance(request, commands.Connection.Open):
            return await Connection._rpc(request, writer, frame_receiver, wait_response)
        writer.write(pamqp.frame.marshal(request, 0))
        await writer.drain()
        _, _, frame = await frame_receiver.get_frame()
        if isinstance(frame, commands.Connection.Close):
            if frame.reply_code == 530:
                raise exceptions.ConnectionNotAllowed(frame.reply_text)
            raise exceptions.ConnectionClosed(frame.reply_code, frame.reply_text)
        return frame


class _RememberingTransport(TransportFactory):
    """Connects by another factory, and keeps what can be aborted when the broker does not even read any more.

    The system's buffer is kept small: what lies in it counts as sent, and whether a large message goes on can only be
    seen by what it takes.
    """

    def __init__(self, inner: TransportFactory) -> None:
        self._inner = inner
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[Any, asyncio.StreamWriter]:
        reader, self._writer = await self._inner.create(url, **kwargs)
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _AHEAD)
        return reader, self._writer

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class Link:
    """A connection for one purpose. Belongs to the event loop of its connections."""

    def __init__(self, place: Place, settings: RabbitSettings, purpose: str) -> None:
        self.place = place
        self.timeout = settings.timeout_seconds
        self.patience: Final = settings.heartbeat  #: seconds that an answer may take while the connection lives
        self._settings = settings
        self._purpose = purpose
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._leaving: set[asyncio.Task[None]] = set()  #: kept, since the event loop alone would forget them
        self._is_lenient = False  #: since something came that could not be decoded
        self._was_blocked = False  #: whether the broker blocked publishers when it was last heard of
        self._turn = asyncio.Lock()  #: held by whoever publishes while that is so
        self._first = 0  #: the host to try first: the one that answered last
        self._pulse = Pulse(settings.heartbeat)
        if _LOGGER.level == logging.NOTSET:
            _LOGGER.setLevel(logging.CRITICAL)

    async def connection(self) -> Connection:
        """The connection, made if there is none. Raises `BackendError`."""
        if self._connection is not None and self._connection.is_opened:
            if (unread := self._pulse.unread()) > 0:
                await asyncio.sleep(unread)
                return await self.connection()
            return self._connection
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        return await asyncio.shield(self._connecting)

    async def largest_header(self) -> int:
        """Bytes of what goes before a body, which no frame may exceed. Raises `BackendError`."""
        return largest_content(await self.connection())

    def _connected(self, task: "asyncio.Task[Connection]") -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is None:
            self._connection = task.result()
            self._pulse.start()
            self._connection.closing.add_done_callback(self._ended)

    def _ended(self, closing: "asyncio.Future[object]") -> None:
        if not closing.cancelled() and isinstance(closing.exception(), UNREADABLE):
            self._is_lenient = True

    async def _connect(self) -> Connection:
        hosts = self.place.hosts
        errors: list[BackendError] = []
        for step in range(len(hosts)):
            at = (self._first + step) % len(hosts)
            try:
                connection = await self._connect_to(*hosts[at])
            except BackendError as error:
                if not isinstance(error, BackendUnavailable):
                    raise
                errors.append(error)
            else:
                self._first = at
                return connection
        raise errors[0]

    async def _connect_to(self, host: str, port: int) -> Connection:
        url = self.place.url(host, port, self._settings.heartbeat)
        secured: ssl.SSLContext | None = context(self._settings) if self.place.tls else None
        strict = TLSTransportFactory() if self.place.tls else TCPTransportFactory()
        transport = _RememberingTransport(LenientTransport(strict) if self._is_lenient else strict)
        try:
            async with asyncio.timeout(max(1.0, self.timeout / len(self.place.hosts))):
                connection = _TellingConnection(url, context=secured, transport_factory=transport)
                connection.transport = transport
                await connection.connect(
                    {"product": "headrace", "version": version("headrace"), "connection_name": self._purpose}
                )
                await connection.connected.wait()
                return connection
        except FOREIGN as error:
            transport.abort()  # aiormq leaves it open to whoever collects garbage
            found = translate(error, self.place)
            if isinstance(found, BackendUnavailable):
                found = await trouble(self.place, host, port) or found
            raise found from error
        except BaseException:
            transport.abort()  # cancelled, as it is when the backend is closed
            raise

    async def channel(self, make: Callable[[Connection, int], AnyChannel]) -> AnyChannel:
        """Open a channel. Raises `BackendError`."""
        connection = await self.connection()
        with translated(self.place):
            try:
                async with asyncio.timeout(self.timeout):
                    return await open_channel(connection, make)
            except TimeoutError:
                self.drop(connection)
                raise

    @contextlib.asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Publish in here. Raises `BackendUnavailable` at the start if the broker goes on blocking publishers.

        It tells a connection of that only when something was published on it, and takes that in the end.
        So after it was blocked, one at a time publishes, on whatever connection, until the broker answers.
        """
        await self._until_unblocked()
        if not self._was_blocked:
            yield
            return
        async with contextlib.AsyncExitStack() as turn:
            try:
                async with asyncio.timeout(self.timeout):
                    await turn.enter_async_context(self._turn)
            except TimeoutError as error:
                raise self._blocked() from error
            if not self._was_blocked:
                await turn.aclose()  # nobody has to wait for this one
            await self._until_unblocked()
            yield

    async def _until_unblocked(self) -> None:
        connection = await self.connection()
        try:
            async with asyncio.timeout(self.timeout):
                await connection.ready()
        except TimeoutError as error:
            self._was_blocked = True
            raise self._blocked() from error

    def _blocked(self) -> BackendUnavailable:
        return BackendUnavailable(
            f"{self.place} takes no messages while it is short of memory or disk: look at its alarms"
        )

    async def unanswered(self) -> None:
        """A publish had no answer: remember it if the broker blocks publishers, whatever becomes of the connection."""
        if self._connection is not None and self._connection.is_opened:
            try:
                async with asyncio.timeout(0):
                    await self._connection.ready()
            except TimeoutError:
                self._was_blocked = True

    def answered(self) -> None:
        """A publish had an answer."""
        self._was_blocked = False

    def drop(self, connection: Connection) -> None:
        """Give up a connection on which there was no answer: the next call makes another one."""
        if connection is self._connection:  # and not one that was made since
            self._connection = None
            self._pulse.stop()
            self._leave(connection)

    def doubt(self) -> None:
        """There was no answer on one channel: see whether the connection answers at all, and else give it up."""

        async def look() -> None:
            with contextlib.suppress(BackendError):
                self.abandon(await self.channel(_plain))

        self._keep(asyncio.create_task(look()))

    def abandon(self, channel: Channel) -> None:
        """Give up a channel on which there was no answer. Opening the next one shows how the connection does."""
        self._leave(channel)

    def _leave(self, what: Connection | Channel) -> None:
        self._keep(asyncio.create_task(_leave(what)))

    def _keep(self, task: "asyncio.Task[None]") -> None:
        task.add_done_callback(self._leaving.discard)
        self._leaving.add(task)

    @property
    def server_version(self) -> str:
        """The broker's version, as it told it when it was connected to."""
        properties = self._connection.server_properties if self._connection is not None else None
        return str((properties or {}).get("version", ""))

    async def close(self) -> None:
        """Take leave of the broker, if it listens."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self.drop(self._connection)
        if self._leaving:
            await asyncio.wait(self._leaving)


def _plain(connection: Connection, number: int) -> Channel:
    return Channel(connection, number, publisher_confirms=False)


async def _leave(what: Connection | Channel) -> None:
    try:
        with contextlib.suppress(*FOREIGN):
            async with asyncio.timeout(_LEAVE):
                await what.close(exceptions.AMQPConnectionError("given up"))
    finally:
        if isinstance(what, _TellingConnection):
            what.transport.abort()  # TLS would wait for the other side to say goodbye, too
