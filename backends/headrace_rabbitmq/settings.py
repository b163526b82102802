"""The options of a ``[backends.NAME]`` table that uses this plugin."""

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from headrace.tls import TlsSettings


@dataclass(frozen=True, slots=True)
class RabbitSettings(TlsSettings):
    """Where the broker is, and how it is spoken to. Secrets may stand in ``url`` or apart from it."""

    #: ``amqp://user:password@host:port/vhost``, ``amqps://`` for TLS. Several hosts of one cluster are listed with
    #: commas and tried in turn. In a vhost's name ``/`` is written ``%2F``; with no path it is the vhost ``/``.
    url: str = field(default="amqp://guest:guest@127.0.0.1:5672/", repr=False)
    #: These three instead of what the url says.
    vhost: str | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    #: Seconds of silence after which the broker takes a worker for dead, and gives its messages to others.
    heartbeat: Annotated[int, Meta(ge=1, le=3600)] = 20
    #: How long a call may go without an answer, connecting included, before it fails as unavailable.
    timeout_seconds: Annotated[float, Meta(gt=0)] = 5.0
    #: ``http://user:password@host:15672`` of the management plugin: for the count of reserved messages, which AMQP does
    #: not tell. Without a user in it, that of ``url`` is taken.
    management_url: str | None = field(default=None, repr=False)
    #: Seconds that a broker before 3.12 lets a delivery be held: its own ``consumer_timeout``. Where that is not the
    #: default it has to be told here, as a client cannot ask for it.
    consumer_timeout: Annotated[float, Meta(gt=0)] = 1800.0
