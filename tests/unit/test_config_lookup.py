"""Where the configuration is found, and what is said of files that are none."""

import errno
import os
import sys
from pathlib import Path

import pytest

from headrace.config import Config
from headrace.errors import ConfigError, UnknownQueue

NO_VARIABLES: dict[str, str] = {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder with one below it."""
    (tmp_path / "shop" / "jobs").mkdir(parents=True)
    return tmp_path / "shop"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problem(path: Path | str | None = None, *, environ: dict[str, str] = NO_VARIABLES, cwd: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        Config.load(path, environ=environ, cwd=cwd)
    return str(caught.value)


def test_the_file_is_looked_for_upwards_from_the_working_directory(folder: Path) -> None:
    file = write(folder / "headrace.toml", 'backend = "redis"')
    config = Config.load(environ={}, cwd=folder / "jobs")
    assert (config.source, config.root, config.backend) == (file, folder, "redis")
    assert config.describe() == str(file)


def test_a_table_in_pyproject_is_a_configuration(folder: Path) -> None:
    write(folder / "pyproject.toml", '[tool.headrace]\nbackend = "redis"\n[tool.headrace.queues.mail]\nprocesses = 4\n')
    config = Config.load(environ={}, cwd=folder / "jobs")
    assert config.backend == "redis"
    assert config.queue("mail").processes == 4


def test_a_pyproject_without_the_table_is_passed_by(folder: Path) -> None:
    write(folder / "headrace.toml", "")
    write(folder / "jobs" / "pyproject.toml", "[tool.ruff]\n")
    assert Config.load(environ={}, cwd=folder / "jobs").source == folder / "headrace.toml"


def test_headrace_toml_goes_before_pyproject_in_the_same_folder(folder: Path) -> None:
    write(folder / "pyproject.toml", '[tool.headrace]\nbackend = "redis"\n')
    write(folder / "headrace.toml", 'backend = "memory"')
    assert Config.load(environ={}, cwd=folder).backend == "memory"


def test_the_nearer_folder_wins(folder: Path) -> None:
    write(folder / "headrace.toml", 'backend = "redis"')
    write(folder / "jobs" / "pyproject.toml", '[tool.headrace]\nbackend = "memory"\n')
    assert Config.load(environ={}, cwd=folder / "jobs").backend == "memory"


def test_an_argument_goes_before_the_variable_and_the_variable_before_what_is_found(folder: Path) -> None:
    write(folder / "headrace.toml", 'backend = "found"')
    by_variable = write(folder / "variable.toml", 'backend = "variable"')
    by_argument = write(folder / "argument.toml", 'backend = "argument"')
    environ = {"HEADRACE_CONFIG": str(by_variable)}
    assert Config.load(by_argument, environ=environ, cwd=folder).backend == "argument"
    assert Config.load(environ=environ, cwd=folder).backend == "variable"
    assert Config.load(environ={"HEADRACE_CONFIG": ""}, cwd=folder).backend == "found"


def test_a_relative_argument_starts_from_the_working_directory(folder: Path) -> None:
    write(folder / "other.toml", "")
    config = Config.load("../other.toml", environ={}, cwd=folder / "jobs")
    assert config.source == folder / "other.toml"
    assert config.root == folder


def test_the_environment_and_working_directory_of_the_process_are_the_defaults(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "headrace.toml", 'backend = "redis"')
    monkeypatch.chdir(folder / "jobs")
    monkeypatch.delenv("HEADRACE_CONFIG", raising=False)
    monkeypatch.setenv("HEADRACE__QUEUES__DEFAULT__PROCESSES", "3")
    config = Config.load()
    assert config.source == folder / "headrace.toml"
    assert config.queue("default").processes == 3


def test_without_a_file_every_queue_is_on_sqlite(folder: Path) -> None:
    config = Config.load(environ={}, cwd=folder)
    assert (config.source, config.in_code, config.root) == (None, False, folder)
    for name in ("default", "whatever"):
        queue = config.queue(name)
        assert (queue.name, queue.backend, queue.prefix) == (name, "sqlite", f"{{{name}}}")
    assert dict(config.backend_options("sqlite").values) == {}
    assert config.describe() == f"built-in defaults (there is no headrace.toml from {folder} upwards)"


def test_without_a_file_a_queue_still_needs_a_sound_name_and_a_prefix_of_its_own(folder: Path) -> None:
    config = Config.load(environ={"HEADRACE__QUEUES__MAIL__PREFIX": "{bulk}"}, cwd=folder)
    assert config.queue("mail").prefix == "{bulk}"
    with pytest.raises(
        UnknownQueue, match=r'^built-in defaults: there is no queue "a b"; a queue\'s name is of letters'
    ):
        config.queue("a b")
    with pytest.raises(ConfigError, match=r'as that of the queue "mail"; give each queue its own$'):
        config.queue("bulk")


def test_with_a_file_only_its_queues_and_default_exist(folder: Path) -> None:
    file = write(folder / "headrace.toml", "[queues.mail]\n[queues.thumbnails]\n")
    config = Config.load(environ={}, cwd=folder)
    assert sorted(config.queues) == ["default", "mail", "thumbnails"]
    with pytest.raises(UnknownQueue) as near:
        config.queue("thumbnail")
    assert str(near.value) == f'{file}: there is no queue "thumbnail"; did you mean "thumbnails"?'
    with pytest.raises(UnknownQueue) as far:
        config.queue("zzz")
    assert str(far.value) == f'{file}: there is no queue "zzz"; known are: default, mail, thumbnails'


def test_a_mapping_in_code_is_a_configuration_and_stays_as_it_was(tmp_path: Path) -> None:
    mapping = {"backend": "memory", "queues": {"mail": {"retry_seconds": (1, 5)}}}
    config = Config.from_mapping(mapping, root=tmp_path, environ={"HEADRACE__QUEUES__MAIL__PROCESSES": "2"})
    assert (config.source, config.in_code, config.root) == (None, True, tmp_path)
    assert config.queue("mail").retry_seconds == (1.0, 5.0)
    assert config.queue("mail").processes == 2
    assert mapping == {"backend": "memory", "queues": {"mail": {"retry_seconds": (1, 5)}}}
    assert config.describe() == "a mapping in code, with HEADRACE__QUEUES__MAIL__PROCESSES"


def test_a_mapping_in_code_must_have_strings_for_keys() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping({"queues": {1: {}}}, environ={})
    assert str(caught.value) == "configuration in code: queues: has the key 1; allowed: strings"


def test_loading_leaves_the_import_path_alone_and_activating_puts_the_folder_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", list(before))
    write(folder / "headrace.toml", "")
    config = Config.load(environ={}, cwd=folder)
    assert sys.path == before
    config.activate()
    config.activate()
    assert sys.path == [str(folder), *before]


def test_activating_a_mapping_in_code_changes_nothing(tmp_path: Path) -> None:
    before = list(sys.path)
    Config.from_mapping({}, root=tmp_path, environ={}).activate()
    assert sys.path == before


def test_a_missing_file_is_named_with_who_named_it(folder: Path) -> None:
    missing = folder / "nowhere.toml"
    assert problem(missing) == f"there is no file {missing}"
    assert problem(environ={"HEADRACE_CONFIG": str(missing)}) == f"HEADRACE_CONFIG: there is no file {missing}"


def test_a_directory_is_no_configuration(folder: Path) -> None:
    assert problem(folder) == f"{folder} is a directory; name a file, such as {folder / 'headrace.toml'}"


def test_a_named_pyproject_must_have_the_table(folder: Path) -> None:
    file = write(folder / "pyproject.toml", "[tool.ruff]\n")
    assert problem(file) == f"{file} has no table [tool.headrace]"


def test_an_unreadable_file_is_refused_and_not_passed_by(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(folder / "headrace.toml", "")

    def refuse(path: Path, encoding: str) -> str:  # in place of a mode, which does not bind root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert problem(cwd=folder) == f"{file}: cannot be read: Permission denied"


def test_a_directory_of_the_files_name_is_refused_and_not_passed_by(folder: Path) -> None:
    (folder / "headrace.toml").mkdir()
    assert problem(cwd=folder) == f"{folder / 'headrace.toml'}: cannot be read: Is a directory"


def test_broken_toml_is_reported_with_file_and_line(folder: Path) -> None:
    file = write(folder / "headrace.toml", 'backend = "redis"\n[queues.mail\n')
    text = problem(cwd=folder)
    assert text.startswith(f"{file}: is not TOML: ")
    assert "line 2" in text


def test_a_file_that_is_no_text_is_reported(folder: Path) -> None:
    file = folder / "headrace.toml"
    file.write_bytes(b"backend = '\xff'")
    assert problem(file) == f"{file}: is not UTF-8 text: invalid start byte at byte 11"


def test_problems_in_pyproject_are_told_with_the_whole_key_path(folder: Path) -> None:
    file = write(folder / "pyproject.toml", "[tool.headrace.queues.mail]\nprocesses = 0\n")
    assert (
        problem(cwd=folder)
        == f"{file}: tool.headrace.queues.mail.processes: found 0; allowed: a whole number, 1 or more"
    )


def test_tables_written_as_for_pyproject_are_recognised(folder: Path) -> None:
    write(folder / "headrace.toml", "[tool.headrace]\n")
    assert "write the tables at the top of this file" in problem(cwd=folder)
