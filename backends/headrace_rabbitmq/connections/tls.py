"""TLS: the context of our side, and whether speaking it, or not, is what keeps us from a broker."""

import asyncio
import ssl
from pathlib import Path
from typing import Final

from headrace.errors import BackendError, ConfigError
from headrace_rabbitmq.connections.place import Place
from headrace_rabbitmq.settings import RabbitSettings

#: Seconds for the question: the connection that failed has been patient already.
_SECONDS: Final = 1.0


def context(settings: RabbitSettings) -> ssl.SSLContext:
    """What the settings say. Raises `ConfigError` that names a file which cannot be used."""
    made = ssl.create_default_context()
    if not settings.tls_verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if settings.tls_ca is not None:
        try:
            made.load_verify_locations(settings.tls_ca)
        except OSError as error:  # which ssl's own errors are, too
            raise _unusable("tls_ca", settings.tls_ca, error) from error
    if settings.tls_certificate is not None:
        try:
            # A password of none: for a key that wants one it would ask at the terminal, and wait.
            made.load_cert_chain(settings.tls_certificate, settings.tls_key, "")
        except OSError as error:
            option = "tls_key" if settings.tls_key and settings.tls_certificate.is_file() else "tls_certificate"
            raise _unusable(option, getattr(settings, option), error) from error
    return made


def _unusable(option: str, path: Path, error: OSError) -> ConfigError:
    why = error.strerror if path.is_file() else "there is no such file"
    return ConfigError(f"{option} is {path}, which cannot be used: {why}")


async def trouble(place: Place, host: str, port: int) -> BackendError | None:
    """Whether a broker that did not answer our plain words speaks TLS; ``None`` if that is not the reason.

    It closes the connection without a word of the protocol, as a broker does that is just stopping.
    """
    if place.tls:
        return None  # the errors of TLS itself tell the reason
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context(RabbitSettings(tls_verify=False)))
    except OSError:  # silence and what ssl raises are among them
        return None
    writer.transport.abort()
    return BackendError(f"{place} speaks TLS: the url must begin with amqps instead of amqp")
