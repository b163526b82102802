"""A migration in a process of its own, which may be killed at one of its calls.

Arguments: the configuration as JSON, the queue to empty, the queue to fill, how many messages a batch has, and the
number of the call before or after which the process is killed; 0: none. Calls of both backends are counted together.
"""

import asyncio
import json
import sys

from headrace import Headrace
from headrace.conformance import Fault, FaultyBackend
from headrace.conformance.wrapping import LimitedBackend
from headrace.driver import Backend
from headrace.migration import Migration, Outcome


def main() -> int:
    settings, source, target, size, call = json.loads(sys.argv[1]), *sys.argv[2:4], *map(int, sys.argv[4:6])
    plain = Headrace(settings)
    faults = [Fault("*", "kill", "before" if call % 2 else "after", at=call)] if call else []
    counted = FaultyBackend(plain.backend(source), *faults)
    other = FaultyBackend(plain.backend(target))
    other._course = counted._course
    backends: dict[str, Backend] = {
        source: LimitedBackend(counted, max_batch=size),
        target: LimitedBackend(other, max_batch=size),
    }

    async def move() -> Outcome:
        async with Headrace(settings, backends=backends) as app:
            return await Migration(app.queue(source), app.queue(target), check=False).run()

    return 0 if asyncio.run(move()).is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
