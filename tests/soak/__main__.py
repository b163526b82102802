"""``python -m soak --minutes 30``: mixed load on all backends at once, while workers and brokers are killed at random.

Prints what there is each minute, and in the end what came of it, as tables. Exits with 1 if a job was lost, or
something grew that should not.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from places import PLACES

from headrace.conformance.servers.moto import ENVIRONMENT

from .page import Result, growth, page, told
from .site import Site


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--backends", default=",".join(PLACES), help="some of them, joined by commas")
    parser.add_argument("--rate", type=float, default=20.0, help="pushes in a second, on each backend")
    parser.add_argument("--page", type=Path, help="where the tables are written, in Markdown, beside being printed")
    given = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= ENVIRONMENT
    results = asyncio.run(soak(given.minutes, given.backends.split(","), given.rate))
    text = page(results, given.minutes, given.rate)
    print(f"\n{text}")
    if given.page is not None:
        given.page.write_text(text)
    return int(any(each.lost or each.steady_ended or growth(each.measures) for each in results))


async def soak(minutes: int, backends: list[str], rate: float) -> list[Result]:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-soak-")))
        sites = []
        for name in backends:
            (folder / name).mkdir()
            place = stack.enter_context(PLACES[name]())
            sites.append(await stack.enter_async_context(Site(folder / name, place, rate)))
        return await asyncio.gather(*(watch(site, minutes) for site in sites))


async def watch(site: Site, minutes: int) -> Result:
    """Disturb one site for so long, measuring each minute; then let it come to rest."""
    await site.until_at_work()
    began = time.monotonic()
    steady = site.steady
    disturbing = [asyncio.create_task(each) for each in (site.kill_workers(), site.kill_brokers(), site.mend())]
    result = Result(site.name, site.kills)
    for minute in range(1, minutes + 1):
        await asyncio.sleep(began + 60 * minute - time.monotonic())
        measures = await asyncio.to_thread(site.measure)
        result.measures.append(measures)
        print(told(site, minute, measures), flush=True)
    for task in disturbing:
        task.cancel()
    for outcome in await asyncio.gather(*disturbing, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    result.steady_ended = site.steady != steady
    await site.drain()
    ran, confirmed = site.ran(), site.confirmed()
    result.pushed, result.executed = len(confirmed), len(set(confirmed) & set(ran))
    result.lost, result.twice = len(site.missing()), len(ran) - len(set(ran))
    if result.lost:
        print(f"{site.name} has lost {sorted(site.missing())[:20]}\n{site.log()}", file=sys.stderr)
    return result


if __name__ == "__main__":
    sys.exit(main())
