"""The tables of backends as their plugins see them, and that no secret of theirs is ever shown."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from headrace.config import Config, Options
from headrace.errors import ConfigError
from headrace.plugin import BackendOptions


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    url: str = "ledger://127.0.0.1"
    port: int = 7000
    password: str = ""
    folder: Path = Path("ledger")
    mode: Literal["fast", "safe"] = "safe"
    tags: list[str] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class NeedsRegion:
    region: str


def options(table: dict[str, Any], **environ: str) -> Options:
    return Config.from_mapping({"backends": {"ledger": table}}, root="/srv", environ=environ).backend_options("ledger")


def problem(table: dict[str, Any], settings: type[Any] = LedgerSettings, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        options(table, **environ).read(settings)
    return str(caught.value).removeprefix("configuration in code: ")


def test_options_are_what_the_plugin_contract_says() -> None:
    given: BackendOptions = options({"url": "x", "plugin": "book"})
    assert (given.name, given.root, dict(given.values)) == ("ledger", Path("/srv"), {"url": "x"})


def test_a_backend_is_its_own_plugin_unless_it_names_another() -> None:
    assert options({}).plugin == "ledger"
    assert options({"plugin": "book"}).plugin == "book"
    assert options({"plugin": "${KIND}"}, KIND="book").plugin == "book"
    with pytest.raises(ConfigError) as caught:
        _ = options({"plugin": 5}).plugin
    assert str(caught.value) == (
        "configuration in code: backends.ledger.plugin: found 5; allowed: the name of an installed backend"
    )


def test_a_backend_needs_no_table() -> None:
    given = Config.from_mapping({}, root="/srv", environ={}).backend_options("ledger")
    assert (given.name, given.plugin, dict(given.values)) == ("ledger", "ledger", {})
    assert given.read(LedgerSettings) == LedgerSettings()


def test_a_table_is_read_into_the_plugins_own_dataclass() -> None:
    table = {"port": 1, "mode": "fast", "tags": ["a"], "limits": {"x": 1}, "ratio": 2}
    assert options(table).read(LedgerSettings) == LedgerSettings(
        port=1, mode="fast", tags=["a"], limits={"x": 1}, ratio=2.0
    )


def test_a_path_starts_from_the_folder_of_the_configuration() -> None:
    assert options({"folder": "books/new"}).read(LedgerSettings).folder == Path("/srv/books/new")
    assert options({"folder": "/var/books"}).read(LedgerSettings).folder == Path("/var/books")
    assert problem({"folder": 5}) == "backends.ledger.folder: found 5; allowed: a path"


def test_text_of_the_environment_is_read_leniently() -> None:
    given = options({"port": "${PORT}", "tags": "${TAGS}"}, PORT="9", TAGS="a,b", HEADRACE__BACKENDS__LEDGER__RATIO="1")
    assert given.read(LedgerSettings) == LedgerSettings(port=9, tags=["a", "b"], ratio=1.0)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"port": "7000"}, 'port: found "7000"; allowed: a whole number'),
        ({"mode": "slow"}, 'mode: found "slow"; allowed: "fast" or "safe"'),
        ({"prt": 1}, 'prt: is unknown; did you mean "port"?'),
        ({"plugn": "x"}, 'plugn: is unknown; did you mean "plugin"?'),
        ({"tags": ["a", 5]}, "tags[1]: found 5; allowed: a list, each item a string"),
        ({"limits": 5}, "limits: found 5; allowed: a table"),
        ({"ratio": float("nan")}, "ratio: found nan; allowed: a number, and finite"),
    ],
    ids=str,
)
def test_wrong_options_are_told_as_every_other_problem(table: dict[str, Any], expected: str) -> None:
    assert problem(table) == f"backends.ledger.{expected}"


def test_a_missing_option_is_told() -> None:
    assert problem({}, NeedsRegion) == "backends.ledger.region: is required: a string"


def test_all_problems_of_a_table_are_told_at_once() -> None:
    assert problem({"port": "x", "mode": "slow", "url": "${NOWHERE}"}).splitlines() == [
        "3 problems",
        (
            "  backends.ledger.url: the environment variable NOWHERE is not set; "
            "${NOWHERE:-default} would give it a default"
        ),
        '  backends.ledger.port: found "x"; allowed: a whole number',
        '  backends.ledger.mode: found "slow"; allowed: "fast" or "safe"',
    ]


def test_settings_that_are_no_dataclass_are_the_plugins_mistake() -> None:
    with pytest.raises(TypeError, match="settings are read into dataclasses"):
        options({}).read(dict)


def test_a_backend_that_is_not_used_needs_none_of_its_variables() -> None:
    given = options({"url": "${NOWHERE}"})
    with pytest.raises(ConfigError, match=r"backends\.ledger\.url: the environment variable NOWHERE is not set"):
        _ = given.values


def test_a_plugins_own_error_names_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text("[backends.ledger]\nport = 99999\n")
    given = Config.load(file, environ={}).backend_options("ledger")
    assert str(given.error("port", "must be below 65536")) == f"{file}: backends.ledger.port: must be below 65536"


class TestSecrets:
    """Whatever is wrong, these never appear."""

    PASSWORD = "hunter2"

    @pytest.mark.parametrize(
        "key", ["password", "auth_token", "secret_access_key", "apiKey", "credentials", "DB_PASSWD", "client-secret"]
    )
    def test_the_value_of_a_secret_key_is_hidden(self, key: str) -> None:
        holder = type("Holder", (), {"__annotations__": {key.replace("-", "_"): int}})
        assert problem({key.replace("-", "_"): self.PASSWORD}, dataclass(holder)) == (
            f"backends.ledger.{key.replace('-', '_')}: found a hidden value; allowed: a whole number"
        )

    @pytest.mark.parametrize("url", ["db://me:hunter2@host/0", "db://hunter2@host", "db://:p/a#hunter2@x@host"])
    def test_what_a_url_has_before_its_host_is_hidden(self, url: str) -> None:
        text = problem({"port": url})
        assert self.PASSWORD not in text
        assert 'found "db://***@host' in text

    def test_a_value_from_a_variable_of_secret_name_is_hidden(self) -> None:
        assert problem({"port": "${LEDGER_PASSWORD}"}, LEDGER_PASSWORD=self.PASSWORD) == (
            "backends.ledger.port (from ${LEDGER_PASSWORD}): found a hidden value; allowed: a whole number"
        )

    def test_a_plugins_own_words_are_masked(self) -> None:
        given = options({"password": "${P}", "nested": {"token": "t0ken"}}, P=self.PASSWORD)
        assert str(given.error("url", "cannot log in with hunter2 and t0ken at db://a:b@h")) == (
            "configuration in code: backends.ledger.url: cannot log in with *** and *** at db://***@h"
        )

    def test_no_representation_shows_a_value(self) -> None:
        config = Config.from_mapping(
            {"backends": {"ledger": {"password": self.PASSWORD, "url": "db://me:hunter2@h"}}},
            environ={"X": self.PASSWORD, "HEADRACE__BACKENDS__LEDGER__TOKEN": self.PASSWORD},
        )
        assert self.PASSWORD not in f"{config!r} {config.backend_options('ledger')!r} {config.describe()}"

    def test_a_backend_written_as_a_url_is_refused_without_its_password(self) -> None:
        with pytest.raises(ConfigError) as caught:
            Config.from_mapping({"backend": "redis://:hunter2@h/0", "backends": {"password": "hunter2"}}, environ={})
        assert self.PASSWORD not in str(caught.value)
        assert 'found "redis://***@h/0"' in str(caught.value)
