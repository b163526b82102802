"""Backends of other people's distributions, really installed: one that works, and what may be wrong with others."""

import json
from pathlib import Path

import pytest
from virtual_environments import Environment

pytestmark = pytest.mark.timeout(300)  # the first test downloads what headrace requires


def refusal(environment: Environment, backend: str, cwd: Path) -> str:
    """What a user is told who names that backend."""
    code = f"""
from headrace.config import Config
from headrace.errors import ConfigError
from headrace.registry import Registry
try:
    Registry().build(Config.load().backend_options({backend!r}))
except ConfigError as error:
    print(error)
"""
    return environment.run_code(code, cwd=cwd).removeprefix("built-in defaults: ")


def test_every_installed_backend_is_listed_and_none_imported(plugin_environment: Environment, tmp_path: Path) -> None:
    code = """
import json, sys
from headrace.registry import Registry
names = [(each.name, each.distribution, each.version) for each in Registry().names()]
print(json.dumps([names, [name for name in sys.modules if name.startswith("headrace_")]]))
"""
    names, imported = json.loads(plugin_environment.run_code(code, cwd=tmp_path))
    assert imported == []
    assert [each for each in names if each[1] != "headrace"] == [
        ["clientless", "headrace-clientless", "2.0"],
        ["directory", "headrace-directory", "0.1.0"],
        ["future", "headrace-future", "9.0"],
        ["ledger", "headrace-ledger", "1.0"],
        ["misspelt", "headrace-misspelt", "3.0"],
        ["twin", "headrace-twin-one", "1.1"],
        ["twin", "headrace-twin-two", "1.2"],
    ]


def test_an_application_runs_on_a_third_partys_backend_by_one_line_of_configuration(
    plugin_environment: Environment, tmp_path: Path
) -> None:
    (tmp_path / "headrace.toml").write_text(
        """
backend = "ledger"
[backends.ledger]
title = "${TITLE:-accounts}"
max_batch = 2
[backends.second]
plugin = "ledger"
[queues.default]
retry_seconds = 0.01
[queues.other]
backend = "second"
"""
    )
    code = """
import asyncio
from headrace import Headrace, current, job

@job(max_retries=1)
async def greet(name: str) -> None:
    if name == "Dora" and current().attempt == 0:
        raise ValueError("not yet")
    print("hello", name)

async def main() -> None:
    app = Headrace.load()
    async with app:
        queue, other = app.queue("default"), app.queue("other")
        await queue.push_many([greet.job(name) for name in ("Ada", "Bob", "Cleo", "Dora")])
        await queue.push(greet.job("Eve"), delay=0.5)
        await other.push(greet.job("Fred"))
        print((await queue.info()).waiting, (await queue.info()).delayed, (await other.info()).waiting)
        await app.worker("default").run(until_empty=True)
        print((await queue.info()).waiting, (await other.info()).waiting)
        print(app.backend("ledger").place, app.backend("second").place, sep="; ")

import logging
logging.disable()
asyncio.run(main())
"""
    lines = plugin_environment.run_code(code, cwd=tmp_path).splitlines()
    assert lines[0] == "4 1 1"
    assert sorted(lines[1:-2]) == ["hello Ada", "hello Bob", "hello Cleo", "hello Dora", "hello Eve"]
    assert lines[-2:] == ["0 1", "the book 'accounts' of this process; the book 'ledger' of this process"]


def test_the_directory_backend_keeps_the_contract_where_it_is_installed(
    plugin_environment: Environment, tmp_path: Path
) -> None:
    # A few of the cases; the test of the tutorial, whose result it is, runs all.
    chosen = [word for case in ("a_push_*", "a_lease_*", "looking_*") for word in ("--case", case)]
    done = plugin_environment.run(
        plugin_environment.python, "-m", "headrace.cli", "conform", "directory", *chosen, cwd=tmp_path
    )
    assert "directory keeps what the chosen cases ask: " in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_options_of_a_third_party_are_checked_like_ours(plugin_environment: Environment, tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text('[backends.ledger]\ntitel = "x"\nmax_batch = "many"\n')
    assert refusal(plugin_environment, "ledger", tmp_path).splitlines() == [
        f"{file}: 2 problems",
        '  backends.ledger.titel: is unknown; did you mean "title"?',
        '  backends.ledger.max_batch: found "many"; allowed: a whole number',
    ]
    file.write_text("[backends.ledger]\nmax_batch = 0\n")
    assert refusal(plugin_environment, "ledger", tmp_path) == (f"{file}: backends.ledger.max_batch: must be 1 or more")


def test_a_name_that_two_distributions_claim_is_refused_naming_both(
    plugin_environment: Environment, tmp_path: Path
) -> None:
    assert refusal(plugin_environment, "twin", tmp_path) == (
        'the backend "twin" is claimed by 2 distributions: headrace-twin-one 1.1 and headrace-twin-two 1.2; '
        "uninstall all but one"
    )


def test_a_contract_that_headrace_does_not_know_is_refused_naming_both_versions(
    plugin_environment: Environment, tmp_path: Path
) -> None:
    version = plugin_environment.run_code("import headrace; print(headrace.__version__)", cwd=tmp_path)
    assert refusal(plugin_environment, "future", tmp_path) == (
        'the backend "future" of headrace-future 9.0 cannot be used: it is written for version 2 of the driver '
        f"contract, and headrace {version} supports 1; upgrade headrace"
    )


def test_a_missing_client_library_is_told_with_what_to_install(plugin_environment: Environment, tmp_path: Path) -> None:
    assert refusal(plugin_environment, "clientless", tmp_path) == (
        'the backend "clientless" of headrace-clientless 2.0 cannot be used: the module "clientless_client" '
        "is not installed: pip install 'headrace-clientless[clientless]'"
    )


def test_a_misspelt_hook_is_refused(plugin_environment: Environment, tmp_path: Path) -> None:
    text = refusal(plugin_environment, "misspelt", tmp_path)
    assert text.startswith('the backend "misspelt" of headrace-misspelt 3.0 cannot be used: ')
    assert "unknown hook 'headrace_bakend'" in text


def test_a_backend_that_nobody_installed_is_answered_with_the_nearest(
    plugin_environment: Environment, tmp_path: Path
) -> None:
    assert refusal(plugin_environment, "legder", tmp_path) == (
        'no backend "legder" is installed; did you mean "ledger"?'
    )
