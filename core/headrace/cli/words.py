"""What typer says of a command, in headrace's words: help that flows, and values that are wrong.

Typer has values checked by pydantic, whose sentences are for programmers. Where another
version of typer does that otherwise, its own words are left as they are.
"""

import inspect
from collections.abc import Callable
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

#: What is wrong with a value, by pydantic's name for it; ``{}`` are the details that it gives.
_PROBLEMS: Final = {
    "bool_parsing": "it must be true or false",
    "int_parsing": "it is no whole number",
    "int_from_float": "it is no whole number",
    "float_parsing": "it is no number",
    "finite_number": "it must be finite",
    "greater_than": "it must be above {gt:g}",
    "greater_than_equal": "it must be {ge:g} or more",
    "less_than": "it must be below {lt:g}",
    "less_than_equal": "it must be {le:g} or less",
    "value_error": "{error}",
}


def flowing(text: str | None) -> str:
    """A docstring whose paragraphs are one line each, to be broken where the terminal ends."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


class Command(TyperCommand):
    """A command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return _in_our_words(super().parse_args, ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types_of_flags(super().get_params(ctx))


class Group(TyperGroup):
    """A command of commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return _in_our_words(super().parse_args, ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types_of_flags(super().get_params(ctx))


def _in_our_words(parse: Callable[[Any, list[str]], list[str]], context: Any, arguments: list[str]) -> list[str]:
    try:
        return parse(context, arguments)
    except typer.BadParameter as error:
        details: Any = getattr(error.__cause__, "errors", None)
        first: dict[str, Any] = details()[0] if details is not None else {}
        problem = _PROBLEMS.get(first.get("type", ""))
        if problem is not None:
            problem = problem.format(**first.get("ctx", {}))
            error.message = problem if first["type"] == "value_error" else f"{first['input']!r}: {problem}."
        raise


def _without_types_of_flags(parameters: list[Any]) -> list[Any]:
    """That a flag is ``<bool>`` tells nobody anything."""
    for each in parameters:
        if isinstance(each, TyperOption) and each.is_flag and each.metavar is None:
            each.metavar = ""
    return parameters
