"""What the environment says about the configuration: ``${...}`` in values, and ``HEADRACE__...`` overrides.

Owns the syntax of both. Text from the environment stays text here; `headrace.tables` reads
it as the type that a setting has. Nothing is read from `os.environ`: the environment is passed in.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from headrace.tables import NO_WORDS, SECTIONS, KeyPath, Reading, show
from headrace.vocabulary import QUEUE_WORDS

#: The variable that names the configuration file.
CONFIG_VARIABLE: Final = "HEADRACE_CONFIG"

#: The variable that names every queue's default backend; short for ``HEADRACE__BACKEND``.
BACKEND_VARIABLE: Final = "HEADRACE_BACKEND"

#: What variables begin with that override one value; the rest is its key path, parted by ``__``.
OVERRIDE_PREFIX: Final = "HEADRACE__"

#: ``$${`` stands for ``${``; a lone or doubled ``$`` elsewhere is itself, so that ``pa$$word`` stays one.
_REFERENCE: Final = re.compile(
    r"(?P<escaped>\$\$\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<alternative>:-(?P<default>[^{}]*))?\})?"
)


class _Unresolved(Exception):
    """A string has a reference that cannot be resolved; the text says why."""


@dataclass(frozen=True, slots=True)
class Override:
    """One variable that overrides one value."""

    variable: str
    keys: tuple[str, ...]  #: in lower case, from the top


def overrides(environ: Mapping[str, str], reading: Reading) -> list[Override]:
    """The overrides that an environment holds, in an order that does not depend on it."""
    found = []
    if environ.get(BACKEND_VARIABLE):
        found.append(Override(BACKEND_VARIABLE, ("backend",)))
    for variable in sorted(environ):
        if not variable.upper().startswith(OVERRIDE_PREFIX):
            continue
        keys = variable[len(OVERRIDE_PREFIX) :].lower().split("__")
        if not all(keys):
            reading.report((), f"{variable}: a part of the name is empty; write {OVERRIDE_PREFIX}QUEUES__NAME__KEY")
        elif keys[0] in SECTIONS and len(keys) < 3:
            example = f"{OVERRIDE_PREFIX}{keys[0].upper()}__NAME__KEY"
            reading.report((), f"{variable}: names a table; one variable sets one value: {example}")
        else:
            found.append(Override(variable, tuple(keys)))
    return found


def apply(
    override: Override, values: dict[str, Any], environ: Mapping[str, str], reading: Reading, names: Iterable[str] = ()
) -> None:
    """Put an override's text into the tables, and note where it came from.

    Keys match those that are there without regard to case, with ``_`` for whatever a variable's
    name cannot hold. ``names``: of backends that are used without having a table.
    """
    table = values
    path: KeyPath = ()
    last = len(override.keys) - 1
    for depth, part in enumerate(override.keys):
        key = _match(part, [*table, *(names if depth == 1 else ())], is_setting=path[:1] == ("queues",) and depth == 2)
        if isinstance(key, list):
            reading.report(path, f"{override.variable} could mean {' or '.join(map(show, key))}")
            return
        path = (*path, key)
        if path in reading.origins:
            reading.report(path, f"{override.variable} sets the same; unset one of them")
            return
        if depth == last:
            table[key] = environ[override.variable]
            reading.origins[path] = override.variable
        else:
            if not isinstance(table.get(key), dict):
                table[key] = {}
            table = table[key]


def expand(values: dict[str, Any], environ: Mapping[str, str], reading: Reading, path: KeyPath = ()) -> dict[str, Any]:
    """A copy of a table with the references in its strings resolved.

    ``${NAME}`` is the value of an environment variable, which must be set; ``${NAME:-default}``
    is the default if the variable is unset or empty, as in a shell. What an override brought is
    left as it is, and no value is expanded twice. A string that cannot be resolved is reported
    and left out.
    """
    expanded = {}
    for key, value in values.items():
        try:
            expanded[key] = _expand(value, environ, reading, (*path, key))
        except _Unresolved as why:
            reading.report((*path, key), str(why))
    return expanded


def _expand(value: Any, environ: Mapping[str, str], reading: Reading, path: KeyPath) -> Any:
    if isinstance(value, dict):
        return expand(value, environ, reading, path)
    if isinstance(value, list | tuple):
        return [_expand(item, environ, reading, (*path, position)) for position, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value or path in reading.origins:
        return value
    names = []

    def resolve(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "${"
        name = found["name"]
        if name is None:
            raise _Unresolved(
                "has a '${' that begins no reference; write ${NAME} or ${NAME:-default}, and $${ for '${' itself"
            )
        names.append(f"${{{name}}}")
        if found["alternative"]:
            return environ.get(name) or found["default"]
        if name not in environ:
            raise _Unresolved(
                f"the environment variable {name} is not set; ${{{name}:-default}} would give it a default"
            )
        return environ[name]

    text = _REFERENCE.sub(resolve, value)
    if names:
        reading.origins[path] = ", ".join(names)
    return text


def _match(part: str, known: Iterable[str], *, is_setting: bool) -> str | list[str]:
    """The key that a part of a variable's name means: a known one, else a new one; or those that it could mean.

    An alias in the file and the setting's own name in the variable, or the reverse, are one setting.
    """
    words = QUEUE_WORDS if is_setting else NO_WORDS
    matching = sorted({each for each in known if _plain(words.setting(each)) == _plain(words.setting(part))})
    if len(matching) > 1:
        return matching
    return matching[0] if matching else part


def _plain(name: str) -> str:
    """A name as a variable's name can hold it."""
    return re.sub(r"[^a-z0-9]", "_", name.lower())
