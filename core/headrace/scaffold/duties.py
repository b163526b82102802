"""The contract as a skeleton: signatures, docstrings and capabilities as they stand in ``headrace.driver``.

They are taken from its source, with the author's own line breaks and types. Owns no words but
those of what is still to be written.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from headrace import driver
from headrace.driver import CONTRACT, Backend, Capabilities, Driver

#: What a new backend claims: as little as it can. What has a default in the contract keeps that, said in words
#: that need no import.
_MODEST: Final = {
    "contract": str(CONTRACT),
    "durable": "False",
    "shared": "False",
    "ordered": "False",
    "leases": '"timed"',
    "counts": '"unknown"',
    "max_batch": "100",
    "flush": 'frozenset({"waiting", "delayed", "failed", "timeout"})',
}


def duties_of_every_verb() -> str:
    """What the contract says of all verbs at once, without its title and its sources."""
    text = inspect.cleandoc(driver.__doc__ or "")
    return text[text.index("Duties that hold") : text.index("The batch-first shape")].strip()


def verbs(*, optional: bool) -> str:
    """The driver's verbs, as methods to be written: those that all drivers have, or those by capability."""
    chosen = [
        name
        for name, member in vars(Driver).items()
        if inspect.isfunction(member) and (name not in Driver.__abstractmethods__) is optional
    ]
    return "\n\n".join(_unwritten(Driver, name) for name in chosen)


def backend_members() -> dict[str, str]:
    """Every member of `Backend` by name: its signature and docstring, without a body."""
    return {name: _head(Backend, name) for name in vars(Backend) if not name.startswith("_")}


def capabilities() -> str:
    """Every field of `Capabilities` as a keyword argument of its own line, with its meaning behind it."""
    return "\n".join(f"    {name}={value},  # {meaning}" for name, value, meaning in _fields())


def _fields() -> Iterator[tuple[str, str, str]]:
    source = textwrap.dedent(inspect.getsource(Capabilities))
    lines = source.splitlines()
    (definition,) = ast.parse(source).body
    for node in definition.body if isinstance(definition, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            default = node.value and ast.get_source_segment(source, node.value)
            meaning = re.sub(r"^.*#:\s*", "", lines[node.lineno - 1])
            yield node.target.id, _MODEST.get(node.target.id) or str(default), meaning


def _unwritten(owner: type, name: str) -> str:
    return f'{_head(owner, name)}\n        raise NotImplementedError("{name}() is still to be written")'


def _head(owner: type, name: str) -> str:
    """A member's decorators, signature and docstring; that it is abstract is no longer true where it stands now."""
    member: Any = vars(owner)[name]
    function: Any = member.fget if isinstance(member, property) else member
    source = textwrap.dedent(inspect.getsource(function))
    lines = source.splitlines()
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef)
    decorators = [f"@{ast.unparse(each)}" for each in definition.decorator_list]
    head = lines[definition.lineno - 1 : definition.body[0].end_lineno]
    kept = [*(each for each in decorators if each != "@abstractmethod"), *head]
    return textwrap.indent("\n".join(kept), "    ")
