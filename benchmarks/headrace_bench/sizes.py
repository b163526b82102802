"""How much a session does: quick to see how things stand, full to publish."""

from dataclasses import dataclass
from typing import Final, Literal

#: As reports name them.
SizeName = Literal["quick", "full"]


@dataclass(frozen=True, slots=True)
class Size:
    """Durations are seconds."""

    name: SizeName
    runs: int  #: of what is repeated, unless told otherwise
    timed: float  #: that a run's measured part should take; how many jobs that is, a pilot tells
    most: int  #: jobs of such a part, where they are over quickly
    watched: float  #: of what is watched for a fixed time: an idle worker, a latency
    limit: float  #: after which a run is ended from outside


#: All scenarios on the embedded backends in under two minutes.
QUICK: Final = Size("quick", runs=3, timed=0.25, most=20_000, watched=2.0, limit=60.0)

#: Long enough that start and end weigh nothing, and that the garbage collector has its share.
FULL: Final = Size("full", runs=3, timed=2.0, most=400_000, watched=10.0, limit=900.0)

SIZES: Final[dict[SizeName, Size]] = {"quick": QUICK, "full": FULL}
