"""The options of a ``[backends.NAME]`` table that uses this plugin. It has none."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """Nothing to set: a process has one memory. An option that is given is refused by core."""
