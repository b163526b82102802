"""Drivers that are broken on purpose: the reference with a line of its source changed.

The list stands in ``mutations.toml``. Owns the building: the memory backend's modules are made from
changed text, beside the sound ones, which stay as they are.
"""

import builtins
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import headrace_memory
from headrace.conformance import Harness
from headrace.driver import Backend
from headrace.testing.clock import FakeClock

#: The modules of the memory backend that may be changed, each after those that it imports.
FILES: Final = ("waiting", "store", "driver", "backend")

SOURCES: Final = Path(headrace_memory.__file__).parent


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is wrong with a driver, which case catches it, and how it comes to be so."""

    name: str
    case: str
    file: str
    old: str
    new: str

    def apply(self) -> str:
        """The changed source. Raises `ValueError` unless the old text is in the file exactly once."""
        source = _source(self.file)
        if (count := source.count(self.old)) != 1:
            raise ValueError(f"{self.name}: the old text is in {self.file}.py {count} times")
        return source.replace(self.old, self.new)


#: By name.
MUTATIONS: Final = {
    each["name"]: Mutation(**each)
    for each in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["mutation"]
}


class MutantHarness(Harness):
    """The memory backend with the mutation of that name, or none."""

    def __init__(self, name: str | None = None) -> None:
        self._name = name

    def backend(self) -> Backend:
        backend: Backend = _backend_class(self._name)()
        return backend

    def controlled(self, clock: FakeClock) -> Backend:
        backend: Backend = _backend_class(self._name)(clock)
        return backend


@cache
def _backend_class(name: str | None) -> Any:
    """The backend's class, out of modules that are known to each other and to nobody else."""
    mutation = None if name is None else MUTATIONS[name]
    modules: dict[str, ModuleType] = {}

    def import_(imported: str, *arguments: Any) -> Any:
        return modules.get(imported) or builtins.__import__(imported, *arguments)

    for file in FILES:
        source = mutation.apply() if mutation is not None and mutation.file == file else _source(file)
        module = ModuleType(f"headrace_memory.{file}")
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": import_}
        exec(compile(source, f"<{file}.py of a mutant>", "exec"), module.__dict__)
        modules[module.__name__] = module
    return modules["headrace_memory.backend"].MemoryBackend


def _source(file: str) -> str:
    return (SOURCES / f"{file}.py").read_text("utf-8")
