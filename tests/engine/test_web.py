"""Pushing from a Flask application under a forking server that loads it before the fork."""

import asyncio
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headrace import Headrace

REQUESTS = 200

APPLICATION = """
from flask import Flask
from headrace import Headrace, Job

class Visit(Job):
    path: str
    async def handle(self): ...

jobs = Headrace.load("headrace.toml")
# Before the fork, so that the parent has a thread and an open file that no child may use.
jobs.queue().push_sync(Visit(path="preload"))
app = Flask(__name__)

@app.get("/<path:path>")
def visit(path):
    return jobs.queue().push_sync(Visit(path=path))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        return str(response.read().decode())


def wait_until_up(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            get(url)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def test_every_request_of_a_preloaded_forking_server_is_stored_once(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    (tmp_path / "headrace.toml").write_text('backend = "sqlite"\n')
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--threads", "4"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--bind", f"127.0.0.1:{port}", "site_app:app"], cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}/up")
        with ThreadPoolExecutor(8) as threads:
            ids = list(threads.map(get, [f"http://127.0.0.1:{port}/page/{n}" for n in range(REQUESTS)]))
    finally:
        server.terminate()
        assert server.wait(30) == 0, (tmp_path / "log").read_text()
    assert len(set(ids)) == REQUESTS

    async def stored() -> list[str]:
        async with Headrace.load(tmp_path / "headrace.toml") as app:
            return [each.arguments["path"] for each in await app.queue().list("waiting", limit=10_000)]

    paths = asyncio.run(stored())
    assert sorted(each for each in paths if each.startswith("page/")) == sorted(f"page/{n}" for n in range(REQUESTS))
    assert paths.count("preload") == 1
