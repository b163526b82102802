"""The entry point of the ``redis`` backend: options in, unopened backend out."""

from headrace.driver import Backend
from headrace.plugin import BackendOptions, hookimpl
from headrace_redis.backend import RedisBackend
from headrace_redis.connections.place import parse
from headrace_redis.settings import RedisSettings


@hookimpl
def headrace_backend(options: BackendOptions) -> Backend:
    """Build a backend for the server that the options name, and touch nothing yet."""
    settings = options.read(RedisSettings)
    try:
        place = parse(settings.url)
    except ValueError as error:
        raise options.error("url", str(error)) from None
    return RedisBackend(place, settings)
