"""redis-py's clients for a `Place`. Connects to nothing; that is done by the first command.

redis-py's own ways of trying again are all switched off: it would send a pop twice, whose
first batch then waited for its lease to end. `headrace_redis.connections.server` decides.
"""

from typing import Any, Final

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from headrace_redis.connections import tls
from headrace_redis.connections.place import Place
from headrace_redis.connections.sending import ClusterSender, PlainSender, Sender
from headrace_redis.settings import RedisSettings

#: Seconds that one Sentinel may take to answer: there are others to ask, and all of them within a call's time.
_SENTINEL_SECONDS: Final = 1.0


class _HeedfulConnection(Connection):
    """Sees that its server has hung up before a command is sent, as redis-py's pools do, and its Clusters do not.

    Else the first call after a restart would fail, though the server is back.
    """

    def should_reconnect(self) -> bool:
        reader = self._reader
        return bool(super().should_reconnect()) or (  # type: ignore[no-untyped-call]
            reader is not None and (reader.at_eof() or reader.exception() is not None)
        )


class _HeedfulSSLConnection(_HeedfulConnection, SSLConnection):
    pass


def build(place: Place, settings: RedisSettings, *, silence: float, connections: int) -> Sender:
    """A way to the server by so many connections at most.

    On a Cluster, where the client asks one node after another, each of them may be silent for so many seconds.
    Elsewhere it is the caller who ends a call: that is done once, and not for each of its answers.
    """
    options: dict[str, Any] = {
        **_common(settings),
        "username": settings.username or place.username,
        "password": settings.password or place.password,
        "socket_timeout": silence if place.kind == "cluster" else None,
        "socket_connect_timeout": settings.timeout_seconds,
        "max_connections": connections,
        **(tls.options(settings) if place.tls else {}),
    }
    if place.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in place.hosts]
        # No steps: it would break all connections, those in use too, after so many redirections. It follows each of
        # those anyway, and looks at the Cluster anew when a connection breaks.
        cluster = RedisCluster(startup_nodes=nodes, ssl=place.tls, retry=_never(), reinitialize_steps=0, **options)
        # There is no parameter for it; what the nodes will be made with can be had and changed.
        cluster.get_connection_kwargs()["connection_class"] = _HeedfulSSLConnection if place.tls else _HeedfulConnection
        return ClusterSender(cluster)
    options["db"] = place.database
    options["retry"] = _never()
    if place.socket:
        return PlainSender(Redis(unix_socket_path=place.socket, **options))
    if place.kind == "single":
        ((host, port),) = place.hosts
        return PlainSender(Redis(host=host, port=port, ssl=place.tls, **options))
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        place.hosts,
        sentinel_kwargs={
            **_common(settings),
            "username": settings.sentinel_username,
            "password": settings.sentinel_password,
            "socket_timeout": _SENTINEL_SECONDS,
            "socket_connect_timeout": _SENTINEL_SECONDS,
            "retry": _never(),
            **({"ssl": True, **tls.options(settings)} if place.tls else {}),
        },
    )
    return PlainSender(sentinels.master_for(place.service, ssl=place.tls, **options))


def _common(settings: RedisSettings) -> dict[str, Any]:
    return {
        "protocol": settings.protocol,
        "legacy_responses": False,
        # Notices of a hosted Redis's upgrades: a broken connection says as much.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _never() -> Retry:
    return Retry(NoBackoff(), 0)
