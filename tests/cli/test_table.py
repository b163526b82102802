"""The README's table of backends is what ``headrace backends`` prints."""

from pathlib import Path

from headrace import Headrace
from headrace.cli.backends import ROWS, look
from headrace.cli.output import Cell

README = Path(__file__).parents[2] / "README.md"


def table() -> list[list[str]]:
    """The cells of the table below the heading, the line of dashes left out."""
    text = README.read_text().partition("### Choosing a backend")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def test_the_readmes_table_says_what_each_backend_declares() -> None:
    heading, *rows = table()
    backends = {each.installed.name: each.backend for each in look(Headrace({}))}
    assert set(heading[1:]) == {"sqlite", "redis", "rabbitmq", "sqs", "memory"}
    shown = dict(ROWS)
    for title, *cells in rows:
        for name, cell in zip(heading[1:], cells, strict=True):
            backend = backends[name]
            assert backend is not None
            declared = shown[title](backend.capabilities)
            assert cell == (declared.text if isinstance(declared, Cell) else declared), f"{title} of {name}"
