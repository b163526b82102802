"""What a URL says of where the server is. Connects to nothing."""

import re
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote

from headrace.hosts import Host, parse_hosts, told

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379

#: What stands between ``//`` and the path is split by hand: it may list several hosts.
_URL: Final = re.compile(r"(?P<scheme>[a-z+]+)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?\Z")

_SCHEMES: Final = (
    "redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, redis+cluster:// or rediss+cluster://"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server is, who we are there, and in which words that may be shown."""

    kind: Literal["single", "sentinel", "cluster"]
    tls: bool = False
    hosts: tuple[Host, ...] = ()
    socket: str = ""  #: of a server on this machine, instead of hosts
    service: str = ""  #: what Sentinel calls the servers
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"redis at {self.where}"

    @property
    def where(self) -> str:
        """In a few words for people, without any secret."""
        if self.socket:
            return f"{self.socket}, database {self.database}"
        hosts = told(self.hosts)
        if self.kind == "cluster":
            return f"the cluster of {hosts}"
        if self.kind == "sentinel":
            return f"{self.service!r} of the sentinels {hosts}, database {self.database}"
        return f"{hosts}, database {self.database}"


def parse(url: str) -> Place:
    """Raises `ValueError` that says what is wrong, without showing what may be secret."""
    found = _URL.match(url)
    if found is None:
        # An unescaped character of a password is the likeliest reason, so none of it is shown.
        raise ValueError(f"it is no URL that begins with {_SCHEMES}; in a password, write %2F for / and %40 for @")
    scheme, path = found["scheme"], unquote(found["path"] or "")
    query = dict(parse_qsl(found["query"] or "", keep_blank_values=True))
    userinfo, _, authority = found["authority"].rpartition("@")
    name, _, secret = userinfo.partition(":")
    username, password = unquote(name) or None, unquote(secret) or None
    if scheme == "unix":
        database = _database(query.pop("db", ""))
        _no_query(query)
        if authority or not path.strip("/"):
            raise ValueError("unix:// is followed by the whole path of a socket: unix:///run/redis.sock")
        return Place("single", socket=path, database=database, username=username, password=password)
    base, _, kind = scheme.partition("+")
    if base not in ("redis", "rediss") or kind not in ("", "sentinel", "cluster") or scheme.endswith("+"):
        raise ValueError(f"its scheme {scheme!r} is none of {_SCHEMES}")
    _no_query(query)
    tls = base == "rediss"
    parts = [part for part in path.split("/") if part]
    if kind == "sentinel":
        if not 1 <= len(parts) <= 2:
            raise ValueError(
                "redis+sentinel:// names the service behind the hosts: redis+sentinel://host1,host2/service"
            )
        hosts = parse_hosts(authority, _SENTINEL_PORT)
        return Place("sentinel", tls, hosts, "", parts[0], _database("".join(parts[1:])), username, password)
    if kind == "cluster":
        if parts not in ([], ["0"]):
            raise ValueError("a Cluster has no databases but 0: nothing may follow the hosts")
        return Place("cluster", tls, parse_hosts(authority, _PORT), username=username, password=password)
    hosts = parse_hosts(authority, _PORT)
    if len(hosts) > 1 or len(parts) > 1:
        raise ValueError("redis:// names one host and one database; several hosts want redis+sentinel or redis+cluster")
    return Place("single", tls, hosts, database=_database("".join(parts)), username=username, password=password)


def _database(text: str) -> int:
    if text and not text.isdecimal():
        raise ValueError(f"its database {text!r} is not a number")
    return int(text or 0)


def _no_query(query: dict[str, str]) -> None:
    if query:
        raise ValueError(f"its {next(iter(query))!r} behind the ? is not read: set options beside the url")
