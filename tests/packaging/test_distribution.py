"""What is in headrace's wheel and sdist, and that the wheel works where nothing else is."""

import configparser
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from virtual_environments import ROOT, Builder, Environment

pytestmark = pytest.mark.timeout(300)  # the first test downloads what the wheel requires

#: Where packages that are shipped stand in the tree.
SOURCE_ROOTS = ("core", "backends", "benchmarks")


def names_in(wheel: Path) -> set[PurePosixPath]:
    with zipfile.ZipFile(wheel) as archive:
        return {PurePosixPath(name) for name in archive.namelist()}


def packages_in(wheel: Path) -> set[str]:
    return {name.parts[0] for name in names_in(wheel) if len(name.parts) == 2 and name.name == "__init__.py"}


def entry_points_in(wheel: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names keep their case
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        parser.read_string(archive.read(name).decode())
    return parser


def test_the_wheel_has_every_module_of_the_packages_that_it_ships(wheel: Path) -> None:
    packages = packages_in(wheel)
    assert packages >= {"headrace", "headrace_memory", "headrace_sqlite"}
    expected = {
        PurePosixPath(path.relative_to(ROOT / source_root))
        for source_root in SOURCE_ROOTS
        for path in (ROOT / source_root).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.relative_to(ROOT / source_root).parts[0] in packages
    }
    assert {name for name in names_in(wheel) if name.parts[0] in packages} == expected


def test_the_wheel_has_nothing_but_its_packages_and_metadata(wheel: Path) -> None:
    tops = {name.parts[0] for name in names_in(wheel)}
    (metadata,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops == {*packages_in(wheel), metadata}
    assert not [
        name for name in names_in(wheel) if "tests" in name.parts or name.name.startswith(("test_", "conftest"))
    ]
    assert PurePosixPath(metadata, "licenses", "LICENSE") in names_in(wheel)


def test_every_package_of_the_wheel_is_marked_as_typed(wheel: Path) -> None:
    assert {PurePosixPath(package, "py.typed") for package in packages_in(wheel)} <= names_in(wheel)


def test_every_entry_point_of_the_wheel_leads_to_a_module_that_it_has(wheel: Path) -> None:
    points = entry_points_in(wheel)
    assert points["console_scripts"]["headrace"] == "headrace.cli:main"
    assert {*points["headrace.backends"]} >= {"memory", "sqlite"}
    names = names_in(wheel)
    for section in points.sections():
        for value in points[section].values():
            module = PurePosixPath(*value.partition(":")[0].split("."))
            assert {module.with_suffix(".py"), module / "__init__.py"} & names, value


def test_the_sdist_has_sources_tests_and_papers(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {PurePosixPath(*PurePosixPath(name).parts[1:]) for name in archive.getnames()}
    for expected in (
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "tox.ini",
        "core/headrace/driver.py",
        "backends/headrace_sqlite/plugin.py",
        "tests/packaging/test_distribution.py",
        "tests/packaging/distributions/headrace-ledger/pyproject.toml",
    ):
        assert PurePosixPath(expected) in names
    assert not [name for name in names if "__pycache__" in name.parts or name.suffix == ".db"]


def test_the_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, builder: Builder, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    builder.build(source, tmp_path, "wheel")
    (rebuilt,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(rebuilt) as second:
        assert {(each.filename, each.CRC) for each in first.infolist()} == {
            (each.filename, each.CRC) for each in second.infolist()
        }


def test_the_installed_wheel_imports_every_module_without_a_warning_or_a_client_library(
    clean_environment: Environment, wheel: Path, tmp_path: Path
) -> None:
    # But for what is loaded only where its extra is: pytest plugin, benchmarks, backends with a client, random calls.
    with_extras = {"headrace_bench", "headrace_pytest", "headrace_rabbitmq", "headrace_redis", "headrace_sqs"}
    packages = sorted(packages_in(wheel) - with_extras)
    code = f"""
import importlib, pkgutil
for name in {packages}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{{name}}."):
        if not module.name.endswith(("__main__", "conformance.search")):
            importlib.import_module(module.name)
print(importlib.import_module("headrace").__file__)
"""
    installed = Path(clean_environment.run_code(code, cwd=tmp_path))
    assert installed.is_relative_to(clean_environment.folder)


def test_the_installed_command_is_there(clean_environment: Environment) -> None:
    assert clean_environment.headrace.is_file()


def test_the_built_in_backends_are_found_and_built_where_only_the_wheel_is(
    clean_environment: Environment, tmp_path: Path
) -> None:
    code = """
from headrace.config import Config
from headrace.registry import Registry
for name in ("memory", "sqlite"):
    print(Registry().build(Config.load().backend_options(name)).place)
"""
    assert clean_environment.run_code(code, cwd=tmp_path).splitlines() == [
        "this process's memory",
        str(tmp_path / "headrace.db"),
    ]
