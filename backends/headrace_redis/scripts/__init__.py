"""The scripts by which messages move: Lua that the server runs, each of them as one atomic step.

A script names its keys on its first lines, ``local line = KEYS[2]``, and that is where the
driver reads which ones to pass: what is declared and what is used cannot differ. No command
is sent for a queue but these scripts, the wait for ``wake``, and its deletion.
"""

import hashlib
import re
from importlib.resources import files
from typing import Final

_KEY: Final = re.compile(r"^local (\w+) = KEYS\[(\d+)\]", re.MULTILINE)


class Script:
    """One script: its text, its digest, and the names of its keys in order."""

    def __init__(self, name: str) -> None:
        first, _, rest = _read(name).partition("\n")
        self.name = name
        self.text = f"{first}\n{_read('common')}\n{rest}"
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self.keys = tuple(found[1] for found in _KEY.finditer(rest))


def _read(name: str) -> str:
    return files(__name__).joinpath(f"{name}.lua").read_text("utf-8")


ACK: Final = Script("ack")
EXTEND: Final = Script("extend")
FAIL: Final = Script("fail")
FIND: Final = Script("find")
FLUSH: Final = Script("flush")
INFO: Final = Script("info")
LOOK: Final = Script("look")
PEEK: Final = Script("peek")
POP: Final = Script("pop")
PUSH: Final = Script("push")
RELEASE: Final = Script("release")
RELOAD: Final = Script("reload")
REMOVE: Final = Script("remove")
REST: Final = Script("rest")
RETRY: Final = Script("retry")
STORE: Final = Script("store")

#: Every key of a queue; each is the prefix, a colon, and this name.
KEYS: Final = tuple(dict.fromkeys(key for script in (INFO, LOOK, POP, PUSH, REMOVE) for key in script.keys))
