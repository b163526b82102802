"""Environments for the packaging tests: one that builds, one with headrace alone, one with plugins.

All are made once per run, from the tree that these tests stand in. Nothing is shared with the
environment that runs the tests: what is missing from a wheel, or from its requirements, is missing here.
"""

import os
import subprocess
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

#: The tree that is built.
ROOT = Path(__file__).parents[2]

#: Third parties' distributions, one in each folder.
DISTRIBUTIONS = Path(__file__).parent / "distributions"

#: Variables of the running tests that would reach into the environments below.
_FOREIGN_VARIABLES = ("COVERAGE_", "COV_", "HEADRACE", "PYTEST_", "PYTHON", "VIRTUAL_ENV")


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
        variables = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_VARIABLES)}
        done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
        if check and done.returncode:
            pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def run_code(self, code: str, *, cwd: Path) -> str:
        """What a program prints. Warnings are errors there as they are here."""
        # -P: the working directory, which holds configurations and not modules, is not imported from.
        return self.run(self.python, "-P", "-W", "error", "-c", code, cwd=cwd).stdout.strip()


def _make(folder: Path, *, with_pip: bool = False) -> Environment:
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
        pip = (self.environment.python, "-m", "pip", "--python", into.python)
        options = ("install", "--quiet", "--no-input", "--disable-pip-version-check", "--root-user-action", "ignore")
        self.environment.run(*pip, *options, *what, cwd=into.folder)


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    environment = _make(tmp_path_factory.mktemp("builder"), with_pip=True)
    builder = Builder(environment)
    builder.install(environment, ["hatchling>=1.27"])
    return builder


@pytest.fixture(scope="session")
def built(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this tree."""
    target = tmp_path_factory.mktemp("built")
    builder.build(ROOT, target, "wheel", "sdist")
    return target


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (wheel,) = built.glob("headrace-*.whl")
    return wheel


@pytest.fixture(scope="session")
def sdist(built: Path) -> Path:
    (sdist,) = built.glob("headrace-*.tar.gz")
    return sdist


@pytest.fixture(scope="session")
def clean_environment(builder: Builder, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel, what it requires, and nothing else, not even pip."""
    environment = _make(tmp_path_factory.mktemp("clean"))
    builder.install(environment, [wheel])
    return environment


@pytest.fixture(scope="session")
def plugin_environment(
    builder: Builder, clean_environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An environment with every third party's distribution; headrace is that of the clean one."""
    environment = _make(tmp_path_factory.mktemp("plugins"))
    (lower,) = clean_environment.folder.glob("lib/python*/site-packages")
    (upper,) = environment.folder.glob("lib/python*/site-packages")
    (upper / "clean_environment.pth").write_text(f"{lower}\n")
    wheels = tmp_path_factory.mktemp("wheels")
    for source in sorted(DISTRIBUTIONS.iterdir()):
        builder.build(source, wheels, "wheel")
    builder.install(environment, ["--no-deps", *wheels.glob("*.whl")])
    return environment
