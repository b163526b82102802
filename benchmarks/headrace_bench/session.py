"""One session of measuring: who does what, in turns, and what has come of it so far.

Owns the order of runs and the report. Each run is a process of its own, so that nothing is left of it for the next, and
a plugin that hangs or breaks costs that run alone. Whatever ends the session, the report says what was measured.
"""

import shutil
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from headrace_bench import calibration
from headrace_bench.machine import describe
from headrace_bench.participants import Absent, Member
from headrace_bench.process import Child
from headrace_bench.results import Measurement, Question, Report, Run, Skip
from headrace_bench.scenario import Parameters, Scenario
from headrace_bench.sizes import Size
from headrace_bench.tasks import Do, Done, Failed, Unfit, read_answer
from headrace_bench.usage import is_alive

#: Runs in a row without a figure after which a participant is left out: its server is gone, or its plugin broken.
_PATIENCE: Final = 4


@dataclass(frozen=True, slots=True)
class Step:
    """One run of the plan."""

    scenario: Scenario
    parameters: Parameters
    member: Member
    round: int
    rounds: int


@dataclass
class Session:
    """Everything that is measured in one go. `run` is called once."""

    members: Sequence[Member]
    scenarios: Sequence[tuple[Scenario, Sequence[Parameters]]]
    size: Size
    runs: int | None  #: of every scenario; ``None``: as the size says
    folder: Path  #: for scratch files
    absent: Sequence[Absent] = ()
    question: Question | None = None
    report: Report = field(init=False)
    _seen: list[float] = field(default_factory=list)  #: every calibration
    _failing: dict[str, int] = field(default_factory=dict)  #: runs in a row without a figure, by participant
    _out: dict[str, str] = field(default_factory=dict)  #: who is left out from now on, and why

    def __post_init__(self) -> None:
        self.report = Report(
            began=time.time(),
            size=self.size.name,
            machine=describe(),
            question=self.question,
            scenarios={scenario.name: scenario.note for scenario, _ in self.scenarios},
            participants=[each.participant for each in self.members],
            skipped=[Skip(scenario="", participant=each.name, reason=each.reason) for each in self.absent],
        )

    def plan(self) -> list[Step]:
        """The runs in their order: participants take turns, so that a noisy hour is noisy for all of them."""
        steps = []
        for scenario, variants in self.scenarios:
            rounds = self.runs or (self.size.runs if scenario.repeated or self.size.name == "full" else 1)
            suited = [
                (parameters, member)
                for parameters in variants
                for member in self.members
                if not scenario.refuse(member.traits, parameters)
            ]
            for number in range(rounds):
                steps += [Step(scenario, parameters, member, number, rounds) for parameters, member in suited]
        return steps

    def run(self) -> Generator[tuple[Step, Run | None], None, None]:
        """Do the plan, step by step; before each step it is told with ``None``, and after it with its run.

        Closed early, by an exception where it is told, say, the report is left as what was measured until then.
        """
        self._note_refusals()
        began = time.monotonic()
        before = self._calibrate()
        try:
            for step in self.plan():
                reason = self._out.get(step.member.participant.name)
                if reason is not None:
                    self._skip(step, reason)
                    continue
                yield step, None
                run = self._done(step)
                after = self._calibrate()
                if run is not None:
                    run.calibration = max(before, after)
                    self._keep(step, run)
                    yield step, run
                before = after
            self.report.complete = True
        finally:
            self.report.seconds = time.monotonic() - began
            runs = [run for measurement in self.report.measurements for run in measurement.runs]
            self.report.calibration = calibration.judge(runs, self._seen)
            self._tell_kills()

    def _note_refusals(self) -> None:
        for scenario, variants in self.scenarios:
            for member in self.members:
                if member.seat.bare:
                    continue  # that it does less is what makes it bare
                reasons = [scenario.refuse(member.traits, parameters) for parameters in variants]
                if any(reasons) and all(reasons):
                    self._note(Skip(scenario=scenario.name, participant=member.participant.name, reason=reasons[0]))

    def _calibrate(self) -> float:
        self._seen.append(calibration.measure())
        return self._seen[-1]

    def _done(self, step: Step) -> Run | None:
        """The run, with its error if it had one; ``None`` if it turned out that it cannot be done."""
        seat = step.member.seat
        folder = self.folder / "run"
        folder.mkdir()
        began = time.monotonic()
        try:
            task = Do(
                seat=seat,
                folder=str(folder),
                scenario=step.scenario.name,
                parameters=step.parameters,
                size=self.size.name,
            )
            data = msgspec.json.encode(task)
            child = Child(data, folder / "log", environment=seat.environment, own_session=True)
            try:
                problem = child.wait(self.size.limit)
            finally:
                child.end()
            answer = read_answer(str(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(answer, Unfit):
            self._skip(step, answer.reason)
            return None
        if isinstance(answer, Done):
            run = answer.run
        else:
            run = Run(round=0, error=answer.error if isinstance(answer, Failed) else problem or "it left no answer")
        run.round, run.seconds = step.round, time.monotonic() - began
        self._judge(step.member, run)
        return run

    def _judge(self, member: Member, run: Run) -> None:
        """Leave a participant out that cannot go on."""
        name = member.participant.name
        self._failing[name] = 0 if run.figures or run.lost else self._failing.get(name, 0) + 1
        server = member.seat.server
        if self._failing[name] and server is not None and not is_alive(server):
            for each in self.members:
                if each.seat.server == server:
                    self._out[each.participant.name] = f"its server died: {run.error}"
        elif self._failing[name] >= _PATIENCE:
            self._out[name] = f"given up after {_PATIENCE} runs that failed: {run.error}"

    def _keep(self, step: Step, run: Run) -> None:
        measurement = self._measurement(step)
        measurement.runs.append(run)
        measurement.complete = len(measurement.runs) == step.rounds

    def _measurement(self, step: Step) -> Measurement:
        for each in self.report.measurements:
            if (each.scenario, each.participant, each.parameters) == (
                step.scenario.name,
                step.member.participant.name,
                step.parameters,
            ):
                return each
        made = Measurement(
            scenario=step.scenario.name, participant=step.member.participant.name, parameters=step.parameters
        )
        self.report.measurements.append(made)
        return made

    def _skip(self, step: Step, reason: str) -> None:
        self._note(
            Skip(
                scenario=step.scenario.name,
                participant=step.member.participant.name,
                parameters=step.parameters,
                reason=reason,
            )
        )

    def _note(self, skip: Skip) -> None:
        if skip not in self.report.skipped:
            self.report.skipped.append(skip)

    def _tell_kills(self) -> None:
        """Let participants say what a ``kill -9`` did to them, as far as that was tried."""
        for measurement in self.report.measurements:
            if measurement.scenario != "kill" or not measurement.runs:
                continue
            told = _told(measurement.runs[-1])
            self.report.participants = [
                msgspec.structs.replace(each, after_kill=told) if each.name == measurement.participant else each
                for each in self.report.participants
            ]

    @property
    def failed(self) -> bool:
        """Whether anything went wrong: a run, a participant that was wanted, or the end."""
        return (
            not self.report.complete
            or bool(self._out)
            or any(each.wanted for each in self.absent)
            or any(run.error or run.lost for each in self.report.measurements for run in each.runs)
        )


def _told(run: Run) -> str:
    if run.lost:
        return f"LOST {run.lost} of {run.jobs}"
    if not run.figures:
        return ""
    return f"none lost, {run.duplicates} run twice, all run after {run.figures['recovery']:.1f} s"
