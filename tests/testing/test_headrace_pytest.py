"""The pytest plugin, as a project that has headrace installed meets it."""

import subprocess
import sys
from pathlib import Path

JOBS = """
from headrace import Job

sent = []

class Welcome(Job, queue="mail"):
    user_id: int

    async def handle(self) -> None:
        sent.append(self.user_id)
"""

TESTS = """
from shop import Welcome, sent


def test_fake(headrace_fake):
    Welcome(user_id=1).push_sync()
    headrace_fake.assert_pushed(Welcome, user_id=1, queue="mail")
    assert sent == []
    headrace_fake.run_sync()
    assert sent == [1]


def test_inline(headrace_inline):
    Welcome(user_id=2).push_sync()
    assert sent == [1, 2]


def test_app(headrace_app, headrace_clock):
    Welcome(user_id=3).push_sync(delay=60)
    headrace_app.run_due_sync()
    assert sent == [1, 2]
    headrace_clock.advance(60)
    headrace_app.run_due_sync()
    assert sent == [1, 2, 3]


def test_failure(headrace_fake):
    Welcome(user_id=4).push_sync()
    headrace_fake.assert_pushed(Welcome, user_id=5)
"""

CONFIG = """
imports = ["shop"]
listeners = []
[queues.mail]
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def make_project(folder: Path) -> None:
    (folder / "shop.py").write_text(JOBS)
    (folder / "test_shop.py").write_text(TESTS)
    (folder / "headrace.toml").write_text(CONFIG)


def test_the_fixtures_work_with_the_projects_own_configuration(tmp_path: Path) -> None:
    make_project(tmp_path)
    result = run_pytest(tmp_path)
    assert "1 failed, 3 passed" in result.stdout, result.stdout + result.stderr
    assert not list(tmp_path.glob("*.db"))


def test_a_failure_shows_what_was_pushed_and_none_of_headraces_own_lines(tmp_path: Path) -> None:
    make_project(tmp_path)
    result = run_pytest(tmp_path, "-k", "failure")
    assert "E       AssertionError: Welcome(user_id=5) was not pushed; these were:" in result.stdout
    assert "Welcome(user_id=4) on 'mail'" in result.stdout
    assert "_what_was_pushed" not in result.stdout


def test_the_configuration_may_be_overridden(tmp_path: Path) -> None:
    make_project(tmp_path)
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef headrace_config():\n    return {'queues': {'post': {}}}\n"
    )
    result = run_pytest(tmp_path, "-k", "inline")
    assert 'there is no queue "mail"' in result.stdout


def test_pytest_starts_without_importing_headrace(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n\ndef test_it(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.hasplugin('headrace')\n"
        "    assert 'headrace' not in sys.modules\n"
    )
    result = run_pytest(tmp_path)
    assert "1 passed" in result.stdout, result.stdout + result.stderr
