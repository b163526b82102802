"""``python -m peers LIBRARIES``: all contenders at everything, in turns; tables, and a report in JSON.

``LIBRARIES`` is the folder into which `peers.install` has put the competitors. ``tox -e peers`` does
both. Exit code 0: all was measured; 1: something failed, could not take part, or lost jobs without
a kill; 2: wrong usage; 130: interrupted.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console

from headrace_bench import results
from peers import tables
from peers.brokers import Brokers
from peers.measuring import FULL, QUICK
from peers.scenarios import NOTES
from peers.session import Session, named

#: Why a report is not complete, if somebody wanted it so.
INTERRUPTED: Final = "interrupted"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("libraries", type=Path, help="where the competitors are installed")
    parser.add_argument(
        "--quick", action="store_true", help="one short round, without settings that differ only in what a kill does"
    )
    parser.add_argument("--rounds", type=int, help="else 1 if quick, and 5 if not")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="contenders whose names begin so")
    parser.add_argument("--scenario", nargs="+", choices=list(NOTES), default=list(NOTES), help="else all of them")
    parser.add_argument("--json", type=Path, default=Path("headrace-peers.json"), help="where the report goes")
    options = parser.parse_args()
    try:
        contenders = named(options.only, options.quick)
    except LookupError as error:
        parser.error(f"there is no contender whose name begins with {error}")
    size = QUICK if options.quick else FULL
    console = Console(width=None if sys.stdout.isatty() else 180)
    progress = Console(stderr=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    ended = ""
    with (
        tempfile.TemporaryDirectory(prefix="headrace-peers-", ignore_cleanup_errors=True) as folder,
        Brokers({each.broker for each in contenders}, Path(folder)) as brokers,
    ):
        began = time.monotonic()

        def tell(line: str) -> None:
            progress.print(f"{time.monotonic() - began:6.0f} s  {line}", markup=False, highlight=False, soft_wrap=True)

        session = Session(
            contenders,
            size,
            brokers,
            options.libraries.resolve(),
            Path(folder),
            tell,
        )
        try:
            session.run(options.rounds or size.rounds, options.scenario, "kill" in options.scenario)
        except KeyboardInterrupt:
            ended = INTERRUPTED
        except (RuntimeError, OSError) as error:  # a broker is gone
            ended = f"{type(error).__name__}: {error}"
        report = session.report(ended)
        options.json.write_bytes(results.to_json(report))
    tables.show(report, console)
    progress.print(f"all figures: {options.json}", markup=False, highlight=False, soft_wrap=True)
    if ended:
        print(f"not complete: {ended}", file=sys.stderr)
        return 130 if ended == INTERRUPTED else 1
    runs = [(each.scenario, run) for each in report.measurements for run in each.runs]
    flawed = any(run.error or (run.lost and scenario != "kill") for scenario, run in runs)
    return 1 if report.skipped or flawed else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before there was anything to tell
        sys.exit(130)
