"""Finding a server's program: where the environment says, on the path, from the system's packages, in a container."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from headrace.conformance.servers.container import Container, find_engine
from headrace.conformance.servers.process import ServerNotFound


def find_server(variable: str, names: Sequence[str], package: str, image: str) -> tuple[str, Container | None]:
    """A program as `find_program` finds it, else the first of ``names`` in a container of ``image``.

    Raises `ServerNotFound`, in one line that says how to get it.
    """
    try:
        return find_program(variable, names, package), None
    except ServerNotFound as error:
        engine = "" if os.environ.get(variable) else find_engine(image)
        if not engine:
            raise ServerNotFound(f"{error}; docker or podman would do, too, with {image}") from None
        return names[0], Container(engine, image)


def find_program(variable: str, names: Sequence[str], package: str) -> str:
    """The path of a program: the environment's ``variable``, else the first of ``names`` that is installed.

    As root on Debian or Ubuntu, ``package`` is installed if need be, and none of its services
    is started. Raises `ServerNotFound`, in one line that says how to get it.
    """
    named = os.environ.get(variable)
    if named:
        if not Path(named).is_file():
            raise ServerNotFound(f"{variable} is {named}, where there is no file")
        return named
    found = _on_path(names) or (_install(package) and _on_path(names))
    if not found:
        raise ServerNotFound(
            f"none of {', '.join(names)} is installed: install the package {package}, or set {variable} to the program"
        )
    return found


def _on_path(names: Sequence[str]) -> str:
    return next(filter(None, map(shutil.which, names)), "")


def _install(package: str) -> bool:
    """Install a Debian package, if that can be done without asking anybody."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return False
    # A run level of 1 keeps the package's own service from being started.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    # One at a time: test runs that need it at once would find the package manager locked.
    with (Path(tempfile.gettempdir()) / "headrace-install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", package]):
            done = subprocess.run(command, env=environment, capture_output=True)
    return done.returncode == 0
