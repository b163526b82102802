"""A plugin's project: its names, the files that are made from templates, and where they go."""

import re
import shutil
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import Final

from headrace.scaffold import duties

#: What a backend may be called: a configuration writes it without quotes, and a package is named after it.
NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

#: Each file of a project, and the template that it is made from.
_FILES: Final = {
    ".gitignore": "gitignore.template",
    "README.md": "README.md.template",
    "pyproject.toml": "pyproject.toml.template",
    "tox.ini": "tox.ini.template",
    "src/{package}/__init__.py": "package.py.template",
    "src/{package}/backend.py": "backend.py.template",
    "src/{package}/driver.py": "driver.py.template",
    "src/{package}/plugin.py": "plugin.py.template",
    "src/{package}/py.typed": "py.typed.template",
    "src/{package}/settings.py": "settings.py.template",
    "tests/test_conformance.py": "suite.py.template",
}


@dataclass(frozen=True, slots=True)
class BackendProject:
    """The project of a backend called ``name``, which matches `NAME`."""

    name: str
    headrace: str | None  #: the requirement that finds headrace; ``None`` where an index has it

    @property
    def distribution(self) -> str:
        return f"headrace-{self.name}"

    @property
    def package(self) -> str:
        return self.distribution.replace("-", "_")

    @property
    def title(self) -> str:
        """What its classes begin with."""
        return "".join(part.capitalize() for part in self.name.split("-"))

    def write(self, folder: Path) -> None:
        """Make the folder and its files. Raises `FileExistsError` if there is anything of its name, and `OSError`.

        What could not be finished is removed again.
        """
        folder.mkdir(parents=True)
        try:
            for name, text in self.files().items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def files(self) -> dict[str, str]:
        """Every file of the project: its path within, and its text."""
        templates = resources.files("headrace.scaffold") / "templates"
        words = self._words()
        return {
            name.format(package=self.package): Template((templates / template).read_text("utf-8")).substitute(words)
            for name, template in _FILES.items()
        }

    def _words(self) -> dict[str, str]:
        return {
            "name": self.name,
            "distribution": self.distribution,
            "package": self.package,
            "title": self.title,
            "version": metadata.version("headrace"),
            "origin": f" {self.headrace}" if self.headrace else "",
            "duties": duties.duties_of_every_verb(),
            "capabilities": duties.capabilities(),
            "verbs": duties.verbs(optional=False),
            "optional_verbs": duties.verbs(optional=True),
            **{f"backend_{name}": text for name, text in duties.backend_members().items()},
        }
