"""The options of a ``[backends.NAME]`` table that uses this plugin."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from headrace.tls import TlsSettings


@dataclass(frozen=True, slots=True)
class RedisSettings(TlsSettings):
    """Where the server is, and how it is spoken to. Secrets may stand in ``url`` or apart from it."""

    #: ``redis://host:port/database``, ``rediss://`` for TLS, ``unix:///path/to/socket``,
    #: ``redis+sentinel://host1:port,host2:port/service/database``, ``redis+cluster://host1:port,host2:port``;
    #: ``rediss+sentinel://`` and ``rediss+cluster://`` for TLS. ``username:password@`` may precede the host.
    url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    #: For Sentinels that ask for a password themselves.
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    #: How many connections calls may use at once, for each node of a Cluster. Each queue that is waited for has
    #: one more.
    max_connections: Annotated[int, Meta(ge=1)] = 10
    #: How many replicas must have a push before it is confirmed. 0: the server alone answers for it.
    wait_replicas: Annotated[int, Meta(ge=0)] = 0
    #: How long a call may take, connecting included, before it fails as unavailable.
    timeout_seconds: Annotated[float, Meta(gt=0)] = 5.0
    #: The version of Redis's own protocol.
    protocol: Literal[2, 3] = 3
