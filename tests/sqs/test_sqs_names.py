"""What queues are called, and which prefixes cannot be used."""

import re

import pytest

from headrace.driver import Message
from headrace.errors import ConfigError
from headrace_sqs.backend import SqsBackend
from headrace_sqs.fair import group_of
from headrace_sqs.names import Names, Register
from headrace_sqs.settings import SqsSettings


def names(prefix: str, name_prefix: str = "") -> Names:
    return Register(name_prefix).enter(prefix)


def test_a_prefix_in_braces_names_the_queue_by_what_is_in_them() -> None:
    assert names("{mail}").all() == ("mail", "mail-failed", "mail-timeout")
    assert names("mail").main == "mail"
    assert names("{mail}", "shop-").of("failed") == "shop-mail-failed"


@pytest.mark.parametrize(
    "prefix", ["{a.b}", "{}", "{{a}}", "\N{SNOWMAN}", "x" * 200, "{" + "y" * 73 + "}", "a:b", "*", "{", "-" * 90]
)
@pytest.mark.parametrize("name_prefix", ["", "p" * 40])
def test_any_other_prefix_makes_names_that_sqs_accepts(prefix: str, name_prefix: str) -> None:
    for name in names(prefix, name_prefix).all():
        assert re.fullmatch("[A-Za-z0-9_-]{1,80}", name)
        assert name.startswith(name_prefix)


def test_what_is_alike_but_for_characters_that_sqs_refuses_has_different_names() -> None:
    prefixes = ["{a.b}", "{a:b}", "{a-b}", "a.b", "{a.b.}", "{" + "x" * 80 + "1}", "{" + "x" * 80 + "2}"]
    register = Register("")
    assert len({register.enter(prefix).main for prefix in prefixes}) == len(prefixes)


def test_the_name_of_a_prefix_is_the_same_wherever_it_is_made() -> None:
    assert names("{a.b}").main == "a-b-8229e941dd7d"


@pytest.mark.parametrize(("first", "second"), [("{mail}", "mail"), ("{mail}", "{mail-failed}"), ("a-timeout", "{a}")])
def test_two_prefixes_that_make_one_name_are_refused_both_named(first: str, second: str) -> None:
    backend = SqsBackend(SqsSettings(region="eu-central-1"))
    backend.driver(first)
    with pytest.raises(ConfigError) as raised:
        backend.driver(second)
    assert repr(first) in str(raised.value)
    assert repr(second) in str(raised.value)
    backend.driver(first)


@pytest.mark.parametrize("prefix", ["mail.fifo", "{mail.fifo}"])
def test_a_fifo_queue_is_refused_with_the_reason(prefix: str) -> None:
    with pytest.raises(ConfigError, match="no delay for single messages, and discards"):
        names(prefix)


@pytest.mark.parametrize(
    ("body", "group"),
    [
        (b'{"customer": "acme"}', "acme"),
        (b'{"customer": 17}', "17"),
        (b'{"customer": null}', None),
        (b'{"other": 1}', None),
        (b"[]", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_the_group_of_a_job_is_the_value_of_its_field(body: bytes, group: str | None) -> None:
    assert group_of(body, "customer") == group


@pytest.mark.parametrize("value", ['"a b"', '"\\u2603"', '""', f'"{"x" * 129}"', '{"a": 1}', "[1, 2]"])
def test_a_group_that_sqs_would_refuse_is_named_by_a_digest(value: str) -> None:
    group = group_of(f'{{"customer": {value}}}'.encode(), "customer")
    assert group is not None
    assert re.fullmatch("[0-9a-f]{64}", group) or value.startswith(("{", "["))
    assert group == group_of(f'{{"customer": {value}, "more": 1}}'.encode(), "customer")


def test_a_message_of_no_queue_is_never_looked_at() -> None:
    """A field that no job has costs nothing: such messages have no group."""
    assert group_of(Message(id="a", name="b", body=b"{}").body, "customer") is None
