"""Both type checkers see what is right and what is wrong in users' tests, line by line."""

import json
import re
import subprocess
import sys
from pathlib import Path

USES = Path(__file__).with_name("typed_uses.py")
WRONG = {number for number, line in enumerate(USES.read_text().splitlines(), 1) if line.rstrip().endswith("# wrong")}


def test_mypy_sees_exactly_the_wrong_uses_of_the_helpers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), "--no-error-summary", str(USES)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    found = {int(line) for line in re.findall(r"typed_uses\.py:(\d+): error", result.stdout)}
    assert found == WRONG, result.stdout + result.stderr


def test_pyright_sees_exactly_the_wrong_uses_of_the_helpers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(USES)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    diagnostics = json.loads(result.stdout)["generalDiagnostics"]
    found = {each["range"]["start"]["line"] + 1 for each in diagnostics if each["severity"] == "error"}
    assert found == WRONG, result.stdout + result.stderr
