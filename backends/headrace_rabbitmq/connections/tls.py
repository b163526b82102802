"""Whether speaking TLS, or not, is what keeps us from a broker."""

import asyncio
from typing import Final

from headrace.errors import BackendError
from headrace.tls import TlsSettings, context
from headrace_rabbitmq.connections.place import Place

#: Seconds for the question: the connection that failed has been patient already.
_SECONDS: Final = 1.0


async def trouble(place: Place, host: str, port: int) -> BackendError | None:
    """Whether a broker that did not answer our plain words speaks TLS; ``None`` if that is not the reason.

    It closes the connection without a word of the protocol, as a broker does that is just stopping.
    """
    if place.tls:
        return None  # the errors of TLS itself tell the reason
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context(TlsSettings(tls_verify=False)))
    except OSError:  # silence and what ssl raises are among them
        return None
    writer.transport.abort()
    return BackendError(f"{place} speaks TLS: the url must begin with amqps instead of amqp")
