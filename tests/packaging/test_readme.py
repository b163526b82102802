"""The README's commands work as they stand there, in its order, in a new user's folder.

Fenced blocks with a ``title`` are files; ``console`` blocks are what is typed, each line that
begins with ``$`` a command that must end with 0. What is shown of its output, but for times,
ids and paths, must be what is printed.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual_environments import ROOT, Builder, Environment

pytestmark = pytest.mark.timeout(600)

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
#: Folders of a checkout that a new user's clone would not have.
NOT_CLONED = shutil.ignore_patterns(".git", ".tox", ".venv", "__pycache__", "*.db*", ".*_cache", "dist", "build")


def blocks() -> list[tuple[str, str, str]]:
    """Language, title and text of every fenced block."""
    return [(language, title, text) for language, title, text in BLOCK.findall((ROOT / "README.md").read_text())]


def steps() -> Iterator[tuple[str, str, list[str]]]:
    """Files to write and commands to run: a title with a text, or a command with the output shown."""
    for language, title, text in blocks():
        if title:
            yield title, text, []
        elif language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, *shown = part.splitlines()
                yield "", command, shown


def steady(line: str) -> str:
    """A line without what differs from run to run."""
    times = r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d|\b\d+(\.\d+)? m?s\b"
    places = r"\b[0-9a-f]{32}\b|/\S+|\[\d+\]|\bvm:\d+|\S+:\d+\b"
    line = re.sub(f"{times}|{places}", "~", line)
    return re.sub(r"\s+", " ", line).strip()


def test_the_readmes_files_and_commands_work_in_their_order(
    builder: Builder, clean_environment: Environment, tmp_path: Path
) -> None:
    builder.install(clean_environment, ["pytest>=9"])  # a reader who tests has it
    environment = {**os.environ, "PATH": f"{clean_environment.headrace.parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    environment["HEADRACE_LOG_FORMAT"] = "plain"  # as on the terminal that the README was written at
    environment.pop("PYTHONSAFEPATH", None)  # tox sets it; a new user's `python signup.py` finds what lies beside it
    ran = 0
    for title, text, shown in steps():
        if title:
            (tmp_path / title).write_text(text)
            continue
        done = subprocess.run(
            text, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"$ {text}\n{printed}"
        lines = {steady(line) for line in printed.splitlines()}
        for line in shown:
            assert steady(line) in lines, f"$ {text}\nshown but not printed: {line}\n{printed}"
        ran += 1
    assert ran >= 10


def test_the_first_command_installs_and_runs_the_demo(tmp_path: Path) -> None:
    first, second = (text.strip() for language, _, text in blocks() if language == "sh")
    assert "bin/headrace demo" in first
    assert second.endswith("bin/tox")  # which is what runs this test
    clone = tmp_path / "headrace"
    shutil.copytree(ROOT, clone, ignore=NOT_CLONED)
    done = subprocess.run(first, shell=True, cwd=clone, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The totals agree." in done.stdout
