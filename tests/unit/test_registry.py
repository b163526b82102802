"""Finding and loading plugins. Those of distributions that pip really installed are in tests/packaging."""

import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.config import Config
from headrace.driver import Backend
from headrace.errors import BackendUnavailable, ConfigError, UnknownBackend
from headrace.events import Event, Listener
from headrace.registry import InstalledBackend, Registry

#: A plugin with the least that a backend has.
SOUND = """
    from headrace.driver import CONTRACT, Backend, Capabilities
    from headrace.plugin import hookimpl

    class Ledger(Backend):
        place = "nowhere"
        capabilities = Capabilities(
            contract=CONTRACT, durable=False, shared=False, ordered=False,
            leases="timed", counts="exact", max_batch=1,
        )

        def __init__(self, options):
            self.options = options

        async def open(self): ...
        async def close(self): ...
        def clone(self): return self
        def driver(self, prefix, *, lease_seconds=30.0): raise NotImplementedError

    @hookimpl
    def headrace_backend(options):
        return Ledger(options)
"""

NO_TABLES: Mapping[str, Any] = {}

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution, with one entry point and its module, where Python looks for them."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def install(
        code: str,
        *,
        name: str = "ledger",
        distribution: str = "headrace-ledger",
        module: str = "ledger_plugin",
        extra: str | None = None,
    ) -> None:
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(code))
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.5.dist-info"
        folder.mkdir()
        provides = f"Provides-Extra: {extra}\n" if extra else ""
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {distribution}\nVersion: 1.5\n{provides}")
        (folder / "entry_points.txt").write_text(f"[headrace.backends]\n{name} = {module}\n")

    yield install
    for added in set(sys.modules) - before:
        del sys.modules[added]


def build(name: str = "ledger", backends: Mapping[str, Any] = NO_TABLES, registry: Registry | None = None) -> Backend:
    config = Config.from_mapping({"backends": backends}, environ={})
    return (registry or Registry()).build(config.backend_options(name))


def problem(name: str = "ledger", backends: Mapping[str, Any] = NO_TABLES) -> str:
    with pytest.raises(ConfigError) as caught:
        build(name, backends)
    return str(caught.value).removeprefix("configuration in code: ")


def test_the_built_in_backends_are_entry_points_like_any_other() -> None:
    found = {each.name: each.distribution for each in Registry().names()}
    assert found.items() >= {"memory": "headrace", "sqlite": "headrace"}.items()


def test_listing_names_distribution_version_and_module_and_imports_nothing(install: Install) -> None:
    install("raise RuntimeError('imported')")
    assert InstalledBackend("ledger", "headrace-ledger", "1.5", "ledger_plugin") in Registry().names()


def test_a_plugin_is_built_with_its_options(install: Install) -> None:
    install(SOUND)
    backend: Any = build(backends={"ledger": {"url": "x"}})
    assert type(backend).__name__ == "Ledger"
    assert backend.options.values == {"url": "x"}


def test_one_plugin_serves_several_entries_and_is_loaded_once(install: Install) -> None:
    install(SOUND)
    registry = Registry()
    tables = {"ledger": {"url": "a"}, "second": {"plugin": "ledger", "url": "b"}}
    first: Any = build("ledger", tables, registry)
    second: Any = build("second", tables, registry)
    assert type(first) is type(second)
    assert (first.options.values["url"], second.options.values["url"]) == ("a", "b")


def test_only_the_plugin_that_is_asked_for_is_imported(install: Install) -> None:
    install(SOUND)
    install("raise RuntimeError('imported')", name="other", distribution="headrace-other", module="other_plugin")
    assert build().capabilities.contract == 1


def test_an_unknown_backend_is_answered_with_the_nearest_or_with_all(install: Install) -> None:
    install(SOUND)
    with pytest.raises(UnknownBackend):
        build("leger")
    assert problem("leger") == 'no backend "leger" is installed; did you mean "ledger"?'
    assert problem("zzz").startswith('no backend "zzz" is installed; known are: ')
    assert "ledger, memory, " in problem("zzz")  # beside what other tests have put on the path


def test_an_unknown_plugin_is_told_with_its_key(install: Install) -> None:
    install(SOUND)
    assert problem("audit", {"audit": {"plugin": "leger"}}) == (
        'backends.audit.plugin: no backend "leger" is installed; did you mean "ledger"?'
    )
    assert problem("audit", {"audit": {"url": "x"}}).startswith(
        'backends.audit: no backend "audit" is installed; known are'
    )


def test_a_name_that_two_distributions_claim_is_refused_naming_both_and_importing_neither(install: Install) -> None:
    install("raise RuntimeError('imported')")
    install("raise RuntimeError('imported')", distribution="headrace-rival", module="rival_plugin")
    assert [str(each) for each in Registry().names() if each.name == "ledger"] == [
        "headrace-ledger 1.5",
        "headrace-rival 1.5",
    ]
    assert problem() == (
        'the backend "ledger" is claimed by 2 distributions: headrace-ledger 1.5 and headrace-rival 1.5; '
        "uninstall all but one"
    )


CANNOT = 'the backend "ledger" of headrace-ledger 1.5 cannot be used: '


def test_a_missing_client_library_is_told_with_the_extra_that_brings_it(install: Install) -> None:
    install("import ledger_client.pool", extra="ledger")
    assert problem() == f"{CANNOT}the module \"ledger_client\" is not installed: pip install 'headrace-ledger[ledger]'"


def test_a_missing_client_library_without_an_extra_is_the_distributions_lack(install: Install) -> None:
    install("import ledger_client")
    assert problem() == (
        f'{CANNOT}the module "ledger_client" is not installed: install the library that it comes with; '
        "headrace-ledger should have required it"
    )


