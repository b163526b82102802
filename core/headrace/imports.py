"""Importing what the configuration names. Owns the words for what cannot be imported."""

import importlib
import os
import traceback
from typing import Any

from headrace.errors import ConfigError


def import_module(name: str, key: str) -> Any:
    """Import a module that the config names under ``key``; `ConfigError` says what went wrong where."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name and name.startswith(error.name)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if missing else f" ({frame.filename}, line {frame.lineno})"
        raise ConfigError(
            f"{key}: the module {name!r} does not import: {type(error).__name__}: {error}{where}"
            + (f"; it is looked for in {os.getcwd()} and on sys.path" if missing else "")  # noqa: PTH109
        ) from error


def import_object(reference: str, key: str) -> Any:
    """What ``module:name`` of the config refers to; `ConfigError` if it cannot be had."""
    module, separator, name = reference.partition(":")
    if not separator or not name:
        raise ConfigError(f"{key}: {reference!r} must be of the form 'module:name'")
    found = import_module(module, key)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigError(f"{key}: the module {module!r} has no {name!r}") from None
    return found
