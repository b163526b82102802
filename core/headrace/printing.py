"""Text that came from jobs, made safe to show to people.

Owns one question: which characters may reach a terminal or a log as they are. Arguments,
error messages and tracebacks are data of unknown origin; an escape sequence in one of them
must not move a cursor, retitle a window or forge a second log line.
"""

from typing import Final

#: What `str.isprintable` refuses although a block of text needs it.
_LAYOUT: Final = "\n\t"


def printable(text: str) -> str:
    """The text on one line: control and format characters, newlines too, as escapes such as ``\\x1b``."""
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_block(text: str) -> str:
    """As `printable`, but newlines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(each if each in _LAYOUT else _shown(each) for each in text)


def _shown(character: str) -> str:
    # A backslash stays as it is: what is shown is read by people, and not parsed again.
    return character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
