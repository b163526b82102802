"""How figures and parameters are told, in tables and charts alike."""

from collections.abc import Callable, Mapping
from typing import Final

from headrace_bench.results import Parameter


def figure(value: float) -> str:
    """A figure with three digits that mean something, and no more."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.995 or size == 0 else f"{value:.3f}"


def size_of(count: int) -> str:
    """Bytes, in the unit that people give."""
    return f"{count / 1000:g} kB" if count >= 1000 else f"{count} B"


def parse_size(text: str) -> int:
    """``100``, ``100B``, ``10kB`` or ``1.5 MB`` in bytes. Raises `ValueError`."""
    plain = text.strip().lower().removesuffix("b")
    factor = 1
    for letter, times in (("k", 1000), ("m", 1_000_000)):
        if plain.endswith(letter):
            plain, factor = plain[:-1], times
    found = round(float(plain) * factor)
    if found < 1:
        raise ValueError(f"{text!r} is less than a byte")
    return found


#: The parameters of our own scenarios, in words.
_WORDS: Final[Mapping[str, Callable[[Parameter], str]]] = {
    "path": str,
    "handler": lambda value: f"{value} handler",
    "concurrency": lambda value: f"{value} at once",
    "processes": lambda value: "1 process" if value == 1 else f"{value} processes",
    "rate": lambda value: f"{float(value):g} a second",
    "backlog": lambda value: f"{int(value):,} waiting",
    "jobs": lambda value: f"{int(value):,} jobs",
    "acks": lambda value: "acks in batches" if value == "batch" else "an ack each",
    "body": lambda value: size_of(int(value)),
}


def told(parameters: Mapping[str, Parameter]) -> str:
    """Parameters in a line."""
    known = [word(parameters[name]) for name, word in _WORDS.items() if name in parameters]
    return ", ".join([*known, *(f"{name} {value}" for name, value in parameters.items() if name not in _WORDS)])
