"""What a URL says of where the broker is. Connects to nothing."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

from headrace.hosts import Host, bracketed, parse_hosts, told

_PORTS: Final = {"amqp": 5672, "amqps": 5671}

#: What stands between ``//`` and the path is split by hand: it may list several hosts.
_URL: Final = re.compile(r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#]*)(?:/(?P<path>[^?#]*))?(?:\?(?P<query>[^#]*))?\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the broker is, who we are there, and in which words that may be shown."""

    hosts: tuple[Host, ...]
    vhost: str = "/"
    tls: bool = False
    username: str = field(default="guest", repr=False)
    password: str = field(default="guest", repr=False)

    def __str__(self) -> str:
        return f"rabbitmq at {self.where}"

    @property
    def where(self) -> str:
        """In a few words for people, without any secret."""
        hosts = told(self.hosts)
        return f"{hosts}, vhost {self.vhost}"

    def url(self, host: str, port: int, heartbeat: int) -> str:
        """What a client library takes for one of the hosts. It has the password."""
        scheme = "amqps" if self.tls else "amqp"
        user = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        vhost = quote(self.vhost, safe="")
        return f"{scheme}://{user}@{bracketed(host)}:{port}/{vhost}?heartbeat={heartbeat}"


def parse(url: str, vhost: str | None = None, username: str | None = None, password: str | None = None) -> Place:
    """The place of a URL, with what is given beside it instead of its own.

    Raises `ValueError` that says what is wrong, without showing what may be secret.
    """
    found = _URL.match(url)
    if found is None:
        # An unescaped character of a password is the likeliest reason, so none of it is shown.
        raise ValueError(
            "it is no URL that begins with amqp:// or amqps://; in a password, write %2F for / and %40 for @"
        )
    scheme = found["scheme"]
    if scheme not in _PORTS:
        raise ValueError(f"its scheme {scheme!r} is neither amqp nor amqps")
    if found["query"]:
        name = found["query"].partition("=")[0]
        raise ValueError(f"its {name!r} behind the ? is not read: set options beside the url")
    path = found["path"] or ""
    if "/" in path:
        raise ValueError("one vhost may follow the hosts; in its name, write %2F for /")
    userinfo, _, authority = found["authority"].rpartition("@")
    name, _, secret = userinfo.partition(":")
    return Place(
        hosts=parse_hosts(authority, _PORTS[scheme]),
        vhost=vhost if vhost is not None else unquote(path) or "/",
        tls=scheme == "amqps",
        username=username if username is not None else unquote(name) or "guest",
        password=password if password is not None else unquote(secret) or "guest",
    )
