"""What pages of figures in `docs` have in common: Markdown tables, and the machine they were made on."""

import os
import platform
import time
from collections.abc import Iterable, Sequence

from headrace import __version__


def markdown(lines: Iterable[Sequence[str]], words: int) -> str:
    """A table, whose first columns are words, and the others figures, to the right. The first line is its head."""
    head, *rest = lines
    rule = ["---" if place < words else "---:" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rest)) + "\n"


def date() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def machine() -> str:
    return (
        f"headrace {__version__}, Python {platform.python_version()} on {platform.system()}, "
        f"{os.cpu_count()} processors"
    )
