"""The entry points of the built-in backends: options in, an unopened backend out."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.driver import Backend
from headrace.errors import ConfigError
from headrace_memory import plugin as memory_plugin
from headrace_sqlite import plugin as sqlite_plugin

from .helpers import ids, message


class Options:
    """What core hands to a plugin, in its simplest form."""

    def __init__(self, root: Path, **values: Any) -> None:
        self.name = "main"
        self.root = root
        self.values = values

    def read(self, settings: type[Any]) -> Any:
        try:
            return msgspec.convert(self.values, settings)
        except msgspec.ValidationError as error:
            raise ConfigError(str(error).replace("$", f"backends.{self.name}")) from error

    def error(self, key: str, problem: str) -> Exception:
        return ConfigError(f"backends.main.{key}: {problem}")


def test_a_relative_path_starts_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    assert sqlite_plugin.headrace_backend(Options(tmp_path)).place == str(tmp_path / "headrace.db")
    assert sqlite_plugin.headrace_backend(Options(tmp_path, path="a/b.db")).place == str(tmp_path / "a" / "b.db")
    assert sqlite_plugin.headrace_backend(Options(tmp_path, path="/a/b.db")).place == "/a/b.db"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("path", ":memory:"), ("path", ""), ("path", "file:x?mode=memory"), ("busy_seconds", -1.0), ("poll_seconds", 0.0)],
)
def test_a_value_that_cannot_be_meant_is_refused_with_its_key(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"backends\.main\.{key}"):
        sqlite_plugin.headrace_backend(Options(tmp_path, **{key: value}))


async def test_each_memory_backend_has_a_store_of_its_own_that_its_clones_share(tmp_path: Path) -> None:
    one: Backend = memory_plugin.headrace_backend(Options(tmp_path))
    other: Backend = memory_plugin.headrace_backend(Options(tmp_path))
    await one.driver("{q}").push([message("a")])
    assert await other.driver("{q}").pop(1, 0) == []
    assert ids(await one.clone().driver("{q}").pop(1, 0)) == ["a"]
