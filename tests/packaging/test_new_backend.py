"""A project as ``headrace new backend`` makes it, in the hands of its author: ``tox`` runs at once."""

import re
from pathlib import Path

import pytest
from virtual_environments import Environment

pytestmark = pytest.mark.timeout(300)  # tox makes an environment, and downloads what it has not yet


def test_tox_runs_every_case_and_each_says_what_is_still_to_be_written(
    author_environment: Environment, tmp_path: Path
) -> None:
    author_environment.run(author_environment.headrace, "new", "backend", "trial", cwd=tmp_path)
    tox = author_environment.folder / "bin" / "tox"
    done = author_environment.run(tox, cwd=tmp_path / "trial", check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    found = re.search(r"= (\d+) failed, (\d+) passed, (\d+) skipped in ", done.stdout)
    assert found, done.stdout
    failed, passed, skipped = map(int, found.groups())
    code = "from headrace.conformance.case import all_cases; print(len(all_cases()))"
    cases = int(author_environment.run_code(code, cwd=tmp_path))
    assert failed + passed + skipped == cases
    assert failed > cases / 2
    # What needs no call of the backend, such as that building one touches nothing, is right already.
    assert passed < 5
    reasons = re.findall(r"^E   AssertionError: \w+: (.*)$", done.stdout, re.MULTILINE)
    assert len(reasons) == failed
    assert {reason for reason in reasons if "is still to be written" not in reason} == set()
