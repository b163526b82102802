"""A session: every contender at every scenario, in turns, and what is known of it at any moment.

Each scenario goes round all contenders of a broker before the next begins, so that those that are
compared are next to each other in time; every other round goes backwards, so that a machine that
slows down does not favour the first. The report tells what there is whenever the session is left.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final

from headrace_bench import calibration, machine
from headrace_bench.results import Measurement, Participant, Report, Run, Skip
from peers import install
from peers.brokers import Brokers
from peers.contenders import CONTENDERS, Broker, Contender
from peers.killing import KINDS, Kind, Outcome, Trial, describe
from peers.measuring import FULL, Bench, Size, timed
from peers.processes import PeerFailed
from peers.scenarios import NOTES, SCENARIOS, Scenario

#: Kill trials that take place at once: most of the time they wait.
TRIALS: Final = 10

#: Durability, by broker: the settings of all contenders' servers are the same.
DURABILITY: Final = {
    "redis": "in the server's memory: it keeps nothing on disk",
    "rabbitmq": "persistent messages of a single server",
    "sqlite": "in the file, as the settings say",
}

#: Is told in a line what has been done.
Tell = Callable[[str], None]


class Session:
    """One run of `peers`."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        size: Size,
        brokers: Brokers,
        libraries: Path,
        folder: Path,
        tell: Tell,
    ) -> None:
        self._contenders = contenders
        self._size = size
        self._brokers = brokers
        self._libraries = libraries
        self._folder = folder
        self._tell = tell
        self._seen: list[float] = []
        self._measurements: dict[tuple[str, str, str], Measurement] = {}
        self._benches: dict[str, Bench] = {}
        self._fates: dict[str, str] = {}
        self._skips: list[Skip] = []
        self._stopping = threading.Event()
        self._began = time.time()

    def run(self, rounds: int, scenarios: Sequence[str], kill: bool) -> None:
        """Do everything; what has been done when it is interrupted is in `report`."""
        self._seat()
        todo = [each for each in SCENARIOS if each.name in scenarios]
        for number in range(rounds):
            for broker in dict.fromkeys(each.broker for each in self._contenders):
                there = [each for each in self._benches.values() if each.contender.broker == broker]
                for scenario in todo:
                    for bench in there if number % 2 == 0 else reversed(there):
                        self._measure(number, scenario, bench)
        if kill:
            self._kill()
        for measurement in self._measurements.values():
            measurement.complete = True

    def _seat(self) -> None:
        """Find out who can take part."""
        for at, contender in enumerate(self._contenders):
            reason = self._brokers.missing.get(contender.broker, "")
            if not contender.ours and not install.installed(self._libraries, contender.library):
                reason = f"{contender.library} is not installed in {self._libraries}"
            if reason:
                self._skips += [Skip(scenario=name, participant=contender.name, reason=reason) for name in NOTES]
                self._tell(f"{contender.name}: left out: {reason}")
            else:
                folder = self._folder / str(at)
                folder.mkdir()
                bench = Bench(contender, self._brokers, self._libraries, folder, self._size)
                self._benches[contender.name] = bench

    def _measure(self, number: int, scenario: Scenario, bench: Bench) -> None:
        run = timed(number, lambda: scenario.run(bench), self._seen)
        self._add(bench.contender, scenario.name, scenario.parameters, run)
        self._tell(f"round {number + 1}, {bench.contender.name}, {_label(scenario)}: {_told(run)}")

    def _add(
        self, contender: Contender, scenario: str, parameters: dict[str, str | int | float | bool], run: Run
    ) -> None:
        key = (scenario, str(parameters), contender.name)
        if key not in self._measurements:
            self._measurements[key] = Measurement(scenario=scenario, participant=contender.name, parameters=parameters)
        self._measurements[key].runs.append(run)

    def _kill(self) -> None:
        brokers: set[Broker] = {each.contender.broker for each in self._benches.values()}
        for broker in brokers:
            self._brokers.empty(broker)
        fates: dict[str, dict[Kind, Outcome | str]] = {name: {} for name in self._benches}
        # Those that take longest first, as the last one to end is what all wait for.
        benches = sorted(self._benches.values(), key=lambda bench: -bench.contender.recovery)
        pool = ThreadPoolExecutor(TRIALS)
        try:
            trials = [pool.submit(self._try_kill, bench, kind) for bench in benches for kind in KINDS]
            for trial in as_completed(trials):
                bench, kind, outcome = trial.result()
                name = bench.contender.name
                run = outcome.to_run() if isinstance(outcome, Outcome) else Run(round=0, error=outcome)
                self._add(bench.contender, "kill", {"trial": kind}, run)
                fates[name][kind] = outcome
                if len(fates[name]) == len(KINDS):
                    self._fates[name] = describe(fates[name]["slow"], fates[name]["busy"])
                    self._tell(f"{name}: {self._fates[name]}")
        finally:
            self._stopping.set()
            pool.shutdown(cancel_futures=True)

    def _try_kill(self, bench: Bench, kind: Kind) -> tuple[Bench, Kind, Outcome | str]:
        folder = self._folder / f"kill-{kind}-{list(self._benches).index(bench.contender.name)}"
        folder.mkdir()
        trial = Trial(bench.contender, self._brokers, self._libraries, folder, self._stopping)
        try:
            return bench, kind, trial.run(kind, bench.rate)
        except (PeerFailed, RuntimeError, OSError, ValueError) as error:
            return bench, kind, f"{type(error).__name__}: {error}"

    def report(self, ended: str = "") -> Report:
        """What is known so far. ``ended``: why it is not all."""
        runs = [run for measurement in self._measurements.values() for run in measurement.runs]
        calibrated = calibration.judge(runs, self._seen)
        return Report(
            began=self._began,
            seconds=time.time() - self._began,
            size="full" if self._size is FULL else "quick",
            complete=not ended,
            ended=ended,
            machine=machine.describe(),
            calibration=calibrated,
            scenarios=NOTES,
            participants=[self._participant(bench) for bench in self._benches.values()],
            measurements=list(self._measurements.values()),
            skipped=self._skips,
        )

    def _participant(self, bench: Bench) -> Participant:
        contender = bench.contender
        settings = {"settings": contender.settings}
        if contender.shortened:
            settings["when killed"] = contender.shortened
        return Participant(
            name=contender.name,
            kind="backend" if contender.ours else "peer",
            broker=contender.broker,
            versions=bench.versions | self._brokers.versions[contender.broker],
            settings=settings,
            durability=DURABILITY[contender.broker],
            guarantee=contender.guarantee,
            after_kill=self._fates.get(contender.name, ""),
        )


def _label(scenario: Scenario) -> str:
    return " ".join([scenario.name, *(f"{name} {value}" for name, value in scenario.parameters.items())])


def _told(run: Run) -> str:
    if run.error:
        return run.error
    if run.lost:
        return f"LOST {run.lost} of {run.jobs}"
    figures = ", ".join(
        f"{name} {value:,.0f}" if value > 100 else f"{name} {value:.2f}" for name, value in run.figures.items()
    )
    return figures + (f", {run.duplicates} ran twice" if run.duplicates else "")


def named(wanted: Sequence[str], quick: bool) -> list[Contender]:
    """The contenders whose names begin with one of these. Raises `LookupError` for one that fits none.

    None wanted: all, or those of a quick session.
    """
    for each in wanted:
        if not any(contender.name.startswith(each) for contender in CONTENDERS):
            raise LookupError(each)
    if wanted:
        return [each for each in CONTENDERS if each.name.startswith(tuple(wanted))]
    return [each for each in CONTENDERS if each.quick or not quick]
