"""Fetches a newer server than the system has, from a later Debian: ``python newer_servers.py FOLDER PACKAGE``.

Prints the program to run. Its packages, and all that they need, are unpacked into the folder, and run from there
with libraries of their own: nothing is installed, and nobody need be root. Wants apt, dpkg and a way to Debian.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: Has Redis 8.0, Valkey 8.1 and RabbitMQ 4.0.
RELEASE: Final = "trixie"

#: Signed by Debian, so that it does not matter who hands it over.
SOURCE: Final = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian"

#: Runs a program with the libraries that came with it, as the one process that a test may kill.
START: Final = """#!/bin/sh
exec {loader} --argv0 "$0" --library-path {libraries} {program} "$@"
"""


def fetch(folder: Path, package: str) -> Path:
    """Raises `SystemExit` with the reason if it cannot be had."""
    start, root = folder / package, folder / "root"
    if start.exists():
        return start
    if package == "rabbitmq-server":
        _unpack(folder, package, ("lib", "rabbitmq", "erlang"))
        _settle_erlang(root)
        (home,) = root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*")
        start.symlink_to(home / "sbin" / package)
    else:
        _unpack(folder, package, ("lib", package.partition("-")[0]))
        _write_start(start, root / "usr" / "bin" / package, root)
    return start


def _unpack(folder: Path, package: str, wanted: tuple[str, ...]) -> None:
    """Unpack a package and all that it needs, of which those whose names do not begin so are for its installation."""
    apt, root = _apt(folder), folder / "root"
    _run([*apt, "update"])
    _run([*apt, "install", "--yes", "--no-install-recommends", "--download-only", package])
    for each in (folder / "cache" / "archives").glob("*.deb"):
        if each.name.startswith(wanted):
            _run(["dpkg-deb", "--extract", str(each), str(root)])


def _settle_erlang(root: Path) -> None:
    """Let Erlang know where it is; whoever runs it needs its folder ``bin`` on the path."""
    home = root / "usr" / "lib" / "erlang"
    start = home / "bin" / "erl"
    start.write_text(start.read_text().replace("ROOTDIR=/usr/lib/erlang", f"ROOTDIR={home}"))
    for program in (*home.glob("bin/*"), *home.glob("erts-*/bin/*"), *home.glob("lib/*/priv/bin/*")):
        if program.read_bytes().startswith(b"\x7fELF"):
            _write_start(program, program.rename(f"{program}.program"), root)


def _write_start(start: Path, program: Path, root: Path) -> None:
    libraries = root / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    (loader,) = libraries.glob("ld-linux-*.so.*")
    start.write_text(START.format(loader=loader, libraries=libraries, program=program))
    start.chmod(0o755)


def _apt(folder: Path) -> Sequence[str]:
    """apt-get with an idea of its own of what there is and what is installed, which is nothing."""
    for part in ("etc/preferences.d", "state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "state" / "status").touch()
    (folder / "etc" / "sources.list").write_text(f"{SOURCE} {RELEASE} main\n")
    options = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "state" / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc": folder / "etc",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",  # whose folder it is
    }
    return ["apt-get", "-qq", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise SystemExit(f"cannot fetch newer servers, as there is no {command[0]} here: {error}") from None
    if done.returncode != 0:
        raise SystemExit(f"cannot fetch newer servers: {' '.join(command)}\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    print(fetch(Path(sys.argv[1]).resolve(), sys.argv[2]))
