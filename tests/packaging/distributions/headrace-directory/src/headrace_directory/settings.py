"""The options of a ``[backends.NAME]`` table that uses this plugin."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """Where the messages are, and how their arrival is noticed."""

    #: The directory. The one that it stands in must exist; it must be on a disk of this machine.
    path: Path = Path("queues")
    #: How often a waiting worker looks whether its queue's directory has changed.
    poll_seconds: Annotated[float, Meta(gt=0)] = 0.05
