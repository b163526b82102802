"""Write ``RESULTS.md`` and its charts: ``python benchmarks/publish.py BENCH.json PEERS.json [PEERS.json ...]``.

The first report is ``headrace bench``'s, the others ``tox -e peers``'s: each of these has brokers that no other has, as
only what stands in one table has to be of one session. What stands in ``RESULTS.in.md`` goes before them: how they were
made, and what they mean.
"""

import argparse
import sys
import time
from collections.abc import Sequence
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
    parser.add_argument("peers", type=Path, nargs="+", help="reports of the peers")
    options = parser.parse_args()
    sys.path.insert(0, str(_HERE))
    from peers import tables

    bench, sessions = read(options.bench), [read(each) for each in options.peers]
    peers = _joined(sessions)
    parts = [
        (_HERE / "RESULTS.in.md").read_text(encoding="utf-8"),
        "# Other job queues beside headrace\n",
        "".join(f"- {', '.join(_brokers(each))}: {_when(each)}\n" for each in sessions),
        *(markdown.table(each) for each in tables.tables_of(peers)),
        "".join(f"- {each}\n" for each in tables.remarks(peers)),
        *(_pictures(_on(peers, broker), broker) for broker in _brokers(peers)),
        f"# Backends beside each other, and beside their bare clients\n\n{_when(bench)}\n",
        markdown.render(bench, _drawn(bench, "bench")),
    ]
    (_HERE / "RESULTS.md").write_text("\n".join(part for part in parts if part), encoding="utf-8")
    return 0


def _brokers(report: Report) -> list[str]:
    return list(dict.fromkeys(each.broker for each in report.participants))


def _joined(reports: Sequence[Report]) -> Report:
    """The reports as one. Raises `SystemExit` if two have the same broker."""
    found = [broker for each in reports for broker in _brokers(each)]
    if len(set(found)) < len(found):
        raise SystemExit(f"each broker has to be in one report of the peers: {', '.join(found)}")
    return msgspec.structs.replace(
        reports[0],
        participants=[each for report in reports for each in report.participants],
        measurements=[each for report in reports for each in report.measurements],
        skipped=[each for report in reports for each in report.skipped],
    )


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
