"""The two things that code finds without being handed them.

Owns the app most recently entered, which a bare ``push`` goes to, and `current()`, what a
handler may know of the run it is in. Both are set by others.
"""

import asyncio
import contextvars
import weakref
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from headrace.errors import WrongContext
from headrace.standin import stand_in

if TYPE_CHECKING:
    from headrace.app import Headrace
    from headrace.job import Job


class Current(ABC):
    """The run of a job, as its handler sees it."""

    __slots__ = ()

    @property
    @abstractmethod
    def job(self) -> "Job":
        """The job itself, as it was decoded."""

    @property
    @abstractmethod
    def id(self) -> str:
        """The message's id, as `push` returned it."""

    @property
    @abstractmethod
    def attempt(self) -> int:
        """Retries spent so far: 0 on the first run."""

    @property
    @abstractmethod
    def queue(self) -> str:
        """The queue's name in the configuration."""

    @property
    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """What the push was given as ``headers``; none of headrace's own."""

    @property
    @abstractmethod
    def deadline(self) -> float | None:
        """When ``handle_timeout`` ends, on the clock of `time.monotonic`; ``None`` without one."""

    @property
    @abstractmethod
    def state(self) -> Any:
        """What the worker's ``lifespan`` yielded; ``None`` without one."""

    @abstractmethod
    def extend(self, seconds: float) -> None:
        """Ask for ``seconds`` more from now: the deadline moves there, never nearer.

        Leases need no asking; the worker extends them while it lives. Callable from any thread.
        """


_current: contextvars.ContextVar[Current] = contextvars.ContextVar("headrace_current")


def current() -> Current:
    """The run that this code is part of; raises `WrongContext` outside a handler."""
    try:
        return _current.get()
    except LookupError:
        raise WrongContext("current() was called outside a running job") from None


#: Make a run what `current()` gives in this task or thread.
set_current = _current.set

_entered: list["Headrace"] = []
#: Apps that were made and are still in use, oldest first.
_made: list["weakref.ref[Headrace]"] = []


def made(app: "Headrace") -> None:
    """Remember an app that code without an event loop may mean, as it enters none."""
    _made.append(weakref.ref(app, _made.remove))


def unmade(app: "Headrace") -> None:
    """Undo `made`, for an app that only another app uses."""
    _made[:] = [each for each in _made if each() is not app]


def last_made() -> "Headrace | None":
    """The app most recently made of those that somebody still holds, if any."""
    alive = (app for each in reversed(_made.copy()) if (app := each()) is not None)
    return next(alive, None)


def enter(app: "Headrace") -> None:
    """Make ``app`` the one that a bare ``push`` goes to."""
    _entered.append(app)


def leave(app: "Headrace") -> None:
    """Undo one `enter`; the app entered before it counts again."""
    for position in range(len(_entered) - 1, -1, -1):
        if _entered[position] is app:
            del _entered[position]
            return


def entered() -> "Headrace | None":
    """The app most recently entered, if any; in tests, that of what stands in for the backends."""
    if _entered:
        return _entered[-1]
    standing = stand_in()
    return None if standing is None else standing.app()


def require_loop(verb: str) -> None:
    """Raise `WrongContext`, naming the blocking twin of ``verb``, unless an event loop runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise WrongContext(f"{verb}() needs a running event loop; without one, call {verb}_sync()") from None


#: What `push` returns: awaited, the id of the message.
PushCoroutine = Coroutine[Any, Any, str]
