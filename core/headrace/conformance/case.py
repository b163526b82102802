"""Cases: single sentences of the contract, each with the code that proves it.

Owns how a case is declared and found. What a case is given is a `headrace.conformance.lab.Lab`;
how it is run stands in ``runner.py``.
"""

import importlib
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from headrace.conformance.harness import Ability, Harness
from headrace.conformance.promises import Promise
from headrace.driver import ALL_CHANNELS, Capabilities, Channel

if TYPE_CHECKING:
    from headrace.conformance.lab import Lab

#: What a backend may claim: fields of `Capabilities` that say yes, be it of some channels, and two that say which.
Capability = Literal[
    "durable",
    "shared",
    "ordered",
    "idempotent",
    "unique",
    "peek",
    "cancel",
    "selective",
    "wait_ready",
    "store",
    "lend",
    "exact_counts",
    "timed_leases",
]

#: A claim for one channel, or for all that it can be made for.
ChannelCapability = Literal[
    "peek:waiting",
    "peek:reserved",
    "peek:delayed",
    "peek:failed",
    "peek:timeout",
    "peek:all",
    "selective:waiting",
    "selective:delayed",
    "selective:failed",
    "selective:timeout",
    "selective:all",
    "flush:all",
    "lend:delayed",
    "lend:all",
]

#: What a case may need of the backend. A claim of channels that names none is needed for any channel, be it only one.
Need = Capability | ChannelCapability

#: The channels that each of these claims can be made for. What is reserved is in the hands of workers.
CLAIMABLE: Final[dict[str, frozenset[Channel]]] = {
    "peek": ALL_CHANNELS,
    "selective": ALL_CHANNELS - {"reserved"},
    "flush": ALL_CHANNELS - {"reserved"},
    "lend": ALL_CHANNELS - {"reserved"},
}

#: Seconds that a case may take, unless it says otherwise; a hanging backend costs no more.
TIME_LIMIT: Final = 30.0

#: The modules that hold cases, in the order of the report.
MODULES: Final = (
    "pushing",
    "delays",
    "popping",
    "waiting",
    "leases",
    "settling",
    "order",
    "unique",
    "resting",
    "looking",
    "moving",
    "claims",
    "connections",
    "stateful",
    "engine",
    "faults",
    "processes",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One sentence, and its proof."""

    name: str
    sentence: str
    promise: Promise
    run: "Callable[[Lab], Awaitable[None]] | Callable[[Lab], None]"
    needs: tuple[Need, ...] = ()  #: capabilities without which there is nothing to prove
    lacks: tuple[Need, ...] = ()  #: capabilities with which there is nothing to prove
    abilities: tuple[Ability, ...] = ()  #: what the harness must be able to do
    alone: bool = False  #: measures, or disturbs others: nothing else may run beside it
    processes: bool = False  #: starts worker processes, which take a processor to start: few such cases at once
    long: bool = False  #: takes minutes: only in the long form
    time_limit: float = TIME_LIMIT  #: seconds
    long_factor: int = 1  #: how much longer it may take in the long form, where it does more

    def obstacle(self, capabilities: Capabilities, harness: Harness, *, long: bool) -> str | None:
        """Why the case has nothing to prove here; ``None`` if it has."""
        for need in self.needs:
            if not declares(capabilities, need):
                return f"needs the capability {_worded(need)}"
        for need in self.lacks:
            if declares(capabilities, need):
                return f"is for backends without the capability {_worded(need)}"
        for ability in self.abilities:
            if not harness.offers(ability):
                return f"needs a harness with {ability}()"
        return "is part of the long form" if self.long and not long else None


def declares(capabilities: Capabilities, need: Need) -> bool:
    """Whether a backend claims it."""
    if need == "exact_counts":
        return capabilities.counts == "exact"
    if need == "timed_leases":
        return capabilities.leases == "timed"
    capability, _, channel = need.partition(":")
    declared = getattr(capabilities, capability)
    if not channel:
        return bool(declared)
    wanted = CLAIMABLE[capability] if channel == "all" else {channel}
    return bool(declared >= wanted)


def _worded(need: Need) -> str:
    capability, _, channel = need.partition(":")
    if not channel:
        return capability
    return f"{capability} for {'all channels' if channel == 'all' else channel}"


_cases: Final[dict[str, Case]] = {}


def case(
    promise: Promise,
    *,
    needs: tuple[Need, ...] = (),
    lacks: tuple[Need, ...] = (),
    abilities: tuple[Ability, ...] = (),
    alone: bool = False,
    processes: bool = False,
    long: bool = False,
    time_limit: float = TIME_LIMIT,
    long_factor: int = 1,
) -> Callable[[Any], Any]:
    """Declare a function to be a case. Its name is the sentence in short, its docstring's first paragraph in full."""

    def declare(function: Any) -> Any:
        sentence = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
        if not sentence:
            raise ValueError(f"the case {function.__name__} does not say what it proves")
        if function.__name__ in _cases:
            raise ValueError(f"there are two cases named {function.__name__}")
        _cases[function.__name__] = Case(
            name=function.__name__,
            sentence=sentence,
            promise=promise,
            run=function,
            needs=needs,
            lacks=lacks,
            abilities=abilities,
            alone=alone,
            processes=processes,
            long=long,
            time_limit=time_limit,
            long_factor=long_factor,
        )
        return function

    return declare


def all_cases() -> tuple[Case, ...]:
    """Every case of the kit, in the order of the report."""
    modules = [importlib.import_module(f"headrace.conformance.cases.{name}").__name__ for name in MODULES]
    # Somebody may have imported some of them before, in another order.
    return tuple(sorted(_cases.values(), key=lambda case: modules.index(case.run.__module__)))
