"""Environments for the packaging tests: one that builds, one with headrace alone, one with plugins, an author's.

All are made once per run, from the tree that these tests stand in. Nothing is shared with the
environment that runs the tests: what is missing from a wheel, or from its requirements, is missing here.
"""

from pathlib import Path

import pytest
from virtual_environments import DISTRIBUTIONS, ROOT, Builder, Environment, make_environment

#: They have tests of their own, for environments where they are installed.
collect_ignore = ["distributions"]


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    environment = make_environment(tmp_path_factory.mktemp("builder"), with_pip=True)
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
    environment = make_environment(tmp_path_factory.mktemp("clean"))
    builder.install(environment, [wheel])
    return environment


@pytest.fixture(scope="session")
def plugin_environment(
    builder: Builder, clean_environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An environment with every third party's distribution; headrace is that of the clean one."""
    environment = make_environment(tmp_path_factory.mktemp("plugins"))
    (lower,) = clean_environment.folder.glob("lib/python*/site-packages")
    (upper,) = environment.folder.glob("lib/python*/site-packages")
    (upper / "clean_environment.pth").write_text(f"{lower}\n")
    wheels = tmp_path_factory.mktemp("wheels")
    for source in sorted(DISTRIBUTIONS.iterdir()):
        builder.build(source, wheels, "wheel")
    builder.install(environment, ["--no-deps", *wheels.glob("*.whl")])
    return environment


@pytest.fixture(scope="session")
def author_environment(builder: Builder, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What the author of a backend has: headrace, pip, tox, and nothing of ours beside."""
    environment = make_environment(tmp_path_factory.mktemp("author"), with_pip=True)
    builder.install(environment, [wheel, "tox>=4.20"])
    return environment
