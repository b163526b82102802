"""The scenarios, by name. A file each; `SCENARIOS` is their order in lists and reports."""

from typing import Final

from headrace_bench.scenario import Scenario
from headrace_bench.scenarios.backlog import Backlog
from headrace_bench.scenarios.consume import Consume
from headrace_bench.scenarios.delay import Delay
from headrace_bench.scenarios.idle import Idle
from headrace_bench.scenarios.kill import Kill
from headrace_bench.scenarios.latency import Latency
from headrace_bench.scenarios.memory import Memory
from headrace_bench.scenarios.processes import Processes
from headrace_bench.scenarios.push import Push
from headrace_bench.scenarios.push_many import PushMany
from headrace_bench.scenarios.reload import Reload
from headrace_bench.scenarios.retry import RetryAndFail

SCENARIOS: Final[tuple[Scenario, ...]] = (
    Push(),
    PushMany(),
    Consume(),
    Processes(),
    Latency(),
    Delay(),
    RetryAndFail(),
    Reload(),
    Backlog(),
    Idle(),
    Memory(),
    Kill(),
)


def find(name: str) -> Scenario:
    """The scenario of that name. Raises `LookupError`."""
    for each in SCENARIOS:
        if each.name == name:
            return each
    raise LookupError(f"there is no scenario {name!r}")
