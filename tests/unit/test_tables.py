"""Reading tables into dataclasses: what plugins' own settings may be annotated with, and what is said of mistakes."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta

from headrace.errors import ConfigError
from headrace.tables import KeyPath, Reading, suggest


class Mode(enum.Enum):
    FAST = "fast"
    SAFE = "safe"


@dataclass(frozen=True, slots=True)
class Node:
    host: str
    port: int = 1


@dataclass(frozen=True, slots=True)
class Wide:
    mode: Mode = Mode.SAFE
    nodes: tuple[Node, ...] = ()
    main: Node | None = None
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    most: Annotated[int, Meta(le=5)] = 1
    above: Annotated[int, Meta(gt=5)] = 6
    titled: Annotated[int, Meta(title="no description")] = 1
    code: Annotated[str, Meta(pattern="^[a-z]+$")] = "a"
    raw: bytes = b""
    numbers: set[float] = field(default_factory=set)
    either: int | str = 0
    anything: Any = None
    later: float = field(default=0.0, init=False)


def read(values: dict[str, Any], origins: dict[KeyPath, str] | None = None) -> Wide:
    reading = Reading("file", Path("/srv"), origins=origins or {})
    wide = reading.table(Wide, values, ())
    reading.check()
    assert wide is not None
    return wide


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"mode": "slow"}, 'mode: found "slow"; allowed: "fast" or "safe"'),
        ({"nodes": [{"host": 5}]}, "nodes[0].host: found 5; allowed: a list, each item a table of host, port"),
        ({"nodes": [{}]}, "nodes[0]: found a table; allowed: a list, each item a table of host, port"),
        ({"main": {"prt": 1, "host": "x"}}, 'main.prt: is unknown; did you mean "port"?'),
        ({"main": {}}, "main.host: is required: a string"),
        ({"main": 5}, "main: found 5; allowed: a table of host, port"),
        ({"share": 2}, "share: found 2; allowed: a number above 0, up to 1"),
        ({"most": 6}, "most: found 6; allowed: a whole number, 5 or less"),
        ({"above": 5}, "above: found 5; allowed: a whole number above 5"),
        ({"titled": "x"}, 'titled: found "x"; allowed: a whole number'),
        ({"code": "1"}, 'code: found "1"; allowed: a string that matches ^[a-z]+$'),
        ({"raw": 5}, "raw: found 5; allowed: bytes"),
        ({"numbers": [float("inf")]}, "numbers: found a list; allowed: a list, each item a number, and finite"),
        ({"either": []}, "either: found an empty list; allowed: a whole number or a string"),
        ({"later": 1}, "later: is unknown; known are: "),
        ({"a b.c": 1}, '"a b.c": is unknown; known are: '),
        ({"code": "9" * 70}, f'code: found "{"9" * 60}..."; allowed: '),
    ],
    ids=str,
)
def test_a_mistake_is_told_where_it_is_in_the_words_of_its_annotation(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(values)
    assert str(caught.value).startswith(f"file: {expected}")


def test_tables_in_tables_become_dataclasses_in_dataclasses() -> None:
    assert read({"main": {"host": "a"}, "nodes": [{"host": "b", "port": 2}]}) == Wide(
        main=Node("a"), nodes=(Node("b", 2),)
    )


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("numbers", "1, 2.5", {1.0, 2.5}),
        ("nodes", '[{ host = "a" }]', (Node("a"),)),
        ("main", '{ host = "a", port = 3 }', Node("a", 3)),
        ("most", " 5 ", 5),
        ("either", "x", "x"),
        ("anything", " as it is ", " as it is "),
    ],
)
def test_text_of_the_environment_is_read_as_its_field_wants_it(key: str, text: str, value: object) -> None:
    assert getattr(read({key: text}, {(key,): "X"}), key) == value


@pytest.mark.parametrize("text", ["{ host", "[1", "1"])
def test_text_of_the_environment_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^file: main \(from X\): found "):
        read({"main": text}, {("main",): "X"})


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("Defualt", ["default", "mail"], 'did you mean "default"?'),
        ("x", ["default", "mail"], "known are: default, mail"),
        ("x", [], "there are none"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_or_all(name: str, known: Sequence[str], text: str) -> None:
    assert suggest(name, known) == text
