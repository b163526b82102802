"""The prefixes in use, of which no two may share a name in the broker.

``mail`` and ``mail.failed`` would: what waits in the second would be what the first has failed. With the braces that
prefixes have by default there is no such pair.
"""

from headrace.errors import ConfigError
from headrace_rabbitmq.topology import Topology


class Register:
    """Those of one backend."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}  #: the prefix of each name
        self._topologies: dict[str, Topology] = {}  #: by prefix

    def enter(self, prefix: str) -> Topology:
        """What stands in the broker for a prefix. Raises `ConfigError` if it cannot be used, or shares a name."""
        if prefix in self._topologies:
            return self._topologies[prefix]
        topology = Topology(prefix)
        names = list(topology.names())
        for name in names:
            if (owner := self._owners.get(name)) is not None:
                raise ConfigError(
                    f"the prefixes {owner!r} and {prefix!r} both make the RabbitMQ queue {name!r}: change one of them"
                )
        self._owners.update(dict.fromkeys(names, prefix))
        self._topologies[prefix] = topology
        return topology
