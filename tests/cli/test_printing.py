"""How text and figures are shown to people."""

import logging

import pytest

from headrace.cli.output import Column, arguments_text, duration, moment, plain_table, plural, shortened
from headrace.logs import PlainFormatter
from headrace.printing import printable, printable_block


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, Grüße, 日本語", "plain text, Grüße, 日本語"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eturned", "\\u202eturned"),
        ("\x9b2J", "\\x9b2J"),
        ("\ud800", "\\ud800"),
        ("C:\\path", "C:\\path"),
    ],
)
def test_what_could_steer_a_terminal_is_shown_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_block_keeps_its_lines() -> None:
    assert printable_block("one\n\ttwo\r\x1b") == "one\n\ttwo\\r\\x1b"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0.04, "0.0 s"), (9.94, "9.9 s"), (75, "75 s"), (600, "10 min"), (3 * 3600, "3 h"), (1e6, "12 days")],
)
def test_durations_have_one_unit(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_moment_that_no_calendar_has_is_unknown() -> None:
    assert moment(1e300) == "unknown"
    assert moment(0).startswith(("1970-01-01", "1969-12-31"))


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"user_id": 1, "text": 'a "b"\n'}, 'user_id=1, text="a \\"b\\"\\n"'),
        ({"\x1b": "é"}, '\\x1b="é"'),
        ([1, 2], "[1, 2]"),
        (None, "not readable"),
        ({}, ""),
    ],
)
def test_arguments_are_shown_on_one_line(arguments: object, shown: str) -> None:
    assert arguments_text(arguments) == shown


def test_small_words() -> None:
    assert (plural(1, "message"), plural(2000, "message")) == ("1 message", "2,000 messages")
    assert plural(2, "process", "processes") == "2 processes"
    assert (shortened("abc", 3), shortened("abcdef", 5)) == ("abc", "ab...")


def test_a_plain_table_is_aligned_and_nothing_of_it_is_cut() -> None:
    text = plain_table([Column("name"), Column("count", right=True)], [("a", "1"), ("long " * 30, "1000")])
    lines = text.split("\n")
    assert lines[0].split() == ["name", "count"]
    assert len({len(line) for line in lines}) == 1
    assert "long " * 29 in lines[2]


def test_a_log_record_starts_one_line_only() -> None:
    record = logging.LogRecord("headrace", logging.INFO, __file__, 1, "one\ntwo\x1b", (), None)
    assert "one\\ntwo\\x1b" in PlainFormatter().format(record)
