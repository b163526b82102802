"""Installs the competitors, each into a folder of its own: ``python -m peers.install FOLDER``.

Apart, as no two need agree: arq and SAQ want older clients of Redis than the others. Each gets
what its own documentation says to install. One that cannot be had is told and left out of the
runs, and the others go on. Those that are there already stay; remove the folder to renew them.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

#: What pip is asked for, by library.
PYTHON: Final = {
    "celery": ["celery[redis]", "hiredis"],
    "dramatiq": ["dramatiq[redis,rabbitmq]", "hiredis"],
    "taskiq": ["taskiq", "taskiq-redis", "taskiq-aio-pika", "redis[hiredis]", "uvloop"],
    "rq": ["rq", "redis[hiredis]"],
    "huey": ["huey", "redis[hiredis]"],
    "arq": ["arq", "uvloop"],
    "saq": ["saq[redis,hiredis]", "uvloop"],
    "streaq": ["streaq", "uvloop"],
    "faststream": ["faststream[rabbit]", "uvloop"],
}

#: What npm is asked for: its README's, with the client that its examples use.
NODE: Final = {"bullmq": ["bullmq", "ioredis"]}

#: Seconds that one installation may take: npm tries for many minutes to reach what it cannot.
PATIENCE: Final = 600.0

#: In a library's folder once it is complete.
MARK: Final = "installed"


def installed(folder: Path, library: str) -> bool:
    """Whether a library is there as a whole."""
    return (folder / library / MARK).exists()


def install(folder: Path, library: str) -> str:
    """Install one library. Returns why it cannot be had, in a line; empty if it is there."""
    place = folder / library
    if installed(folder, library):
        return ""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if library in PYTHON:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(place), *PYTHON[library]]
    elif shutil.which("npm") and shutil.which("node"):
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(place), *NODE[library]]
    else:
        return "there is no node and npm on the path"
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not end within {PATIENCE:g} s"
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        return lines[-1] if lines else f"{command[0]} failed"
    (place / MARK).touch()
    return ""


def main() -> None:
    folder = Path(sys.argv[1])
    for library in (*PYTHON, *NODE):
        reason = install(folder, library)
        print(f"{library}: {reason or 'installed'}", flush=True)


if __name__ == "__main__":
    main()
