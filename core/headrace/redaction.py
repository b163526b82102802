"""Keeps secrets out of every text that people see: errors, logs, ``headrace check``.

Owns the two questions "does this name hold a secret?" and "how is this text shown?".
It cannot know a secret by its looks: what a configuration names harmlessly (``note = "hunter2"``)
is shown. When in doubt it hides too much.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

#: What stands for anything hidden. Of fixed length: the length of a secret is part of it.
HIDDEN: Final = "***"

#: Words that make a name secret when they are a part of it between ``_``, ``-`` or capitals.
#: ``key`` is among them for ``access_key``; that ``key_prefix`` is hidden too does no harm.
_SECRET_WORDS: Final = frozenset({"auth", "credential", "credentials", "dsn", "key", "keys", "pass", "pwd"})

#: Fragments that make a name secret wherever they stand, as in ``authtoken`` or ``DBPASSWORD``.
_SECRET_FRAGMENTS: Final = ("apikey", "passphrase", "passwd", "password", "secret", "token")

#: Userinfo of a URL: everything up to the last ``@``, because an unescaped password may itself
#: contain ``/``, ``#`` or ``@``. All of it is hidden: in ``https://TOKEN@host`` the user is the secret.
_USERINFO: Final = re.compile(r"(?<=://)\S*(?=@)")

#: One parameter of a URL's query.
_PARAMETER: Final = re.compile(r"(?<=[?&])([\w.-]+)=([^&\s\"'#]+)")


def is_secret(name: str) -> bool:
    """Whether a value of this name, as a setting or as an environment variable, must not be shown."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return any(fragment in words for fragment in _SECRET_FRAGMENTS) or not _SECRET_WORDS.isdisjoint(
        re.split(r"[^a-z0-9]+", words)
    )


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """Hide in a text the given secrets, what URLs have before their ``@``, and secret query parameters."""
    # As it is, as `repr` writes it, and as a URL has it.
    forms = {form for each in secrets for form in (each, repr(each)[1:-1], quote(each, safe=""))}
    # Longest first: a secret that contains another one must not be left in halves.
    for form in sorted(filter(None, forms), key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    text = _USERINFO.sub(HIDDEN, text)
    return _PARAMETER.sub(lambda found: f"{found[1]}={HIDDEN}" if is_secret(found[1]) else found[0], text)


def redact(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a table that may be shown: secret values hidden, at any depth, and every string masked."""
    return {name: HIDDEN if is_secret(name) else _redact(value) for name, value in values.items()}


def secrets_in(values: Mapping[str, Any]) -> list[str]:
    """The strings of a table that stand under secret names, at any depth: what `mask` is to hide in a text."""
    found: list[str] = []
    for name, value in values.items():
        _collect(value, is_secret(name), found)
    return found


def _redact(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return redact(value)
    if isinstance(value, list | tuple):
        return [_redact(item) for item in value]
    return value


def _collect(value: Any, secret: bool, found: list[str]) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            _collect(item, secret or is_secret(name), found)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, secret, found)
    elif secret and isinstance(value, str):
        found.append(value)
