"""``python -m guided_fuzz --seconds 120``: libFuzzer, by atheris, at everything that reads bytes of others.

It changes what it feeds a reader with by what code that reached. A finding is an error or an assertion, an input that
takes over 10 seconds, or more than 1 GiB of memory; it is printed and kept in the folder, and the exit code is 1.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fuzz_targets import TARGETS
from pages import date, machine, markdown

HEAD = """\
# Fuzzing

Everything that reads bytes from a broker or a file, fed by a coverage-guided fuzzer (libFuzzer, by atheris), which
begins with a few good inputs and changes them by what code that reached. Made by
`tox -e fuzz -- --seconds {seconds} --page docs/FUZZ.md`, on {date}, with {machine}.

*inputs*: how many were tried. *reached*: branches and comparisons of Python code that these told apart. *findings*:
errors and assertions, an input that took more than {slow} s, or more than {memory} MiB of memory.

The normal tests feed the same readers, and a worker, with inputs made by hypothesis (`tests/fuzz`): messages of ours
that were cut, flipped, overwritten and nested a hundred thousand levels deep.
"""

SLOW = 10  #: seconds for one input
MEMORY = 1024  #: MiB of a fuzzing process


@dataclass
class Result:
    """What came of one target."""

    name: str
    seconds: float
    inputs: int
    reached: int
    slowest: int  #: seconds, rounded down
    memory: int  #: MiB, at most
    finding: str  #: the end of what was printed, if it ended by itself


def main() -> int:
    parser = argparse.ArgumentParser(prog="guided_fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="for each target")
    parser.add_argument("--targets", default=",".join(TARGETS), help="some of them, joined by commas")
    parser.add_argument("--page", type=Path, help="where the table is written, in Markdown, beside being printed")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="a folder for what broke a reader")
    given = parser.parse_args()
    given.findings.mkdir(exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda name: fuzz(name, given.seconds, given.findings), given.targets.split(",")))
    text = page(results, given.seconds)
    print(text)
    for each in results:
        if each.finding:
            print(f"{each.name}:\n{each.finding}", file=sys.stderr)
    if given.page is not None:
        given.page.write_text(text)
    return int(any(each.finding for each in results))


def fuzz(name: str, seconds: int, findings: Path) -> Result:
    """Let the fuzzer loose on one target, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-") as folder:
        for number, seed in enumerate(TARGETS[name].seeds()):
            Path(folder, f"seed-{number}").write_bytes(seed)
        limits = (f"-max_total_time={seconds}", f"-timeout={SLOW}", f"-rss_limit_mb={MEMORY}", "-max_len=65536")
        command = [sys.executable, "-m", "guided_fuzz.loose", name, folder, *limits]
        command += ["-print_final_stats=1", f"-artifact_prefix={findings}{os.sep}{name}-"]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        taken = time.monotonic() - began
    said = done.stderr

    def figure(what: str) -> int:
        return max((int(each) for each in re.findall(what, said)), default=0)

    return Result(
        name,
        taken,
        inputs=figure(r"number_of_executed_units:\s+(\d+)") or figure(r"#(\d+)"),
        reached=figure(r"\bft: (\d+)"),
        slowest=figure(r"slowest_unit_time_sec:\s+(\d+)"),
        memory=figure(r"peak_rss_mb:\s+(\d+)"),
        finding="" if done.returncode == 0 else (done.stdout + said)[-5000:],
    )


def page(results: list[Result], seconds: int) -> str:
    """All of it, in Markdown."""
    head = HEAD.format(seconds=seconds, date=date(), machine=machine(), slow=SLOW, memory=MEMORY)
    lines = [("what is read", "inputs", "reached", "findings", "slowest s", "peak MiB")]
    for each in results:
        counts = (each.inputs, each.reached, int(bool(each.finding)), each.slowest, each.memory)
        lines.append((TARGETS[each.name].what, *(f"{count:,}" for count in counts)))
    total, findings = sum(each.inputs for each in results), sum(bool(each.finding) for each in results)
    lines.append(("all", f"{total:,}", "", str(findings), "", ""))
    return f"{head}\n{markdown(lines, 1)}"


if __name__ == "__main__":
    sys.exit(main())
