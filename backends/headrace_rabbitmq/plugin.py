"""The entry point of the ``rabbitmq`` backend: options in, unopened backend out."""

from headrace.driver import Backend
from headrace.plugin import BackendOptions, hookimpl
from headrace_rabbitmq.backend import RabbitBackend
from headrace_rabbitmq.connections.place import parse
from headrace_rabbitmq.management import Management
from headrace_rabbitmq.settings import RabbitSettings


@hookimpl
def headrace_backend(options: BackendOptions) -> Backend:
    """Build a backend for the broker that the options name, and touch nothing yet."""
    settings = options.read(RabbitSettings)
    try:
        place = parse(settings.url, settings.vhost, settings.username, settings.password)
    except ValueError as error:
        raise options.error("url", str(error)) from None
    try:
        management = Management.parse(settings.management_url, place) if settings.management_url else None
    except ValueError as error:
        raise options.error("management_url", str(error)) from None
    return RabbitBackend(place, settings, management)
