"""Reading tables of plain values into dataclasses, and saying what is wrong with them.

Owns the form of every configuration error: which file, which key, what was found, what is
allowed, which known name is nearest. Conversion itself is msgspec's. Does not know any
setting: see `headrace.settings`. Nor where values come from: see `headrace.config`.
"""

import dataclasses
import difflib
import json
import math
import re
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from headrace.errors import ConfigError
from headrace.redaction import is_secret, mask

Settings = TypeVar("Settings")

#: Where a value stands: keys of tables and positions in lists, from the top.
KeyPath = tuple[str | int, ...]

#: The tables of tables, each by a name that the user chose.
SECTIONS: Final = ("backends", "queues")

#: The longest string that an error quotes: enough to recognise it, short enough for one line.
_LONGEST_QUOTE: Final = 60

#: How alike two names must be for one to be proposed for the other; difflib's own default.
_ALIKE: Final = 0.6

#: The end of a msgspec error that tells where below the converted value it found the mistake.
_INNER_PATH: Final = re.compile(r" - at `\$(?P<path>\S*)`\Z")

#: The key, in the ``extra`` of a number's `msgspec.Meta`, of the least that is allowed beside 0: bounds alone
#: cannot leave out what lies between.
LEAST_BUT_ZERO: Final = "least_but_zero"

#: Keys that need no quotes in TOML.
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words of a table beside its settings' own names."""

    aliases: Mapping[str, str] = field(default_factory=dict)  #: accepted in place of the setting named
    foreign: Mapping[str, str] = field(default_factory=dict)  #: refused with this advice; see `snake_case`

    def setting(self, key: str) -> str:
        """The setting's own name for a key that may be an alias."""
        return self.aliases.get(key, key)


NO_WORDS: Final = Vocabulary()


