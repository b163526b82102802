"""The README's tutorial, followed to the letter: it ends in a backend that conforms, which is the one that we show.

Its fenced blocks say what is to be done with them: ``run`` a command, which must end well, or see that it ``fails``;
write a ``file``; let definitions and imports go ``into`` a file, each in the place of that of its name; or let the
``head`` of a driver take the place of what stands above its verbs.
"""

import ast
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual_environments import DISTRIBUTIONS, ROOT, Environment, own_variables

pytestmark = pytest.mark.timeout(900)  # the kit runs in full, beside whatever else the machine does

BLOCK = re.compile(r'^```\w+ (run|fails|file|head|into)(?:="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
RESULT = DISTRIBUTIONS / "headrace-directory"


def steps() -> Iterator[tuple[str, str, str]]:
    """What is to be done with each block, the file that it is about, and its text."""
    yield from BLOCK.findall((ROOT / "README.md").read_text())


def type_in(command: str, folder: Path, author: Environment) -> tuple[int, str, Path]:
    """Run a block in a shell: its status, what it printed, and the folder that it ended in."""
    variables = own_variables() | {"CHECKOUT": str(ROOT)}
    variables["PATH"] = f"{author.python.parent}:{variables['PATH']}"
    ended = author.folder / "folder"
    done = subprocess.run(
        ["bash", "-c", f"{command}status=$?; pwd > '{ended}'; exit $status"],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, Path(ended.read_text().strip())


def put(text: str, file: Path) -> None:
    """Let each definition take the place of that of its name, or stand behind all others."""
    written = text.splitlines()
    for node in ast.parse(textwrap.dedent(text)).body:
        piece = written[node.lineno - 1 : node.end_lineno]
        body: list[ast.stmt] = ast.parse(file.read_text()).body
        if piece[0].startswith(" "):
            body = next(each for each in body if isinstance(each, ast.ClassDef)).body
        lines = file.read_text().splitlines()
        old = next((each for each in body if name_of(each) == name_of(node)), None)
        if old is not None:
            lines[old.lineno - 1 : old.end_lineno] = piece
        else:
            lines[body[-1].end_lineno or 0 : body[-1].end_lineno] = ["", *piece]
        file.write_text("\n".join(lines) + "\n")


def put_head(text: str, file: Path) -> None:
    """Let a text take the place of what stands above the verbs."""
    verbs = file.read_text().partition("    async def push(")[2]
    file.write_text(f"{text}\n    async def push({verbs}")


def name_of(node: ast.stmt) -> str:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case ast.ImportFrom(module=str(name)):
            return name
        case _:
            return ""


def definitions(source: Path) -> list[str]:
    """All that a module says, whatever its order, without the verbs that nobody has written: they are to be removed."""
    nodes = ast.parse(source.read_text()).body
    inner = [each for node in nodes if isinstance(node, ast.ClassDef) for each in node.body if is_written(each)]
    return sorted(ast.dump(node) for node in [*nodes, *inner] if not isinstance(node, ast.ClassDef))


def is_written(node: ast.stmt) -> bool:
    return "is still to be written" not in ast.unparse(node)


def test_the_tutorial_leads_from_nothing_to_a_backend_that_conforms(
    author_environment: Environment, tmp_path: Path
) -> None:
    folder = tmp_path
    printed = ""
    for action, file, text in steps():
        if action in ("run", "fails"):
            status, printed, folder = type_in(text, folder, author_environment)
            assert (status == 0) is (action == "run"), f"$ {text}{printed}"
        elif action == "file":
            (folder / file).write_text(text)
        elif action == "into":
            put(text, folder / file)
        else:
            put_head(text, folder / file)
    assert "directory conforms: " in printed
    modules = {path.relative_to(RESULT) for path in RESULT.rglob("*.py")}
    assert len(modules) >= 8
    for module in modules:
        assert definitions(folder / module) == definitions(RESULT / module), module
