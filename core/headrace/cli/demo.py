"""``headrace demo``: everything at work, on real files, in under 20 seconds."""

from typing import Annotated
import typer
EXAMPLES = ("headrace demo",)
def demo(context: typer.Context) -> None:
    """Demo."""
