"""``headrace new backend``: a project of the right names, in the contract's own words, and what is refused."""

import importlib
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.driver import CONTRACT, Backend, Driver
from headrace.scaffold.origin import requirement

from .conftest import Shop


@pytest.fixture
def project(shop: Shop) -> Path:
    shop.run("new", "backend", "two-part")
    return shop.folder / "two-part"


@pytest.fixture
def package(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the project's package, which can be imported."""
    monkeypatch.syspath_prepend(project / "src")
    yield "headrace_two_part"
    for name in [name for name in sys.modules if name.partition(".")[0] == "headrace_two_part"]:
        del sys.modules[name]


def said(folder: Path, *command: str) -> str:
    """What a tool of Python prints about a folder; empty if it is content."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_the_help_has_examples(shop: Shop) -> None:
    assert "backend" in shop.run("new", "--help").stdout
    assert "Examples:\n    headrace new backend " in shop.run("new", "backend", "-h").stdout


def test_a_project_has_package_tests_and_papers(project: Path) -> None:
    assert {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()} == {
        ".gitignore",
        "README.md",
        "pyproject.toml",
        "src/headrace_two_part/__init__.py",
        "src/headrace_two_part/backend.py",
        "src/headrace_two_part/driver.py",
        "src/headrace_two_part/plugin.py",
        "src/headrace_two_part/py.typed",
        "src/headrace_two_part/settings.py",
        "tests/test_conformance.py",
        "tox.ini",
    }


def test_the_entry_point_has_the_backends_name(project: Path) -> None:
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert metadata["name"] == "headrace-two-part"
    assert metadata["entry-points"] == {"headrace.backends": {"two-part": "headrace_two_part.plugin"}}


def test_the_driver_has_every_verb_with_the_contracts_words_and_says_what_is_to_be_written(package: str) -> None:
    made = importlib.import_module(f"{package}.driver").TwoPartDriver
    verbs = [name for name, member in vars(Driver).items() if inspect.isfunction(member)]
    assert set(verbs) <= vars(made).keys()
    for name in verbs:
        assert inspect.getdoc(vars(made)[name]) == inspect.getdoc(vars(Driver)[name])
        assert inspect.signature(vars(made)[name]) == inspect.signature(vars(Driver)[name])
        assert f"{name}() is still to be written" in inspect.getsource(vars(made)[name])
    words = importlib.import_module(f"{package}.driver").__doc__ or ""
    assert "* **Atomicity.**" in words
    assert "* **Telemetry.**" in words


def test_the_backend_can_be_built_and_claims_nothing(package: str) -> None:
    settings = importlib.import_module(f"{package}.settings").TwoPartSettings()
    backend = importlib.import_module(f"{package}.backend").TwoPartBackend(settings)
    assert isinstance(backend, Backend)
    assert isinstance(backend.clone(), Backend)
    assert isinstance(backend.driver("{mail}"), Driver)
    claims = backend.capabilities
    assert claims.contract == CONTRACT
    assert not (claims.durable or claims.shared or claims.ordered or claims.idempotent or claims.unique or claims.peek)
    for name, member in vars(Backend).items():
        if not name.startswith("_"):
            assert inspect.getdoc(vars(type(backend))[name]) == inspect.getdoc(member)


def test_linter_formatter_and_type_checker_have_nothing_against_a_project(project: Path) -> None:
    assert said(project, "ruff", "check", "--no-cache", ".") == ""
    assert said(project, "ruff", "format", "--no-cache", "--diff", ".") == ""
    assert said(project, "mypy", "--no-incremental", "src", "tests") == ""


def test_the_folder_can_be_chosen_and_the_folders_around_it_are_made(shop: Shop) -> None:
    said = shop.run("new", "backend", "ledger", "--folder", "some/where").stdout
    assert "cd some/where && tox" in said
    assert (shop.folder / "some/where/src/headrace_ledger/driver.py").is_file()


def test_what_is_there_is_never_written_to(shop: Shop) -> None:
    (shop.folder / "ledger").mkdir()
    (shop.folder / "file").touch()
    assert "ledger is there already" in shop.run("new", "backend", "ledger", status=2).stderr
    assert "file is there already" in shop.run("new", "backend", "ledger", "--folder", "file", status=2).stderr
    assert list((shop.folder / "ledger").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_in_one_line(shop: Shop) -> None:
    (shop.folder / "file").touch()
    told = shop.run("new", "backend", "ledger", "--folder", "file/ledger", status=1).stderr
    assert told.startswith("error: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize("name", ["", "Ledger", "2nd", "a_b", "a--b", "-a", "../a", "é", "a\nb"])
def test_a_name_that_no_package_could_have_is_refused(shop: Shop, name: str) -> None:
    before = set(shop.folder.iterdir())
    assert "allowed: lower-case letters" in " ".join(shop.run("new", "backend", "--", name, status=2).stderr.split())
    assert set(shop.folder.iterdir()) == before


def test_the_name_of_an_installed_backend_is_refused_naming_its_distribution(shop: Shop) -> None:
    told = " ".join(shop.run("new", "backend", "sqlite", status=2).stderr.split())
    assert "headrace 0." in told
    assert "offers a backend of that name already" in told


def test_the_name_of_an_installed_package_is_refused(shop: Shop) -> None:
    (shop.folder / "headrace_ledger.py").touch()
    told = shop.run("new", "backend", "ledger", status=2, PYTHONPATH=str(shop.folder)).stderr
    assert "a package headrace_ledger is installed already" in " ".join(told.split())


def test_the_tests_find_headrace_where_they_are_told(shop: Shop) -> None:
    for number, (given, written) in enumerate(
        [
            (".", f"headrace @ {shop.folder.as_uri()}"),
            ("headrace>=0.1,<2", "headrace>=0.1,<2"),
            ("headrace @ git+https://example.org/headrace", "headrace @ git+https://example.org/headrace"),
        ]
    ):
        shop.run("new", "backend", "ledger", "--folder", str(number), "--headrace", given)
        assert f"\ndeps = {written}\n" in (shop.folder / str(number) / "tox.ini").read_text()


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        (None, None),
        ('{"url": "file:///", "dir_info": {"editable": true}}', "headrace @ file:///"),
        ('{"url": "https://example.org/h.whl", "archive_info": {}}', "headrace @ https://example.org/h.whl"),
        (
            '{"url": "https://example.org/h", "vcs_info": {"vcs": "git", "commit_id": "abc"}, "subdirectory": "core"}',
            "headrace @ git+https://example.org/h@abc#subdirectory=core",
        ),
    ],
    ids=["from an index", "from a folder", "from an archive", "from a repository"],
)
def test_a_project_has_headrace_from_where_it_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: str | None, expected: str | None
) -> None:
    install(tmp_path, noted)
    monkeypatch.syspath_prepend(tmp_path)
    assert requirement() == expected


def test_an_origin_that_is_gone_is_said_and_left_out(shop: Shop) -> None:
    install(shop.folder, '{"url": "file:///no/such%20folder", "dir_info": {}}')
    told = shop.run("new", "backend", "ledger", PYTHONPATH=str(shop.folder)).stderr
    assert "/no/such folder, which is gone" in told
    assert "\ndeps =\n" in (shop.folder / "ledger/tox.ini").read_text()


def install(folder: Path, direct_url: str | None) -> None:
    """Let a folder of ``sys.path`` have headrace's metadata, as an installer would have left them."""
    metadata = folder / "headrace-9.9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: headrace\nVersion: 9.9\n")
    if direct_url is not None:
        (metadata / "direct_url.json").write_text(direct_url)
