"""What a plugin's author imports: the hooks, and the options that a hook is given.

A distribution offers a backend by an entry point of the group ``headrace.backends``, whose
name is the backend's and whose value is a module with a `headrace_backend` function marked
`hookimpl`. The built-in backends are found in no other way.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import pluggy

from headrace.driver import Backend

#: The entry-point group, and the name under which pluggy keeps the hooks apart.
ENTRY_POINTS: Final = "headrace.backends"
PROJECT: Final = "headrace"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Settings = TypeVar("Settings")


class BackendOptions(Protocol):
    """One ``[backends.NAME]`` table, as a plugin sees it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in the configuration; it need not be the plugin's."""

    @property
    @abstractmethod
    def root(self) -> Path:
        """The folder that relative paths start from."""

    @property
    @abstractmethod
    def values(self) -> Mapping[str, Any]:
        """The table as it stands, environment references resolved."""

    @abstractmethod
    def read(self, settings: type[Settings]) -> Settings:
        """Validate the table into a dataclass (fields with defaults, annotated with plain types).

        A ``Path`` starts from `root`. Ranges may be annotated with ``msgspec.Meta``, and a table in
        the table with another dataclass. Text that came from the environment is read as the
        type of its field.

        Raises `ConfigError` with file, key path, what was found, what is allowed and the
        nearest known name, as for every other part of the configuration.
        """

    @abstractmethod
    def error(self, key: str, problem: str) -> Exception:
        """A `ConfigError` that names the file and the path of ``key``, for a plugin's own checks."""


class Hooks:
    """The hooks that a plugin may implement. A misspelt one is refused when the plugin is loaded."""

    @hookspec(firstresult=True)
    def headrace_backend(self, options: BackendOptions) -> Backend | None:
        """Build the backend that ``options`` describe, and touch nothing yet: no file, no socket.

        Called when a queue that uses the backend is first needed. Raises `ConfigError` for
        options that are wrong.
        """

    @hookspec
    def headrace_listeners(self) -> Iterable[Callable[[Any], object]]:
        """Functions marked with ``headrace.listen``, to be called with the events of every worker."""
        return ()
