"""The same commands on a terminal: tables that fit, questions, and no sequence that a job brought."""

import asyncio
import codecs
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from headrace import Headrace
from headrace.driver import Message

from .conftest import Shop
from .test_commands import HOSTILE, fail_once


class Terminal:
    """A command that believes to run on a terminal."""

    def __init__(self, shop: Shop, *arguments: str, columns: int = 80) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        environment = {key: value for key, value in shop.environment.items() if key not in ("COLUMNS", "NO_COLOR")}
        self.process = subprocess.Popen(
            shop.command(*arguments),
            cwd=shop.folder,
            env={**environment, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shop.started.append(self.process)  # type: ignore[arg-type]
        self._ours = ours
        self.text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def read(self, enough: Callable[[str], bool] = lambda text: False, seconds: float = 30.0) -> str:
        """Read until there is enough, or the command has ended."""
        give_up_at = time.monotonic() + seconds
        while not enough(self.text):
            assert time.monotonic() < give_up_at, self.text
            if not select.select([self._ours], [], [], 0.1)[0]:
                continue
            try:
                part = os.read(self._ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            self.text += self._decoder.decode(part)
        return self.text

    def close(self) -> None:
        os.close(self._ours)


@pytest.fixture
def terminal(shop: Shop) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def make(*arguments: str, columns: int = 80) -> Terminal:
        opened.append(Terminal(shop, *arguments, columns=columns))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def plain(text: str) -> str:
    """What a terminal would show, without rich's own colours."""
    shown = ""
    for part in text.split("\x1b["):
        shown += part.partition("m")[2] if shown or text.startswith("\x1b[") else part
    return shown


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit_the_terminal_and_ids_stay_whole(
    shop: Shop, terminal: Callable[..., Terminal], columns: int
) -> None:
    message_id = fail_once(shop, "a text that is far too long for one line, " * 20)
    text = terminal("list", "mail", columns=columns).read()
    assert message_id in text
    assert "ValueError" in text
    lines = text.replace("\r", "").split("\n")
    assert max(len(plain(line)) for line in lines) <= columns


def test_colours_are_ours_alone(shop: Shop, terminal: Callable[..., Terminal]) -> None:
    message_id = fail_once(shop, HOSTILE)
    for arguments in (["list", "mail"], ["show", "mail", message_id]):
        text = terminal(*arguments, columns=200).read()
        assert "\x1b[2J" not in text
        assert "\x1b]0;" not in text
        assert "\u202e" not in text
        assert "[red]" in text


def test_info_watches_until_ctrl_c(shop: Shop, terminal: Callable[..., Terminal]) -> None:
    shop.push("Send", user_id=1)
    watching = terminal("info", "mail", "--watch")
    watching.read(lambda text: text.count("waiting") >= 2)
    watching.process.send_signal(signal.SIGINT)
    text = watching.read()
    assert watching.process.wait(10) == 0
    assert "Traceback" not in text


@pytest.mark.parametrize(("answer", "status", "left"), [("y", 0, {}), ("n", 1, {"waiting": 1})])
def test_flush_says_how_much_there_is_and_asks_before_it_deletes(
    shop: Shop, terminal: Callable[..., Terminal], answer: str, status: int, left: dict[str, int]
) -> None:
    shop.push("Send", user_id=1)
    asking = terminal("flush", "mail", "--channel", "waiting")
    question = "Delete all messages in waiting of mail, which holds 1, for good?"
    asking.read(lambda text: question in plain(text))
    asking.type(f"{answer}\n")
    asking.read()
    assert asking.process.wait(10) == status
    assert shop.counts() == left


def test_help_is_in_groups_on_a_terminal(terminal: Callable[..., Terminal]) -> None:
    text = terminal("--help").read()
    for group in ("Run jobs", "Look at queues", "Move and remove messages", "Set up"):
        assert group in text


def test_help_flows_and_names_no_type_of_a_flag(terminal: Callable[..., Terminal]) -> None:
    lines = [plain(line).strip() for line in terminal("worker", "--help").read().replace("\r", "").split("\n")]
    paragraph = lines[next(number for number, line in enumerate(lines) if line.startswith("SIGTERM and Ctrl-C")) :]
    # As wide as the terminal has room for, whatever the width of the source.
    assert len(paragraph[0]) + len(paragraph[1].split()[0]) > 76
    assert "<bool>" not in "".join(lines)


def test_check_and_backends_are_readable_in_80_columns(shop: Shop, terminal: Callable[..., Terminal]) -> None:
    assert "✓" in terminal("check").read()
    text = terminal("backends").read()
    assert max(len(plain(line)) for line in text.replace("\r", "").split("\n")) <= 80


def test_the_demo_shows_its_progress_on_a_terminal(shop: Shop, terminal: Callable[..., Terminal]) -> None:
    folder = shop.folder / "files"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.txt").write_text("one two\n" * number)
    demo = terminal("demo", str(folder))
    text = demo.read(seconds=60)
    assert demo.process.wait(10) == 0
    assert "of 25 done" in text
    assert "The totals agree." in text


def test_a_migration_shows_how_far_it_is_and_what_it_waits_for(shop: Shop, terminal: Callable[..., Terminal]) -> None:
    async def hold_one_of_two() -> None:
        async with Headrace.load(shop.folder / "headrace.toml") as app:
            queue = (await app.opened("sqlite")).driver("{mail}", lease_seconds=600)
            await queue.push([Message(id=each, name="Send", body=b"{}") for each in ("a", "b")])
            assert len(await queue.pop(1, 0)) == 1

    asyncio.run(hold_one_of_two())
    moving = terminal("migrate", "mail", "low", "--wait", "1")
    shown = plain(moving.read())
    assert moving.process.wait(30) == 1
    assert "1/2" in shown
    assert "waiting for 1 reserved" in shown
    assert "1 message moved to low" in shown
