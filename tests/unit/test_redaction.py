"""What is hidden from people, and what is not."""

import pytest

from headrace.redaction import is_secret, mask, redact


@pytest.mark.parametrize(
    "name", ["password", "PGPASSWORD", "api_key", "apiKey", "x-auth-token", "aws_secret_access_key", "dsn", "key"]
)
def test_names_that_hold_secrets_are_known(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["url", "keyspace", "monkey", "author", "region", "passive", "host"])
def test_names_that_do_not_are_left_alone(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://me:pw@h:1/0", "redis://***@h:1/0"),
        ("at redis://h:1/0 as a@b", "at redis://h:1/0 as a@b"),
        ("https://TOKEN@h and amqp://a:b@c", "https://***@h and amqp://***@c"),
        ("redis://:p@ss/w#rd@h", "redis://***@h"),
        ("https://h/?region=eu&token=abc&x=1", "https://h/?region=eu&token=***&x=1"),
        ("nothing here", "nothing here"),
    ],
)
def test_secrets_of_urls_are_masked(text: str, shown: str) -> None:
    assert mask(text) == shown


def test_known_secrets_are_masked_the_longest_first() -> None:
    assert mask("abcdef and abc", ["abc", "abcdef", ""]) == "*** and ***"


def test_a_known_secret_is_masked_in_the_forms_that_messages_give_it() -> None:
    secret = "a\\b/c@d"
    assert mask(f"{secret} {secret!r} a%5Cb%2Fc%40d", [secret]) == "*** '***' ***"


def test_a_table_is_redacted_at_any_depth() -> None:
    table = {"url": "redis://:pw@h", "auth": {"user": "me"}, "nodes": [{"password": "x", "port": 1}], "db": 0}
    assert redact(table) == {
        "url": "redis://***@h",
        "auth": "***",
        "nodes": [{"password": "***", "port": 1}],
        "db": 0,
    }
