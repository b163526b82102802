"""The backends that are installed, and how one of them is loaded.

Owns everything between the name of a plugin and an unopened `Backend`: entry points,
pluggy, the checks of what a plugin brought, and the words for what is wrong with it. Knows no
backend: the built-in ones are found as a third party's are. Loads nothing that is not asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import pluggy

from headrace.config import Options
from headrace.driver import CONTRACT, Backend, Capabilities
from headrace.errors import ConfigError, HeadraceError
from headrace.events import Listener
from headrace.plugin import ENTRY_POINTS, PROJECT, Hooks
from headrace.redaction import mask
from headrace.tables import show, suggest

#: The contract versions that this core can work with.
CONTRACTS: Final = frozenset({CONTRACT})

#: The hook that makes a module a backend's plugin.
_HOOK: Final = "headrace_backend"


@dataclass(frozen=True, slots=True, order=True)
class InstalledBackend:
    """One backend that an installed distribution offers, known from its metadata only."""

    name: str
    distribution: str
    version: str
    value: str  #: the entry point: the module that has the hooks

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


class Unusable(ConfigError):
    """An installed plugin cannot be used; ``problem`` is why, apart from where the configuration names it."""

    def __init__(self, text: str, problem: str) -> None:
        self.problem = problem
        super().__init__(text)


class Registry:
    """Finds and loads backends' plugins. Each plugin is loaded once, however many entries use it."""

    def __init__(self) -> None:
        #: One manager for each plugin: in a common one, each plugin would answer for all others.
        self._managers: dict[str, pluggy.PluginManager] = {}
        self._listeners: dict[str, list[Listener[Any]]] = {}

    def names(self) -> list[InstalledBackend]:
        """Every backend that is installed, by name; a name that is claimed twice is there twice. Imports nothing."""
        return sorted(
            InstalledBackend(
                name=point.name,
                distribution=point.dist.name,
                version=point.dist.version,
                value=point.value,
            )
            for point in metadata.entry_points(group=ENTRY_POINTS)
            if point.dist is not None  # as for every entry point that was found and not made
        )

    def build(self, options: Options) -> Backend:
        """The backend that a ``[backends.NAME]`` table describes, not open.

        Raises `UnknownBackend` if no distribution offers the plugin, and `ConfigError` for
        everything else that is wrong with the plugin or its options.
        """
        installed = self._find(options)
        manager = self._managers.get(installed.name)
        if manager is None:
            manager = self._managers[installed.name] = _load(installed, options)
        try:
            backend: object = manager.hook.headrace_backend(options=options)
        except HeadraceError:
            raise
        except ImportError as error:
            raise _import_failed(installed, options, error) from error
        except Exception as error:
            raise _broken(installed, options, f"its hook {_HOOK} raised {_quote(error)}") from error
        if not isinstance(backend, Backend):
            kind = type(backend).__name__
            raise _broken(installed, options, f"its hook {_HOOK} returned {kind}, not a headrace.driver.Backend")
        _check_contract(backend, installed, options)
        return backend

    def listeners(self) -> Iterator[Listener[Any]]:
        """The listeners that the plugins loaded so far bring. Raises `ConfigError` for what is none."""
        for name, manager in self._managers.items():
            if name not in self._listeners:
                self._listeners[name] = _brought(name, manager)
            yield from self._listeners[name]

    def _find(self, options: Options) -> InstalledBackend:
        """The one distribution that offers the plugin which the options name."""
        name = options.plugin
        installed = self.names()
        claims = [each for each in installed if each.name == name]
        if len(claims) == 1:
            return claims[0]
        if claims:
            raise options.error(
                None,
                f"the backend {show(name)} is claimed by {len(claims)} distributions: "
                f"{' and '.join(str(each) for each in claims)}; uninstall all but one",
            )
        problem = f"no backend {show(name)} is installed; {suggest(name, {each.name for each in installed})}"
        raise options.unknown_backend(problem)


def _load(installed: InstalledBackend, options: Options) -> pluggy.PluginManager:
    """Import one plugin, and refuse it for hooks that it misspells or lacks."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    try:
        manager.load_setuptools_entrypoints(ENTRY_POINTS, name=installed.name)
        manager.check_pending()
    except ImportError as error:
        raise _import_failed(installed, options, error) from error
    except pluggy.PluginValidationError as error:
        raise _broken(installed, options, " ".join(str(error).split())) from error
    except Exception as error:
        raise _broken(installed, options, f"importing {installed.value} raised {_quote(error)}") from error
    if not manager.hook.headrace_backend.get_hookimpls():
        marked = not hasattr(manager.get_plugin(installed.name), _HOOK)
        problem = f"has no function {_HOOK}" if marked else f"has a function {_HOOK} that is not"
        raise _broken(installed, options, f"{installed.value} {problem} marked with headrace.plugin.hookimpl")
    return manager


def _brought(name: str, manager: pluggy.PluginManager) -> list[Listener[Any]]:
    """The listeners of one plugin. Asked once: another time it might make others."""
    try:
        found = [listener for brought in manager.hook.headrace_listeners() for listener in brought or ()]
    except Exception as error:
        raise ConfigError(f"the backend {show(name)}: headrace_listeners raised {_quote(error)}") from error
    for each in found:
        if not isinstance(each, Listener):
            raise ConfigError(
                f"the backend {show(name)}: headrace_listeners gave {each!r}, which is not marked with headrace.listen"
            )
    return found


def _check_contract(backend: Backend, installed: InstalledBackend, options: Options) -> None:
    try:
        capabilities: object = backend.capabilities
    except Exception as error:
        raise _broken(installed, options, f"its capabilities raised {_quote(error)}") from error
    if not isinstance(capabilities, Capabilities):
        kind = type(capabilities).__name__
        raise _broken(installed, options, f"its capabilities are {kind}, not headrace.driver.Capabilities")
    if capabilities.contract not in CONTRACTS:
        known = " and ".join(str(version) for version in sorted(CONTRACTS))
        core = f"headrace {metadata.version('headrace')}"
        raise _broken(
            installed,
            options,
            f"it is written for version {capabilities.contract} of the driver contract, and {core} supports {known}; "
            f"upgrade {'headrace' if capabilities.contract > CONTRACT else installed.distribution}",
        )


def _import_failed(installed: InstalledBackend, options: Options, error: ImportError) -> Unusable:
    """What to install, where a client library is missing; the reason as it is, where something else is."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None or missing.partition(".")[0] == installed.value.partition(":")[0].partition(".")[0]:
        return _broken(installed, options, f"importing {installed.value} raised {_quote(error)}")
    distribution = metadata.distribution(installed.distribution)
    if installed.name in (distribution.metadata.get_all("Provides-Extra") or ()):
        advice = f"pip install '{installed.distribution}[{installed.name}]'"
    else:
        advice = f"install the library that it comes with; {installed.distribution} should have required it"
    return _broken(installed, options, f"the module {show(missing)} is not installed: {advice}")


def _broken(installed: InstalledBackend, options: Options, problem: str) -> Unusable:
    error = options.error(None, f"the backend {show(installed.name)} of {installed} cannot be used: {problem}")
    return Unusable(str(error), options.mask(problem))


def _quote(error: BaseException) -> str:
    """A foreign exception in one line."""
    text = mask(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
