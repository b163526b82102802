"""What is measured, as every process of a session has to know it: a plugin, its options, its place.

It holds what the options hold, secrets included, and so is passed through pipes and never on command lines.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from headrace.app import Headrace
from headrace.config import Config, Options
from headrace.driver import Backend
from headrace.registry import Registry
from headrace_bench.baseline import Baseline, find

#: The queue that everything goes through, as the configurations of the suite call it.
QUEUE: Final = "default"


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """One participant: headrace on a backend, or that backend's bare client."""

    name: str  #: the participant's
    backend: str  #: what the configuration calls the backend
    plugin: str  #: what carries it
    options: dict[str, Any] = {}  #: its ``[backends.NAME]`` table, without ``plugin``
    root: str  #: the folder that relative paths start from
    bare: bool = False
    server: int | None = None  #: the number of the server's process, where that is ours
    environment: dict[str, str] = {}  #: what its client has to find in the environment

    def config(self, prefix: str = "", settings: Mapping[str, Any] | None = None) -> Config:
        """The configuration of one queue of that prefix; ``settings`` are the queue's."""
        table = {"prefix": prefix, **(settings or {})} if prefix else {}
        return Config.from_mapping(
            {
                "backend": self.backend,
                "backends": {self.backend: {"plugin": self.plugin, **self.options}},
                "queues": {QUEUE: table},
            },
            root=self.root,
            environ={},
        )

    def app(self, prefix: str, settings: Mapping[str, Any] | None = None) -> Headrace:
        """An app whose queue has this prefix."""
        return Headrace(self.config(prefix, settings))

    @property
    def backend_options(self) -> Options:
        """The table as plugins are given it."""
        return self.config().backend_options(self.backend)

    def make_backend(self) -> Backend:
        """The backend, not open. Raises `ConfigError`."""
        return Registry().build(self.backend_options)

    def make_baseline(self, queue: str) -> Baseline:
        """The bare client with a queue of that name. Raises `LookupError` if the plugin brings none."""
        make = find(self.plugin)
        if make is None:
            raise LookupError(f"the plugin {self.plugin!r} brings no baseline")
        return make(self.backend_options, queue)
