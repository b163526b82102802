"""The entry point of the ``redis`` backend: options in, unopened backend out."""

from typing import Final

from headrace.driver import Backend
from headrace.plugin import BackendOptions, hookimpl
from headrace_redis.backend import RedisBackend
from headrace_redis.connections.place import parse
from headrace_redis.settings import RedisSettings

#: Options that mean to be safe, and that nobody would notice to be of no use where the url asks for no TLS.
_TLS_FILES: Final = ("tls_ca", "tls_certificate", "tls_key")


@hookimpl
def headrace_backend(options: BackendOptions) -> Backend:
    """Build a backend for the server that the options name, and touch nothing yet."""
    settings = options.read(RedisSettings)
    try:
        place = parse(settings.url)
    except ValueError as error:
        raise options.error("url", str(error)) from None
    if settings.tls_key is not None and settings.tls_certificate is None:
        raise options.error("tls_key", "it belongs to tls_certificate, which is not set")
    if not place.tls:
        for option in _TLS_FILES:
            if getattr(settings, option) is not None:
                raise options.error(option, "it is read only if the url begins with rediss")
    return RedisBackend(place, settings)
