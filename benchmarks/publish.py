"""Write ``RESULTS.md`` and its charts from two reports: ``python benchmarks/publish.py BENCH.json PEERS.json``.

The first is ``headrace bench``'s, the second ``tox -e peers``'s. What stands in ``RESULTS.in.md`` goes before them: how
they were made, and what they mean.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from headrace_bench import charts, markdown
from headrace_bench.results import Report, read

_HERE: Final = Path(__file__).parent

#: Where charts go, beside the page.
_CHARTS: Final = "charts"


def main() -> int:
    """Read, draw, write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="a report of headrace bench")
    parser.add_argument("peers", type=Path, help="a report of the peers")
    options = parser.parse_args()
    sys.path.insert(0, str(_HERE))
    from peers import tables

    bench, peers = read(options.bench), read(options.peers)
    parts = [
        (_HERE / "RESULTS.in.md").read_text(encoding="utf-8"),
        f"# Other job queues beside headrace\n\n{_when(peers)}\n",
        *(markdown.table(each) for each in tables.tables_of(peers)),
        "".join(f"- {each}\n" for each in tables.remarks(peers)),
        *(_pictures(_on(peers, broker), broker) for broker in dict.fromkeys(one.broker for one in peers.participants)),
        f"# Backends beside each other, and beside their bare clients\n\n{_when(bench)}\n",
        markdown.render(bench, _drawn(bench, "bench")),
    ]
    (_HERE / "RESULTS.md").write_text("\n".join(part for part in parts if part), encoding="utf-8")
    return 0


def _when(report: Report) -> str:
    machine = report.machine
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB, {machine.kernel}, {machine.python}; "
        f"{time.strftime('%Y-%m-%d', time.gmtime(report.began))}, {report.size}, {report.seconds / 60:.0f} minutes."
    )


def _on(report: Report, broker: str) -> Report:
    """The same of one broker: what is on one chart can be compared."""
    kept = [each for each in report.participants if each.broker == broker]
    names = {each.name for each in kept}
    measurements = [each for each in report.measurements if each.participant in names]
    return msgspec.structs.replace(report, participants=kept, measurements=measurements)


def _drawn(report: Report, kind: str) -> dict[str, str]:
    """Where the picture of each scenario is, drawn now."""
    drawn = charts.draw(report)
    charts.write(drawn, _HERE / _CHARTS / kind)
    for each in drawn:  # a repository needs one form
        (_HERE / _CHARTS / kind / f"{each.name}.svg").unlink()
    return {each.scenario: f"{_CHARTS}/{kind}/{each.name}.png" for each in drawn}


def _pictures(report: Report, kind: str) -> str:
    return "\n".join(f"![{name} on {kind}]({path})\n" for name, path in _drawn(report, kind).items())


if __name__ == "__main__":
    sys.exit(main())
