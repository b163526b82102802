"""References to the environment, and overrides by it."""

from pathlib import Path
from typing import Any

import pytest

from headrace.config import Backoff, Config
from headrace.errors import ConfigError


def load(mapping: dict[str, Any], **environ: str) -> Config:
    return Config.from_mapping(mapping, environ=environ)


def problem(mapping: dict[str, Any], **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(mapping, **environ)
    return str(caught.value).removeprefix("configuration in code: ")


def prefix(text: str, **environ: str) -> str:
    return load({"queues": {"mail": {"prefix": text}}}, **environ).queue("mail").prefix


def test_a_reference_becomes_the_variables_value() -> None:
    assert prefix("${STAGE}.mail", STAGE="live") == "live.mail"
    assert prefix("${A}${B}", A="1", B="2") == "12"


def test_the_default_stands_in_for_a_variable_that_is_unset_or_empty() -> None:
    assert prefix("${STAGE:-test}.mail") == "test.mail"
    assert prefix("${STAGE:-test}.mail", STAGE="") == "test.mail"
    assert prefix("${STAGE:-test}.mail", STAGE="live") == "live.mail"
    assert prefix("mail${STAGE:-}") == "mail"


def test_a_variable_that_is_not_set_and_has_no_default_is_named() -> None:
    assert problem({"queues": {"mail": {"prefix": "${STAGE}.mail"}}}) == (
        "queues.mail.prefix: the environment variable STAGE is not set; ${STAGE:-default} would give it a default"
    )


def test_a_doubled_dollar_escapes_a_reference_and_is_itself_elsewhere() -> None:
    assert prefix("$${STAGE}") == "${STAGE}"
    assert prefix("pa$$word$") == "pa$$word$"


def test_what_a_variable_brings_is_not_expanded_again() -> None:
    assert prefix("${A}", A="${B}") == "${B}"
    assert load({}, HEADRACE__QUEUES__MAIL__PREFIX="${B}").queue("mail").prefix == "${B}"


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A B}", "${A-x}", "${A:-${B}}"])
def test_a_broken_reference_is_refused(text: str) -> None:
    assert problem({"queues": {"mail": {"prefix": text}}}).startswith(
        "queues.mail.prefix: has a '${' that begins no reference; write ${NAME} or ${NAME:-default}"
    )


def test_text_of_the_environment_is_read_as_the_type_of_its_setting() -> None:
    mail = load(
        {"queues": {"mail": {"processes": "${N}", "pop_timeout": "${S:-2.5}", "enabled": "${ON}"}}}, N="3", ON="false"
    ).queue("mail")
    assert (mail.processes, mail.pop_timeout, mail.enabled) == (3, 2.5, False)


def test_text_of_the_file_is_not() -> None:
    assert problem({"queues": {"mail": {"processes": "3"}}}).endswith('found "3"; allowed: a whole number, 1 or more')


def test_a_problem_with_a_referenced_value_names_the_variable() -> None:
    assert problem({"queues": {"mail": {"processes": "${N}"}}}, N="three") == (
        'queues.mail.processes (from ${N}): found "three"; allowed: a whole number, 1 or more'
    )


def test_headrace_backend_changes_every_queues_default() -> None:
    config = load({"backend": "redis", "queues": {"own": {"backend": "sqs"}}}, HEADRACE_BACKEND="memory")
    assert (config.backend, config.queue("default").backend, config.queue("own").backend) == ("memory", "memory", "sqs")
    assert load({"backend": "redis"}, HEADRACE_BACKEND="").backend == "redis"


def test_a_variable_overrides_a_setting_of_a_queue() -> None:
    config = load({"queues": {"default": {"backend": "redis"}}}, HEADRACE__QUEUES__DEFAULT__BACKEND="sqs")
    assert config.queue("default").backend == "sqs"
    assert config.overrides == ("HEADRACE__QUEUES__DEFAULT__BACKEND",)


def test_hyphens_dots_and_capitals_of_a_queues_name_are_underscores_and_capitals_of_a_variable() -> None:
    config = load({"queues": {"high-Priority.eu": {}}}, HEADRACE__QUEUES__HIGH_PRIORITY_EU__PROCESSES="2")
    assert config.queue("high-Priority.eu").processes == 2


def test_names_that_a_variable_cannot_tell_apart_are_refused() -> None:
    assert problem({"queues": {"a-b": {}, "a_b": {}}}, HEADRACE__QUEUES__A_B__PROCESSES="2") == (
        'queues: HEADRACE__QUEUES__A_B__PROCESSES could mean "a-b" or "a_b"'
    )


def test_a_variable_can_make_a_queue() -> None:
    config = load({}, HEADRACE__QUEUES__BULK__CONCURRENT__LIMIT="3")
    assert config.queue("bulk").concurrent.limit == 3
    assert config.queue("bulk").prefix == "{bulk}"


