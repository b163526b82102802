"""The configuration: where it is found, and what it says once read.

Owns the order of places (argument, ``HEADRACE_CONFIG``, upwards from the working directory),
the merging of file and environment, and `Config`, the validated result. The settings are
`headrace.settings`, the form of errors is `headrace.tables`. Imports no plugin: a
``[backends.NAME]`` table is carried as `Options` to the plugin that validates it, and what
no queue uses is never looked into.
"""

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from headrace import environment
from headrace.errors import ConfigError, UnknownBackend, UnknownQueue
from headrace.redaction import mask, secrets_in
from headrace.settings import (
    NAME_PATTERN,
    NAME_WORDS,
    Backoff,
    Concurrent,
    QueueSettings,
    TopSettings,
)
from headrace.tables import SECTIONS, KeyPath, Reading, show, suggest
from headrace.vocabulary import QUEUE_WORDS, TOP_WORDS

__all__ = ["Backoff", "Concurrent", "Config", "Options", "QueueSettings"]

Settings = TypeVar("Settings")

#: The file that is looked for, and the one that may hold a table of ours.
FILE: Final = "headrace.toml"
PROJECT_FILE: Final = "pyproject.toml"

#: Where that table stands.
PROJECT_TABLE: Final = ("tool", "headrace")

#: The queue that exists wherever there is a configuration.
DEFAULT_QUEUE: Final = "default"

#: The one key of a ``[backends.NAME]`` table that is not the plugin's own.
PLUGIN_KEY: Final = "plugin"