@dataclass(slots=True)
class Reading:
    """One reading of one configuration: where its values came from, and all that is wrong with them."""

    source: str  #: the file, or what stands for it in an error
    root: Path  #: what relative paths start from
    prefix: KeyPath = ()  #: where the configuration stands in its file: ``tool.headrace``
    #: Which values came from the environment, and from which variable. Those are text, and are
    #: read leniently: ``"5"`` is a number there, and ``"a,b"`` a list.
    origins: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def report(self, path: KeyPath, problem: str) -> None:
        """Note a problem, to be raised with all others by `check`."""
        place = self.place(path)
        self.problems.append(f"{place}: {problem}" if place else problem)

    def refuse(self, path: KeyPath, value: Any, allowed: str) -> None:
        """Note that a value is wrong. Shown are the value, unless it is secret, and what is allowed."""
        found = "a hidden value" if self._is_secret(path) else show(value)
        self.report(path, f"found {found}; allowed: {allowed}")

    def check(self) -> None:
        """Raise `ConfigError` with all problems noted, if there are any."""
        if len(self.problems) == 1:
            raise ConfigError(f"{self.source}: {self.problems[0]}")
        if self.problems:
            lines = "".join(f"\n  {problem}" for problem in self.problems)
            raise ConfigError(f"{self.source}: {len(self.problems)} problems{lines}")

    def place(self, path: KeyPath) -> str:
        """A key path in the words of the file, with the environment variable that its value came from."""
        text = ""
        for part in (*self.prefix, *path) if path else ():
            if isinstance(part, int):
                text += f"[{part}]"
            else:
                key = part if _BARE_KEY.match(part) else json.dumps(part, ensure_ascii=False)
                text += f".{key}" if text else key
        origin = self.origin(path)
        return f"{text} (from {origin})" if origin else text

    def origin(self, path: KeyPath) -> str | None:
        """The variable that the value at a path, or the first part of it that has one, came from."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return next((name for known, name in self.origins.items() if path and known[: len(path)] == path), None)

    def table(
        self,
        settings: type[Settings],
        values: Mapping[str, Any],
        path: KeyPath,
        *,
        words: Vocabulary = NO_WORDS,
        given: Mapping[str, Any] = MappingProxyType({}),
        defaults: Mapping[str, Any] = MappingProxyType({}),
        also: Iterable[str] = (),
    ) -> Settings | None:
        """Read a table into a dataclass; ``None`` if that failed, with the reasons noted.

        ``given`` are fields that no key sets; ``defaults`` go before the dataclass's own.
        ``also``: keys of the same table that are read elsewhere, to be proposed for unknown ones.
        """
        if not dataclasses.is_dataclass(settings):
            raise TypeError(f"settings are read into dataclasses, and {settings!r} is none")
        before = len(self.problems)
        fields = {each.name: each for each in dataclasses.fields(settings) if each.init and each.name not in given}
        hints = typing.get_type_hints(settings, include_extras=True)
        arguments = {**defaults, **given}
        keys: dict[str, str] = {}
        for key, value in values.items():
            name = words.setting(key)
            if name not in fields:
                self.report((*path, key), unknown_word(key, (*fields, *also), words))
            elif name in keys:
                self.report((*path, key), f"means the same as {show(keys[name])}, and both are given; keep one")
            else:
                keys[name] = key
                arguments[name] = self._convert(hints[name], value, (*path, key))
        for name, each in fields.items():
            required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
            if required and name not in arguments:
                self.report((*path, name), f"is required: {_allowed(inspect.type_info(hints[name]))}")
        return settings(**arguments) if len(self.problems) == before else None

    def _convert(self, hint: Any, value: Any, path: KeyPath) -> Any:
        """A value as its annotation wants it; anything, with the reason noted, if it does not fit."""
        kind = inspect.type_info(hint)
        lenient = self.origin(path) is not None
        if lenient and isinstance(value, str):
            value = _from_text(value, kind)
        nested = next((each.cls for each in _kinds(kind) if isinstance(each, inspect.DataclassType)), None)
        if nested is not None and isinstance(value, Mapping):
            return self.table(nested, value, path)
        try:
            converted = msgspec.convert(value, hint, strict=not lenient, dec_hook=self._decode)
        except msgspec.ValidationError as error:
            inner, found = _innermost(value, str(error))
            self.refuse((*path, *inner), found, _allowed(kind))
            return None
        least = (kind.extra or {}).get(LEAST_BUT_ZERO) if isinstance(kind, inspect.Metadata) else None
        if least is not None and 0 < converted < least:
            self.refuse(path, value, _allowed(kind))
            return None
        if not _is_finite(converted):
            self.refuse(path, value, f"{_allowed(kind)}, and finite")
        return converted

    def _decode(self, kind: type, value: Any) -> Any:
        """For msgspec: types that are not its own."""
        if kind is Path and isinstance(value, str | Path):
            return self.root / Path(value).expanduser()
        raise TypeError("not a value of a configuration")

    def _is_secret(self, path: KeyPath) -> bool:
        """Whether a value is not to be shown. The name of a queue or backend makes nothing secret, unless alone."""
        keys = [
            part
            for part in (path[2:] or path[-1:] if path[:1] and path[0] in SECTIONS else path)
            if isinstance(part, str)
        ]
        return any(is_secret(name) for name in (*keys, self.origin(path) or ""))


def show(value: Any) -> str:
    """A value for an error, as TOML would write it; lists and tables by kind only, since they may be long."""
    match value:
        case str():
            return json.dumps(_shorten(mask(value)), ensure_ascii=False)
        case bool():
            return str(value).lower()
        case None:
            return "nothing"
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case _:
            return _shorten(mask(str(value)))


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, or else all of them."""
    by_lower = {each.lower(): each for each in sorted(known)}
    for near in difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=_ALIKE):
        return f"did you mean {show(by_lower[near])}?"
    return f"known are: {', '.join(sorted(by_lower.values()))}" if by_lower else "there are none"


