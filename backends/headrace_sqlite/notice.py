"""Hearing of other processes' commits from the kernel: Linux's inotify, on the log.

A poll that is frequent enough to be quick costs a few per cent of a CPU on a virtual
machine, where each waking of an idle one is dear; this costs nothing until something is
committed, and is ten times as quick. Writing to the log is no sign, as a commit can be seen
only some microseconds after that; so whoever commits touches the log's times afterwards
(`headrace_sqlite.disk.Log.touch`), and that is what is listened for. One who is killed
between the two is found out at the end of the wait.

Owns one watch on one file. Where there is none to be had (another system, or the user's
limit of them is reached) `open_notice` says so, and `headrace_sqlite.watch` polls.
"""

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import Final

#: ``IN_ATTRIB`` of ``sys/inotify.h``: the file's times, or other data about it, were changed.
_IN_ATTRIB: Final = 0x4

#: Bytes of events that one read takes. An event without a name has 16, and equal ones that
#: have not been read are merged by the kernel.
_EVENTS: Final = 4096


def open_notice(path: Path) -> int | None:
    """A descriptor that becomes readable when ``path`` is touched; ``None`` if there is none to be had."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    descriptor: int = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    if library.inotify_add_watch(descriptor, os.fsencode(path), _IN_ATTRIB) < 0:
        os.close(descriptor)
        return None
    return descriptor


def clear(descriptor: int) -> None:
    """Forget all touches until now, so that the descriptor is readable again only after another."""
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, _EVENTS)
