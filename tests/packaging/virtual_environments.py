"""Virtual environments that the packaging tests build in, install into and run things in."""

import os
import subprocess
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

#: The tree that is built.
ROOT: Final = Path(__file__).parents[2]

#: Third parties' distributions, one in each folder.
DISTRIBUTIONS: Final = Path(__file__).parent / "distributions"

#: Variables of the running tests that would reach into the environments below.
_FOREIGN_VARIABLES: Final = ("COVERAGE_", "COV_", "HEADRACE", "PYTEST_", "PYTHON", "TOX_", "VIRTUAL_ENV")


def own_variables() -> dict[str, str]:
    """The environment of the running tests, without what is theirs alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_VARIABLES)}


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment and its commands."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def headrace(self) -> Path:
        """The installed command."""
        return self.folder / "bin" / "headrace"

    def run(self, *command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment, apart from that of the tests; fails with all that it said."""
        done = subprocess.run(command, cwd=cwd, env=own_variables(), capture_output=True, text=True, check=False)
        if check and done.returncode:
            pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def run_code(self, code: str, *, cwd: Path) -> str:
        """What a program prints. Warnings are errors there as they are here."""
        # -P: the working directory, which holds configurations and not modules, is not imported from.
        return self.run(self.python, "-P", "-W", "error", "-c", code, cwd=cwd).stdout.strip()


def make_environment(folder: Path, *, with_pip: bool = False) -> Environment:
    """An empty environment of the Python that runs the tests."""
    venv.create(folder, with_pip=with_pip, symlinks=True)
    return Environment(folder)


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds distributions and installs them elsewhere: the only environment with pip and hatchling."""

    environment: Environment

    def build(self, source: Path, target: Path, *kinds: str) -> None:
        """Build what a folder holds, as ``wheel`` or ``sdist``, into another; the source stays as it is."""
        chosen = [argument for kind in kinds for argument in ("-t", kind)]
        self.environment.run(
            self.environment.python, "-m", "hatchling", "build", *chosen, "-d", target.absolute(), cwd=source
        )

    def install(self, into: Environment, what: Sequence[str | Path]) -> None:
        """Let pip install into another environment: requirements, wheels, pip's own options."""
        pip = (self.environment.python, "-m", "pip", "--python", into.python)
        options = (
            "install",
            "--quiet",
            "--no-compile",
            "--no-input",
            "--disable-pip-version-check",
            "--root-user-action",
            "ignore",
        )
        self.environment.run(*pip, *options, *what, cwd=into.folder)
