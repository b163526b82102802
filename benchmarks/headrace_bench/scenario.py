"""What a scenario is. Each has a file in ``scenarios``; this is what the files have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from headrace.driver import Capabilities
from headrace_bench.results import Figure, Parameter, Run, ScenarioNote
from headrace_bench.sizes import Size

if TYPE_CHECKING:
    from headrace_bench.stage import Stage

Parameters = dict[str, Parameter]

#: The figure of most scenarios.
RATE: Final = Figure("jobs/s", "higher")

#: Requests or commands that the broker was sent for a job, where somebody counts them.
REQUESTS: Final = Figure("requests/job", "lower")

#: Bytes of a body, where a scenario is not about that.
BODY: Final = 100

#: The bodies that are compared where it is.
BODIES: Final = (100, 10_000, 200_000)


class Unsuitable(Exception):
    """A participant cannot do this, or not in the time that there is. The text says why."""


class Traits(msgspec.Struct, frozen=True):
    """What must be known of a participant to see whether a scenario suits it."""

    bare: bool
    shared: bool = True
    counts: str = "exact"
    max_body: int = 2**31
    max_batch: int = 1000

    @classmethod
    def of(cls, capabilities: Capabilities) -> "Traits":
        """Those of a backend."""
        return cls(False, capabilities.shared, capabilities.counts, capabilities.max_body, capabilities.max_batch)


class Scenario(ABC):
    """One thing that is measured. It has no state: an instance serves every run, each in a process of its own."""

    #: What it is called on the command line and in reports.
    name: str

    #: What it measures, and in which units.
    note: ScenarioNote

    #: Whether a quick session does it as often as others; else once, as it takes long, or watches for a fixed time.
    repeated: bool = True

    #: Whether the bare client can do it too: then `run_bare` is defined.
    bare: bool = False

    @abstractmethod
    def variants(self, size: Size) -> Sequence[Parameters]:
        """The sets of parameters that it is done with."""

    def refuse(self, traits: Traits, parameters: Parameters) -> str:
        """Why a participant cannot do it with these parameters; empty if it can."""
        if traits.bare and not self.bare:
            return "a bare client has nothing of this"
        if int(parameters.get("body", 0)) > traits.max_body:
            return f"bodies are limited to {traits.max_body:,} bytes"
        return ""

    @abstractmethod
    async def run(self, stage: "Stage", parameters: Parameters) -> Run:
        """Do it once with headrace on the stage's backend.

        The run that is returned has figures and counts; the rest of it is filled in by others. Raises
        `Unsuitable`, and whatever goes wrong.
        """

    async def run_bare(self, stage: "Stage", parameters: Parameters) -> Run:
        """The same with the bare client."""
        raise NotImplementedError


def number(parameters: Parameters, name: str, default: int) -> int:
    """A parameter that is a whole number."""
    return int(parameters.get(name, default))