def snake_case(key: str) -> str:
    """``maxTries``, ``max-tries`` and ``MAX_TRIES`` as ``max_tries``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_").lower()


def unknown_word(key: str, known: Iterable[str], words: Vocabulary) -> str:
    """The end of an error about a key that is no setting: ours for it, or the nearest."""
    advice = words.foreign.get(snake_case(key))
    if advice is not None:
        return f"is called otherwise here: {advice}"
    return f"is unknown; {suggest(key, (*known, *words.aliases))}"


def _from_text(text: str, kind: inspect.Type) -> Any:
    """The text of an environment variable as a list or table, where one is wanted.

    A list may be written with commas, or, as a table must be, in TOML.
    """
    kinds = list(_kinds(kind))
    wants_list = any(isinstance(each, _LISTS) for each in kinds)
    wants_table = any(isinstance(each, inspect.DataclassType | inspect.DictType) for each in kinds)
    if (wants_list and text.startswith("[")) or (wants_table and text.startswith("{")):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except ValueError:
            return text
    if wants_list and ("," in text or not any(isinstance(each, _SCALARS) for each in kinds)):
        return [item.strip() for item in text.split(",")] if text.strip() else []
    return text.strip() if any(isinstance(each, _SCALARS) for each in kinds) else text


_LISTS: Final = (inspect.ListType, inspect.VarTupleType, inspect.SetType, inspect.FrozenSetType)
_SCALARS: Final = (inspect.FloatType, inspect.IntType, inspect.BoolType, inspect.StrType, inspect.LiteralType)


def _kinds(kind: inspect.Type) -> Iterable[inspect.Type]:
    """The alternatives of a type, without what is only said about them."""
    if isinstance(kind, inspect.Metadata):
        yield from _kinds(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from _kinds(each)
    else:
        yield kind


def _allowed(kind: inspect.Type) -> str:
    """What a type allows, in words; its own description, if it has one."""
    match kind:
        case inspect.Metadata(extra_json_schema={"description": str(description)}):
            return description
        case inspect.Metadata(type=inner):
            return _allowed(inner)
        case inspect.UnionType(types=types):
            return " or ".join(_allowed(each) for each in types if not isinstance(each, inspect.NoneType))
        case inspect.LiteralType(values=values):
            return " or ".join(show(value) for value in values)
        case inspect.EnumType(cls=cls):
            return " or ".join(show(member.value) for member in cls)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _range(kind)
        case inspect.FloatType():
            return "a number" + _range(kind)
        case inspect.StrType(pattern=pattern):
            return f"a string that matches {pattern}" if pattern else "a string"
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            return f"a list, each item {_allowed(kind.item_type)}"
        case inspect.DataclassType(fields=fields):
            return f"a table of {', '.join(each.name for each in fields)}"
        case inspect.DictType():
            return "a table"
        case inspect.CustomType(cls=cls) if cls is Path:
            return "a path"
        case _:
            return type(kind).__name__.removesuffix("Type").lower()


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    match kind.ge, kind.gt, kind.le:
        case None, None, None:
            return ""
        case None, None, most:
            return f", {most} or less"
        case None, above, None:
            return f" above {above}"
        case None, above, most:
            return f" above {above}, up to {most}"
        case least, _, None:
            return f", {least} or more"
        case least, _, most:
            return f" from {least} to {most}"


def _innermost(value: Any, error: str) -> tuple[list[str | int], Any]:
    """Where msgspec found the mistake, and what stands there; as deep as it tells."""
    found = _INNER_PATH.search(error)
    path: list[str | int] = []
    for position, name in re.findall(r"\[(\d+)\]|\.(\w+)|\[\.\.\.\]", found["path"]) if found else ():
        key = int(position) if position else name
        if key == "" or not isinstance(value, dict | list):
            break
        value = value[key]
        path.append(key)
    return path, value


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_finite(item) for item in value)
    return True
