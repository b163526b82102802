"""The hosts that a server's URL lists, read and told: for authors of plugins whose server may have several."""

import re
from collections.abc import Sequence
from typing import Final, TypeAlias
from urllib.parse import unquote

#: A name or an address, and a port.
Host: TypeAlias = tuple[str, int]

_HOST: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>\d{1,5}))?\Z")


def parse_hosts(authority: str, port: int) -> tuple[Host, ...]:
    """Of ``name``, ``name:port`` and ``[address]:port`` with commas between, as between ``//`` and the path of a URL.

    ``port`` is that of a host without its own. With none listed it is this machine. Raises `ValueError` that
    shows none of it, as a password may be the reason.
    """
    hosts = []
    for each in authority.split(",") if authority else ["127.0.0.1"]:
        found = _HOST.match(each.strip())
        if found is None or int(found["port"] or port) > 65535:
            raise ValueError("a host in it is not of the form name, name:port or [address]:port")
        hosts.append((found["six"] or unquote(found["name"]), int(found["port"] or port)))
    return tuple(hosts)


def bracketed(host: str) -> str:
    """As a URL has it: an address of IPv6 stands in brackets."""
    return f"[{host}]" if ":" in host else host


def told(hosts: Sequence[Host]) -> str:
    """For people: ``a:1, [::1]:2``."""
    return ", ".join(f"{bracketed(host)}:{port}" for host, port in hosts)
