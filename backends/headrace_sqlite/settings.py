"""The options of a ``[backends.NAME]`` table that uses this plugin."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """How one file is used. Every process that shares it may choose its own, but for ``path``."""

    #: The file, relative to the folder of the configuration. Its folder must exist.
    path: str = "headrace.db"
    #: ``full``: what a call confirmed outlives a power cut. ``normal``: it outlives every
    #: process, but the last moments before a power cut may be lost; no call waits for the disk.
    synchronous: Literal["full", "normal"] = "full"
    #: How long a call waits for another program's write before it fails as unavailable.
    busy_seconds: Annotated[float, Meta(ge=0)] = 5.0
    #: How often waiting workers look for other processes' writes where the kernel does not tell
    #: of them, as Linux does. Each look is a waking of the process, so shorter is dearer.
    poll_seconds: Annotated[float, Meta(gt=0)] = 0.005
