"""The entry point of the ``sqs`` backend: options in, unopened backend out."""

from urllib.parse import urlsplit

from headrace.driver import Backend
from headrace.plugin import BackendOptions, hookimpl
from headrace_sqs.backend import SqsBackend
from headrace_sqs.settings import SqsSettings


@hookimpl
def headrace_backend(options: BackendOptions) -> Backend:
    """Build a backend for the region or endpoint that the options name, and touch nothing yet."""
    settings = options.read(SqsSettings)
    if settings.endpoint_url is not None:
        try:
            parts = urlsplit(settings.endpoint_url)
            names_a_host = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            names_a_host = False
        if not names_a_host:
            raise options.error("endpoint_url", "it must be like https://host or http://host:port")
        if "@" in settings.endpoint_url:
            raise options.error("endpoint_url", "it must not hold credentials: boto3 finds them elsewhere")
    return SqsBackend(settings)
