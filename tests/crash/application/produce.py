"""An application that pushes sales one after another, each until it is confirmed: ``python produce.py CONFIG COUNT``.

Started again, it goes on with what the ledger does not have as confirmed.
"""

import asyncio
import sys

from crash_jobs import Sale, ledger

from headrace import Headrace
from headrace.errors import BackendError


async def produce(config: str, count: int, seconds: float) -> None:
    async with Headrace.load(config) as app:
        for number in sorted(set(range(count)) - set(map(int, ledger.keys("confirmed")))):
            while True:
                try:
                    await app.queue().push(Sale(number=number, seconds=seconds), id=f"{number:032x}")
                    break
                except BackendError:
                    await asyncio.sleep(0.05)
            ledger.write("confirmed", str(number))


if __name__ == "__main__":
    asyncio.run(produce(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
