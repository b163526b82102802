"""Where RabbitMQ is on this machine, and a home of links to just those of its plugins that a server needs.

Its start script takes the folder above its own for the home. The server loads every module that
it finds there, so that it starts in half the time where there are few.

The program is that of Debian's package, or what the environment's ``HEADRACE_TEST_RABBITMQ_SERVER``
names: the script in the ``sbin`` of an unpacked RabbitMQ, not a wrapper of it which changes the user.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from headrace.conformance.servers.process import ServerNotFound
from headrace.conformance.servers.programs import find_program

#: Names the program to run, before any that is installed.
PROGRAM: Final = "HEADRACE_TEST_RABBITMQ_SERVER"

#: Where Debian has what its ``rabbitmq-server`` runs after it has changed the user.
DEBIAN: Final = "/usr/lib/rabbitmq/bin/rabbitmq-server"


def find_home() -> Path:
    """The folder with ``sbin``, ``plugins`` and ``escript``. Raises `ServerNotFound`."""
    program = find_program(PROGRAM, (DEBIAN,), "rabbitmq-server")
    home = Path(program).resolve().parent.parent
    if not (home / "plugins").is_dir():
        raise ServerNotFound(f"{program} is not in the sbin of a RabbitMQ: there is no {home / 'plugins'}")
    return home


def link_home(source: Path, home: Path, wanted: Iterable[str]) -> None:
    """Make a home with nothing but ``wanted`` plugins, and what they need."""
    there = {each.name.partition("-")[0]: each for each in (source / "plugins").iterdir()}
    home.joinpath("plugins").mkdir(parents=True)
    for name in ("sbin", "escript"):
        home.joinpath(name).symlink_to(source / name)
    left, linked = [*wanted], set[str]()
    while left:
        name = left.pop()
        if name in there and name not in linked:  # the others are Erlang's own
            linked.add(name)
            home.joinpath("plugins", there[name].name).symlink_to(there[name])
            described = there[name].joinpath("ebin", f"{name}.app").read_text()
            needed = re.search(r"\{applications,\s*\[([^\]]*)\]", described)
            left += re.findall(r"\w+", needed[1] if needed else "")
