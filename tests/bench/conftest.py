"""What the benchmark suite's tests share: the command in a process of its own, and reports made by hand."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from headrace_bench.results import Figure, Machine, Measurement, Participant, Report, Run, ScenarioNote, read

#: The plugins of ``misfits.py``.
MISFITS = ("losing", "repeating", "trailing", "raising", "dying", "hanging")


@dataclass
class Bench:
    """``headrace bench`` in a folder of its own, where the misfits are installed, too."""

    folder: Path
    environment: Mapping[str, str]
    processes: list["subprocess.Popen[str]"] = field(default_factory=list)

    def run(self, *arguments: str, status: int = 0) -> str:
        """What the command prints, stderr included; fails if it ends otherwise than so."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=110)
        assert process.returncode == status, said
        return said

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace.cli", "bench", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    @property
    def report(self) -> Report:
        return read(self.folder / "headrace-bench" / "report.json")

    def expect_clean(self) -> None:
        """Fail if a scratch folder is left, or a process."""
        assert not list((self.folder / "headrace-bench").glob(".scratch*"))
        left = [each for each in psutil.process_iter(["environ"]) if self._is_ours(each)]
        assert not left

    def _is_ours(self, process: Any) -> bool:
        return (process.info["environ"] or {}).get("BENCH_TEST") == str(self.folder)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    plugins = tmp_path / "plugins"
    metadata = plugins / "headrace_misfits-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: headrace-misfits\nVersion: 1.0\n")
    points = "".join(f"{name} = headrace_misfits:{name}\n" for name in MISFITS)
    (metadata / "entry_points.txt").write_text(f"[headrace.backends]\n{points}")
    shutil.copy(Path(__file__).with_name("misfits.py"), plugins / "headrace_misfits.py")
    folder = tmp_path / "work"
    folder.mkdir()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE")}
    made = Bench(folder, {**variables, "PYTHONPATH": str(plugins), "BENCH_TEST": str(folder)})
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_for(process: "subprocess.Popen[str]", text: str) -> str:
    """What a process has printed until it printed that. Fails if it ends before."""
    said = ""
    deadline = time.monotonic() + 90
    assert process.stdout is not None
    while text not in said:
        line = process.stdout.readline()
        assert line and time.monotonic() < deadline, said
        said += line
    return said


def run(rate: float, number: int = 0, **words: Any) -> Run:
    """A run of a scenario with one figure."""
    return Run(round=number, figures={"rate": rate}, jobs=100, **words)


def measured(participant: str, *runs: Run, scenario: str = "consume", **parameters: Any) -> Measurement:
    """All runs of one participant."""
    return Measurement(
        scenario=scenario, participant=participant, parameters=parameters, runs=list(runs), complete=True
    )


def report_of(*measurements: Measurement, **words: Any) -> Report:
    """A report of two participants and such measurements."""
    note = ScenarioNote("consume", "Jobs are run.", {"rate": Figure("jobs/s", "higher")})
    latency = ScenarioNote(
        "latency", "Jobs wait.", {"p50": Figure("ms", "lower", "p50"), "p99": Figure("ms", "lower", "p99")}
    )
    backlog = ScenarioNote("backlog", "Many wait.", {"cost": Figure("µs/job", "lower")})
    return Report(
        began=0.0,
        size="quick",
        complete=True,
        machine=Machine("a <processor>", 2, 2**33, "Linux 6", "CPython 3.11.7"),
        scenarios={"consume": note, "latency": latency, "backlog": backlog},
        participants=[
            Participant(
                name="river",
                kind="backend",
                broker="river",
                guarantee="at least once",
                bare="river, bare",
                lacks=["keep order"],
            ),
            Participant(name="river, bare", kind="bare", broker="river", guarantee="at most once"),
        ],
        measurements=list(measurements),
        **words,
    )
