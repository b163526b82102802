"""A secret that is planted in a configuration is in nothing that anybody can see."""

import asyncio
import signal
import subprocess
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from headrace import Headrace
from headrace.conformance.servers.process import free_port
from headrace.conformance.servers.redis import RedisServer

from .conftest import CONFIG, JOBS, Shop, until

#: With what has to be quoted in a URL, and long enough for a key to sign with.
SECRET = "pl4nted/s3cret@of:more?than=32#characters"
QUOTED = quote(SECRET, safe="")

#: As any worker does that ends with its queues, but for the minute that it has patience.
IMPATIENT = f"{JOBS}\nfrom headrace import worker\nworker._PATIENCE = 0.2\n"

#: Each place where a backend takes a secret; at ``{port}`` nobody listens. SQS has none: boto3 finds its own.
BACKENDS = {
    "redis-url": f'plugin = "redis"\nurl = "redis://someone:{QUOTED}@127.0.0.1:{{port}}/0"',
    "redis-apart": f'plugin = "redis"\nurl = "redis://127.0.0.1:{{port}}/0"\npassword = "{SECRET}"',
    "rabbitmq-url": f"""\
plugin = "rabbitmq"
url = "amqp://someone:{QUOTED}@127.0.0.1:{{port}}/"
management_url = "http://someone:{QUOTED}@127.0.0.1:{{port}}"
timeout_seconds = 1
""",
    "rabbitmq-apart": f'''\
plugin = "rabbitmq"
url = "amqp://127.0.0.1:{{port}}/"
username = "someone"
password = "{SECRET}"
timeout_seconds = 1
''',
}

COMMANDS = (
    ("check", "--json"),
    ("--debug", "check"),
    ("backends",),
    ("info", "--json"),
    ("--debug", "info"),
    *(("--debug", "push", "Send", '{"user_id": 1}', "--queue", name) for name in BACKENDS),
    ("worker", ",".join(BACKENDS), "--until-empty", "--log-level", "debug", "--log-format", "json"),
)


def hidden(text: str) -> bool:
    """Whether a text does not have the secret, however it is written."""
    forms = (SECRET, QUOTED, repr(SECRET)[1:-1], SECRET[:12])
    return not any(form in shown for form in forms for shown in (text, unquote(text)))


@pytest.fixture
def secretive(shop: Shop) -> Shop:
    """A shop with the secret wherever its configuration takes one, and a queue on each of those backends."""
    (shop.folder / "shop_jobs.py").write_text(IMPATIENT)
    tables = "".join(
        f'[queues.{name}]\nbackend = "{name}"\npush_timeout = 0.5\n[backends.{name}]\n{options}\n'
        for name, options in BACKENDS.items()
    )
    shop.configure(f'signing_keys = ["{SECRET}"]\n{CONFIG}{tables}'.replace("{port}", str(free_port())))
    return shop


def test_no_command_shows_it(secretive: Shop) -> None:
    def shown(command: tuple[str, ...]) -> str:
        done = subprocess.run(
            secretive.command(*command),
            cwd=secretive.folder,
            env=secretive.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    with ThreadPoolExecutor(3) as threads:
        outputs = list(threads.map(shown, COMMANDS))
    for command, output in zip(COMMANDS, outputs, strict=True):
        assert output, command
        assert hidden(output), (command, output)


def test_a_wrong_option_beside_it_does_not_show_it(secretive: Shop) -> None:
    path = secretive.folder / "headrace.toml"
    path.write_text(f"{path.read_text()}\nurll = 'x'\n")
    done = secretive.run("check", status=2)
    assert "urll" in done.stdout + done.stderr
    assert hidden(done.stdout + done.stderr)


@pytest.mark.parametrize("name", [*BACKENDS, "mail"])
async def test_neither_representations_nor_tracebacks_show_it(secretive: Shop, name: str) -> None:
    app = Headrace.load(secretive.folder / "headrace.toml")
    queue = app.queue(name)
    place = queue.settings.backend
    objects = [app, app.config, app.config.backend_options(place), app.backend(place), queue, queue.signer]
    async with app:
        try:
            async with asyncio.timeout(20):
                objects.append(await queue.driver())
        except Exception as error:
            assert name != "mail"
            assert hidden("".join(traceback.format_exception(error)))
            objects += [error, error.__cause__, error.__context__]
    for each in objects:
        assert hidden(f"{each!r} {each}")
        # What a debugger or an error tracker shows of an error's parts.
        assert hidden(repr(getattr(each, "args", "")))


@pytest.mark.parametrize(
    "command", [("check",), ("worker", "mail", "--until-empty", "--log-level", "debug")], ids=" ".join
)
def test_a_server_that_refuses_it_does_not_make_it_known(shop: Shop, command: tuple[str, ...]) -> None:
    (shop.folder / "shop_jobs.py").write_text(IMPATIENT)
    with RedisServer(requirepass="another") as server:
        url = f"redis://:{QUOTED}@127.0.0.1:{server.front_port}/0"
        shop.configure(f'backend = "redis"\n{CONFIG}[backends.redis]\nurl = "{url}"\n')
        done = shop.run(*command, status=1)
    assert "password" in done.stdout + done.stderr
    assert hidden(done.stdout + done.stderr)


def test_neither_the_title_of_a_process_nor_its_log_shows_it(secretive: Shop) -> None:
    worker = secretive.start("worker", *BACKENDS, "mail", "--log-level", "debug", "--health", "./health.json")
    until(lambda: secretive.log.count("trying until it answers") == len(BACKENDS), "all backends are known to be away")
    until(lambda: "started" in secretive.log, "the one that needs none works")
    processes = [worker.pid, *secretive.processes()]
    assert len(processes) == len(BACKENDS) + 2
    for process in processes:
        for name in ("cmdline", "comm"):
            assert hidden(Path(f"/proc/{process}/{name}").read_text())
    assert hidden((secretive.folder / "health.json").read_text())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert hidden(secretive.log)