def test_a_client_library_that_is_imported_late_is_told_alike(install: Install) -> None:
    install(SOUND.replace("return Ledger", "import ledger_client; return Ledger"), extra="ledger")
    assert problem().endswith("pip install 'headrace-ledger[ledger]'")


def test_a_module_of_the_plugin_itself_that_is_missing_is_no_client_library(install: Install) -> None:
    install("import ledger_plugin.nothing")
    assert problem() == (
        f"{CANNOT}importing ledger_plugin raised ModuleNotFoundError: "
        "No module named 'ledger_plugin.nothing'; 'ledger_plugin' is not a package"
    )


def test_a_name_that_a_client_library_lacks_is_told_as_it_is(install: Install) -> None:
    install("from json import nothing", extra="ledger")
    assert f"{CANNOT}importing ledger_plugin raised ImportError: cannot import name 'nothing' from 'json'" in problem()


def test_whatever_else_importing_raises_is_told_and_kept_as_the_cause(install: Install) -> None:
    install("raise ValueError('cannot reach db://me:hunter2@host')")
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value).endswith(f"{CANNOT}importing ledger_plugin raised ValueError: cannot reach db://***@host")
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_misspelt_hook_is_refused(install: Install) -> None:
    install(SOUND + "\n    @hookimpl\n    def headrace_listenrs(): ...\n")
    text = problem()
    assert text.startswith(CANNOT)
    assert "unknown hook 'headrace_listenrs' in plugin" in text


def test_a_hook_with_an_argument_that_there_is_not_is_refused(install: Install) -> None:
    install(SOUND.replace("headrace_backend(options)", "headrace_backend(option)"))
    assert "Argument(s) {'option'} are declared in the hookimpl but can not be found in the hookspec" in problem()


def test_a_module_without_the_hook_is_refused(install: Install) -> None:
    install("")
    assert problem() == f"{CANNOT}ledger_plugin has no function headrace_backend marked with headrace.plugin.hookimpl"


def test_a_hook_that_nobody_marked_is_recognised(install: Install) -> None:
    install("def headrace_backend(options): ...")
    assert problem() == (
        f"{CANNOT}ledger_plugin has a function headrace_backend that is not marked with headrace.plugin.hookimpl"
    )


def test_a_hook_that_returns_no_backend_is_refused(install: Install) -> None:
    install(SOUND.replace("return Ledger(options)", "return None"))
    assert problem() == f"{CANNOT}its hook headrace_backend returned NoneType, not a headrace.driver.Backend"


def test_a_hook_that_raises_is_told_without_the_tables_secrets(install: Install) -> None:
    install(SOUND.replace("return Ledger(options)", "raise OSError('no ' + options.values['password'])"))
    with pytest.raises(ConfigError) as caught:
        build(backends={"ledger": {"password": "hunter2"}})
    assert str(caught.value) == (
        f"configuration in code: backends.ledger: {CANNOT}its hook headrace_backend raised OSError: no ***"
    )
    assert isinstance(caught.value.__cause__, OSError)


def test_what_a_hook_raises_of_ours_is_left_as_it_is(install: Install) -> None:
    install(
        "from headrace.errors import BackendUnavailable\n"
        + textwrap.dedent(SOUND).replace("return Ledger(options)", "raise BackendUnavailable('gone')")
    )
    with pytest.raises(BackendUnavailable, match=r"^gone$"):
        build()


def test_wrong_options_are_told_by_key(install: Install) -> None:
    install(SOUND.replace("return Ledger(options)", "raise options.error('url', 'is no good')"))
    assert problem(backends={"ledger": {"url": "x"}}) == "backends.ledger.url: is no good"


@pytest.mark.parametrize(("version", "advice"), [(2, "upgrade headrace"), (0, "upgrade headrace-ledger")])
def test_an_unsupported_contract_is_refused_naming_both_versions(install: Install, version: int, advice: str) -> None:
    install(SOUND.replace("contract=CONTRACT", f"contract={version}"))
    text = problem()
    assert text.startswith(f"{CANNOT}it is written for version {version} of the driver contract, and headrace ")
    assert text.endswith(f" supports 1; {advice}")


def test_capabilities_that_are_none_are_refused(install: Install) -> None:
    install(SOUND.replace("capabilities = Capabilities(", "capabilities = dict("))
    assert problem() == f"{CANNOT}its capabilities are dict, not headrace.driver.Capabilities"


def test_the_listeners_of_loaded_plugins_are_given_once(install: Install) -> None:
    hook = "    @hookimpl\n    def headrace_listeners():\n        return [listen(Event)(print)]\n"
    install(f"{SOUND}\n    from headrace.events import Event, listen\n{hook}")
    registry = Registry()
    printed = [Listener((Event,), print)]
    assert list(registry.listeners()) == []
    build(registry=registry)
    build("second", {"second": {"plugin": "ledger"}}, registry)
    assert list(registry.listeners()) == printed
    build("memory", registry=registry)
    assert list(registry.listeners()) == printed


def test_a_listener_that_is_not_marked_as_one_is_refused(install: Install) -> None:
    install(SOUND + "\n    @hookimpl\n    def headrace_listeners():\n        return [print]\n")
    registry = Registry()
    build(registry=registry)
    with pytest.raises(ConfigError, match="headrace_listeners gave <built-in function print>, which is not marked"):
        list(registry.listeners())


def test_a_listeners_hook_that_raises_is_told(install: Install) -> None:
    install(SOUND + "\n    @hookimpl\n    def headrace_listeners():\n        raise OSError('no')\n")
    registry = Registry()
    build(registry=registry)
    with pytest.raises(ConfigError, match=r'^the backend "ledger": headrace_listeners raised OSError: no$'):
        list(registry.listeners())