@dataclass(frozen=True, slots=True)
class Options:
    """One ``[backends.NAME]`` table for its plugin, as `headrace.plugin.BackendOptions` describes it.

    References to the environment are resolved when a plugin asks, so that a backend that is
    not used needs none of its variables.
    """

    name: str
    root: Path
    source: str  #: the file, or what stands for it in an error
    _table: Mapping[str, Any] = field(repr=False)
    _environ: Mapping[str, str] = field(repr=False)
    _origins: Mapping[KeyPath, str] = field(repr=False)
    _prefix: KeyPath = field(repr=False)

    @property
    def values(self) -> Mapping[str, Any]:
        """The table without ``plugin``, environment references resolved; `ConfigError` if one cannot be."""
        reading, values = self._expand()
        reading.check()
        return MappingProxyType(values)

    @property
    def plugin(self) -> str:
        """The plugin that carries this backend: of the same name, unless the table says ``plugin``."""
        if PLUGIN_KEY not in self._table:
            return self.name
        reading = self._reading()
        path = (*self._path, PLUGIN_KEY)
        found = environment.expand({PLUGIN_KEY: self._table[PLUGIN_KEY]}, self._environ, reading, self._path)
        plugin = found.get(PLUGIN_KEY)
        if PLUGIN_KEY in found and not (isinstance(plugin, str) and plugin):
            reading.refuse(path, plugin, "the name of an installed backend")
        reading.check()
        return str(plugin)

    def read(self, settings: type[Settings]) -> Settings:
        """Validate the table into a dataclass; `ConfigError` tells all that is wrong with it at once."""
        reading, values = self._expand()
        read = reading.table(settings, values, self._path, also=(PLUGIN_KEY,))
        reading.check()
        assert read is not None  # or `check` would have raised
        return read

    def error(self, key: str | None, problem: str) -> ConfigError:
        """A `ConfigError` that names the file and the path of ``key``, or of the table itself.

        Secrets of the table are masked.
        """
        return ConfigError(self._sentence(key, problem))

    def unknown_backend(self, problem: str) -> UnknownBackend:
        """As `error`, for a plugin that is not installed."""
        return UnknownBackend(self._sentence(PLUGIN_KEY if PLUGIN_KEY in self._table else None, problem))

    def mask(self, text: str) -> str:
        """A text without the secrets of this table, as far as their keys tell that they are secrets."""
        return mask(text, secrets_in(self._expand()[1]))

    @property
    def _path(self) -> KeyPath:
        return ("backends", self.name)

    def _sentence(self, key: str | None, problem: str) -> str:
        places = [self.source]
        if key is not None:
            places.append(self._reading().place((*self._path, key)))
        elif self._table:
            places.append(self._reading().place(self._path))
        return ": ".join([*places, self.mask(problem)])

    def _reading(self) -> Reading:
        return Reading(self.source, self.root, self._prefix, dict(self._origins))

    def _expand(self) -> tuple[Reading, dict[str, Any]]:
        reading = self._reading()
        table = {key: value for key, value in self._table.items() if key != PLUGIN_KEY}
        return reading, environment.expand(table, self._environ, reading, self._path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A configuration that was read and found right. Made by `load` or `from_mapping`."""

    source: Path | None  #: the file; ``None`` for a mapping in code and for the built-in defaults
    root: Path  #: what relative paths start from, and what `activate` puts on ``sys.path``
    in_code: bool  #: built from a mapping
    backend: str  #: every queue's default
    imports: tuple[str, ...]
    listeners: tuple[str, ...]
    middleware: tuple[str, ...]
    lifespan: str | None
    signing_keys: tuple[str, ...] = field(repr=False)
    backends: Mapping[str, Options]  #: the tables there are; `backend_options` knows every backend
    queues: Mapping[str, QueueSettings]  #: those configured, ``default`` always among them
    overrides: tuple[str, ...]  #: the environment variables that override something
    _environ: Mapping[str, str] = field(repr=False)

    @classmethod
    def load(
        cls, path: str | Path | None = None, *, environ: Mapping[str, str] | None = None, cwd: str | Path | None = None
    ) -> "Config":
        """The configuration of a file, else of ``HEADRACE_CONFIG``, else of what is found upwards from here.

        In each folder ``headrace.toml`` goes before ``[tool.headrace]`` in ``pyproject.toml``. With
        none of them, the built-in defaults: every queue on sqlite. Raises `ConfigError`, which
        tells of everything that is wrong.
        """
        environ = dict(os.environ if environ is None else environ)
        here = Path.cwd() if cwd is None else Path(cwd).absolute()
        named = environ.get(environment.CONFIG_VARIABLE)
        file: _File | None
        if path is not None:
            file = _read_named(here / path, "")
        elif named:
            file = _read_named(here / named, f"{environment.CONFIG_VARIABLE}: ")
        else:
            file = _find(here)
        if file is None:
            return _build({}, Reading("built-in defaults", here), environ, source=None, in_code=False)
        reading = Reading(str(file.path), file.path.parent, file.prefix)
        return _build(file.values, reading, environ, source=file.path, in_code=False)

    @classmethod
    def from_mapping(
        cls, mapping: Mapping[str, Any], *, root: str | Path | None = None, environ: Mapping[str, str] | None = None
    ) -> "Config":
        """The configuration of a mapping of the same shape as the file, references and overrides included.

        ``root``: what relative paths start from; by default the working directory.
        """
        environ = dict(os.environ if environ is None else environ)
        reading = Reading("configuration in code", Path.cwd() if root is None else Path(root).absolute())
        values = _copy(mapping, (), reading)
        reading.check()
        return _build(values, reading, environ, source=None, in_code=True)

    def queue(self, name: str) -> QueueSettings:
        """The settings of a queue. Raises `UnknownQueue`, naming the nearest.

        With neither file nor mapping every name is a queue, with default settings.
        """
        if name in self.queues:
            return self.queues[name]
        if self.source is not None or self.in_code:
            raise UnknownQueue(f"{self._label}: there is no queue {show(name)}; {suggest(name, self.queues)}")
        reading = Reading(self._label, self.root)
        queue = QueueSettings(name, self.backend)
        if not re.match(NAME_PATTERN, name):
            raise UnknownQueue(f"{self._label}: there is no queue {show(name)}; a queue's name is of {NAME_WORDS}")
        _refuse_shared_prefixes([*self.queues.values(), queue], reading)
        reading.check()
        return queue

    def backend_options(self, name: str) -> Options:
        """The options of a backend; without any, if it has no table. Whether it is installed is not asked."""
        if name in self.backends:
            return self.backends[name]
        return Options(name, self.root, self._label, {}, self._environ, {}, ())

    def describe(self) -> str:
        """Which configuration this is, in one line without secrets."""
        if self.source is not None:
            text = str(self.source)
        elif self.in_code:
            text = "a mapping in code"
        else:
            text = f"built-in defaults (there is no {FILE} from {self.root} upwards)"
        return mask(f"{text}, with {', '.join(self.overrides)}" if self.overrides else text)

    def activate(self) -> None:
        """Put the configuration's folder first on ``sys.path``, so that its modules import as from there.

        Not for a mapping in code: what built it is running, and can import already.
        """
        folder = str(self.root)
        if not self.in_code and folder not in sys.path:
            sys.path.insert(0, folder)

    @property
    def _label(self) -> str:
        if self.source is not None:
            return str(self.source)
        return "configuration in code" if self.in_code else "built-in defaults"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    values: dict[str, Any] = field(repr=False)
    prefix: KeyPath


def _read_named(path: Path, because: str) -> _File:
    """The configuration that somebody named. ``because`` opens errors that concern the name."""
    path = Path(os.path.normpath(path))
    if path.is_dir():
        raise ConfigError(f"{because}{path} is a directory; name a file, such as {path / FILE}")
    values = _parse(path)
    if values is None:
        raise ConfigError(f"{because}there is no file {path}")
    if path.name != PROJECT_FILE:
        return _File(path, values, ())
    table = _project_table(values)
    if table is None:
        raise ConfigError(f"{because}{path} has no table [{'.'.join(PROJECT_TABLE)}]")
    return _File(path, table, PROJECT_TABLE)


def _find(here: Path) -> _File | None:
    """The configuration of the nearest folder that has one."""
    for folder in (here, *here.parents):
        path = folder / FILE
        values = _parse(path)
        if values is not None:
            return _File(path, values, ())
        path = folder / PROJECT_FILE
        table = _project_table(_parse(path) or {})
        if table is not None:
            return _File(path, table, PROJECT_TABLE)
    return None


def _parse(path: Path) -> dict[str, Any] | None:
    """A TOML file's tables; ``None`` if there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}") from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, a number of thousands of digits, deep nesting
        raise ConfigError(f"{path}: is not TOML: {error}") from error


def _project_table(values: Mapping[str, Any]) -> dict[str, Any] | None:
    table: Any = values
    for key in PROJECT_TABLE:
        table = table.get(key) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else None


def _copy(value: Any, path: KeyPath, reading: Reading) -> Any:
    """What a mapping in code holds, as TOML would have given it; the caller's own stays untouched."""
    if isinstance(value, Mapping):
        copy = {}
        for key, item in value.items():
            if isinstance(key, str):
                copy[key] = _copy(item, (*path, key), reading)
            else:
                reading.report(path, f"has the key {show(key)}; allowed: strings")
        return copy
    if isinstance(value, list | tuple):
        return [_copy(item, (*path, position), reading) for position, item in enumerate(value)]
    return value


def _build(
    values: dict[str, Any], reading: Reading, environ: Mapping[str, str], *, source: Path | None, in_code: bool
) -> Config:
    """Merge the environment into the tables and validate them. Raises `ConfigError` with all problems."""
    overrides = environment.overrides(environ, reading)
    for override in overrides:
        if override.keys[0] != "backends":
            environment.apply(override, values, environ, reading)
    raw_backends = values.pop("backends", {})
    values = environment.expand(values, environ, reading)
    raw_queues = values.pop("queues", {})

    top = reading.table(TopSettings, values, (), words=TOP_WORDS, also=SECTIONS) or TopSettings()
    queues = _read_queues(raw_queues, top.backend, reading)
    _refuse_shared_prefixes(queues.values(), reading)

    # Last, since a backend without a table is known by the queues that name it.
    tables = {"backends": raw_backends}
    used = {top.backend, *(queue.backend for queue in queues.values())}
    for override in overrides:
        if override.keys[0] == "backends":
            environment.apply(override, tables, environ, reading, used)
    backends = _read_backends(tables["backends"], environ, reading)

    reading.check()
    return Config(
        source=source,
        root=reading.root,
        in_code=in_code,
        backend=top.backend,
        imports=top.imports,
        listeners=top.listeners,
        middleware=top.middleware,
        lifespan=top.lifespan,
        signing_keys=top.signing_keys,
        backends=MappingProxyType(backends),
        queues=MappingProxyType(queues),
        overrides=tuple(override.variable for override in overrides),
        _environ=environ,
    )


def _read_queues(raw: Any, backend: str, reading: Reading) -> dict[str, QueueSettings]:
    queues = {DEFAULT_QUEUE: QueueSettings(DEFAULT_QUEUE, backend)}
    for name, table in _named_tables(raw, "queues", reading):
        queue = reading.table(
            QueueSettings,
            table,
            ("queues", name),
            words=QUEUE_WORDS,
            given={"name": name},
            defaults={"backend": backend},
        )
        if queue is not None:
            queues[name] = queue
    return queues


def _read_backends(raw: Any, environ: Mapping[str, str], reading: Reading) -> dict[str, Options]:
    return {
        name: Options(name, reading.root, reading.source, table, environ, dict(reading.origins), reading.prefix)
        for name, table in _named_tables(raw, "backends", reading)
    }


def _named_tables(raw: Any, section: str, reading: Reading) -> Iterable[tuple[str, dict[str, Any]]]:
    """The tables ``[section.NAME]``; what is no table, or has no good name, is reported."""
    if not isinstance(raw, dict):
        reading.refuse((section,), raw, f"tables [{section}.NAME]")
        return
    for name, table in raw.items():
        if not re.match(NAME_PATTERN, name):
            reading.report((section, name), f"cannot be a name; allowed: {NAME_WORDS}")
        elif not isinstance(table, dict):
            reading.refuse((section, name), table, f"a table [{section}.{name}]")
        else:
            yield name, table


def _refuse_shared_prefixes(queues: Iterable[QueueSettings], reading: Reading) -> None:
    """Report queues that would share their messages. hyperf lets them; there it is the usual mistake."""
    owners: dict[tuple[str, str], str] = {}
    for queue in queues:
        owner = owners.setdefault((queue.backend, queue.prefix), queue.name)
        if owner != queue.name:
            reading.report(
                ("queues", queue.name, "prefix"),
                f"is {show(queue.prefix)} on the backend {show(queue.backend)}, "
                f"as that of the queue {show(owner)}; give each queue its own",
            )
