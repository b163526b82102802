"""A server's program in a container: for a machine that has an engine for those, and not the program.

The container shares the machine's network and its folder for temporary files, so that a server
in it has the ports and files that it would have outside, on loopback like all others.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: Programs that take the same words, in the order in which they are asked.
ENGINES: Final = ("docker", "podman")


class Container:
    """One server's. Each start makes another one, as the engine may be slow to forget the one before."""

    def __init__(self, engine: str, image: str) -> None:
        self._engine = engine
        self._image = image
        self._name = ""

    def command(self, inner: Sequence[str], folder: Path) -> list[str]:
        """The command line that runs another one in a new container, and lasts as long as that."""
        self._name = f"headrace-{secrets.token_hex(8)}"
        shared = tempfile.gettempdir()
        return [
            *(self._engine, "run", "--rm", "--name", self._name, "--network", "host"),
            *("--volume", f"{shared}:{shared}", "--workdir", str(folder)),
            *("--user", f"{os.getuid()}:{os.getgid()}", "--entrypoint", inner[0]),
            *(self._image, *inner[1:]),
        ]

    def send(self, number: int) -> None:
        """Send the server a signal. It is not there any more if that fails."""
        subprocess.run([self._engine, "kill", "--signal", str(int(number)), self._name], capture_output=True)


def find_engine(image: str) -> str:
    """The first engine that works, and has the image or can fetch it; empty if there is none."""
    for engine in filter(shutil.which, ENGINES):
        ways = (["image", "inspect", image], ["pull", image])
        if _runs(engine, "info") and any(_runs(engine, *way) for way in ways):
            return engine
    return ""


def _runs(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0