def test_lists_and_tables_can_be_written_in_a_variable() -> None:
    def retry_seconds(text: str) -> object:
        return load({}, HEADRACE__QUEUES__DEFAULT__RETRY_SECONDS=text).queue("default").retry_seconds

    assert retry_seconds("7") == 7.0
    assert retry_seconds("1, 5,30") == (1.0, 5.0, 30.0)
    assert retry_seconds("[1, 5]") == (1.0, 5.0)
    assert retry_seconds("{ base = 1 }") == Backoff(base=1.0)
    assert load({}, HEADRACE__IMPORTS="shop.jobs, shop.more").imports == ("shop.jobs", "shop.more")
    assert load({"imports": ["shop"]}, HEADRACE__IMPORTS="").imports == ()
    assert load({}, HEADRACE__QUEUES__DEFAULT__PREFIX="{mail}").queue("default").prefix == "{mail}"


def test_an_override_replaces_what_is_of_another_shape() -> None:
    config = load({"queues": {"default": {"retry_seconds": 5}}}, HEADRACE__QUEUES__DEFAULT__RETRY_SECONDS__BASE="2")
    assert config.queue("default").retry_seconds == Backoff(base=2.0)


def test_an_override_by_the_real_name_replaces_an_alias_and_the_reverse() -> None:
    assert load({"queues": {"a": {"channel": "x"}}}, HEADRACE__QUEUES__A__PREFIX="y").queue("a").prefix == "y"
    assert load({"queues": {"a": {"prefix": "x"}}}, HEADRACE__QUEUES__A__CHANNEL="y").queue("a").prefix == "y"


def test_an_override_saves_a_reference_that_could_not_be_resolved() -> None:
    assert load({"backend": "${NOWHERE}"}, HEADRACE_BACKEND="memory").backend == "memory"


def test_two_variables_for_one_setting_are_refused() -> None:
    assert problem({}, HEADRACE_BACKEND="redis", HEADRACE__BACKEND="sqs") == (
        "backend (from HEADRACE_BACKEND): HEADRACE__BACKEND sets the same; unset one of them"
    )


def test_an_unknown_override_is_refused_with_the_nearest_name() -> None:
    assert problem({}, HEADRACE__QUEUES__DEFAULT__PROCESES="2") == (
        'queues.default.proceses (from HEADRACE__QUEUES__DEFAULT__PROCESES): is unknown; did you mean "processes"?'
    )
    assert problem({}, HEADRACE__QUEUE__DEFAULT__PROCESSES="2") == (
        'queue (from HEADRACE__QUEUE__DEFAULT__PROCESSES): is unknown; did you mean "queues"?'
    )
    assert "use max_retries" in problem({}, HEADRACE__QUEUES__DEFAULT__TRIES="2")


def test_a_wrong_override_is_told_with_its_variable() -> None:
    assert problem({}, HEADRACE__QUEUES__DEFAULT__PROCESSES="0") == (
        "queues.default.processes (from HEADRACE__QUEUES__DEFAULT__PROCESSES): "
        'found "0"; allowed: a whole number, 1 or more'
    )


def test_an_override_must_reach_a_single_value() -> None:
    assert problem({}, HEADRACE__QUEUES__DEFAULT="x") == (
        "HEADRACE__QUEUES__DEFAULT: names a table; one variable sets one value: HEADRACE__QUEUES__NAME__KEY"
    )
    assert problem({}, HEADRACE__QUEUES__DEFAULT__="x").startswith("HEADRACE__QUEUES__DEFAULT__: a part of the name")


def test_options_of_a_backend_can_be_overridden() -> None:
    config = load(
        {"backends": {"audit-store": {"URL": "a", "plugin": "redis"}}, "queues": {"x": {"backend": "new-store"}}},
        HEADRACE__BACKENDS__AUDIT_STORE__URL="b",
        HEADRACE__BACKENDS__AUDIT_STORE__SOCKET_TIMEOUT="3",
        HEADRACE__BACKENDS__NEW_STORE__URL="c",
    )
    assert dict(config.backend_options("audit-store").values) == {"URL": "b", "socket_timeout": "3"}
    assert dict(config.backend_options("new-store").values) == {"url": "c"}


def test_overrides_hold_without_a_file_too(tmp_path: Path) -> None:
    environ = {"HEADRACE_BACKEND": "memory", "HEADRACE__QUEUES__MAIL__PROCESSES": "2"}
    config = Config.load(environ=environ, cwd=tmp_path)
    assert (config.queue("anything").backend, config.queue("mail").processes) == ("memory", 2)
    assert config.describe().endswith(" upwards), with HEADRACE_BACKEND, HEADRACE__QUEUES__MAIL__PROCESSES")
