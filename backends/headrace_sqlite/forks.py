"""Files that were open when this process was forked off, and must not be opened in it.

What the library knows of a file, its locks above all, it keeps for the whole process. A fork
copies that knowledge and not the locks: a child that then opens the file, by a connection of
its own too, believes in locks that it does not have, and damages the file. So it is refused.

Owns the list of files. One that was closed before the fork is safe, which is what
``headrace.sync`` sees to for its connections.
"""

import os
from collections import Counter
from pathlib import Path

from headrace.errors import BackendError


class OpenFiles:
    """The files that are open in this process, by device and inode, and those that its parent had open."""

    def __init__(self) -> None:
        self._open: Counter[tuple[int, int] | None] = Counter()
        self._inherited: set[tuple[int, int] | None] = set()
        self._registered = False

    def check(self, file: tuple[int, int] | None, path: Path) -> None:
        """Raise `BackendError` if the parent had the file open when it forked this process off."""
        if file in self._inherited:
            raise BackendError(
                f"{path} was open in the process that this one ({os.getpid()}) was forked from, and SQLite would "
                "damage it here: start the child by spawn, or close the file before the fork"
            )

    def opened(self, file: tuple[int, int] | None) -> None:
        if not self._registered:
            self._registered = True
            os.register_at_fork(after_in_child=self._forked)
        self._open[file] += 1

    def closed(self, file: tuple[int, int] | None) -> None:
        self._open[file] -= 1

    def _forked(self) -> None:
        self._inherited.update(+self._open)
        self._open.clear()


#: For the process, as what it guards against is the process' own.
open_files = OpenFiles()
