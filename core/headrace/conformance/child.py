"""Work in a process of its own, with a backend that the harness makes there, as another worker would have it.

Owns the process: it is started afresh, not forked, so that nothing of ours reaches it but the
pickled harness; it is gone when the call returns, whatever became of the work.
"""

import asyncio
import multiprocessing
import pickle
import signal
import time
from collections.abc import Awaitable, Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

from headrace.conformance.harness import Harness
from headrace.conformance.lab import Lab
from headrace.driver import Backend

#: Seconds until a child is given up and killed: starting an interpreter takes its time on a busy machine. Two of
#: them, one after the other, end before the runner gives a case up.
CHILD_PATIENCE: Final = 20.0

#: Seconds between looks at whether the case is over.
_LOOK_EVERY: Final = 0.2

#: What a child runs: a function of a module, which is given the opened backend and the arguments.
Work = Callable[..., Awaitable[Any]]


class ChildFailed(AssertionError):
    """The work could not be done in another process, or did not end well there."""


def pickled(harness: Harness, whole: object) -> bytes:
    """``whole``, which holds a harness, for another process. Raises `ChildFailed`, with what is to be done about it."""
    try:
        return pickle.dumps(whole)
    except Exception as error:
        kind = type(harness).__name__
        raise ChildFailed(
            f"{kind} cannot be pickled, so no other process can have it ({error}): leave servers and the like "
            "to a fixture, and keep their address"
        ) from error


def in_child(lab: Lab, work: Work, *arguments: Any) -> Any:
    """Run ``work(backend, *arguments)`` in another process and return what it returns.

    Blocks until then, or until the case is over. Raises `ChildFailed`.
    """
    harness = lab.harness
    pickled(harness, harness)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(theirs, harness, work, arguments), name="headrace-conform", daemon=True)
    start(child)
    theirs.close()
    try:
        deadline = time.monotonic() + CHILD_PATIENCE
        while not ours.poll(_LOOK_EVERY):
            if lab.over.is_set() or time.monotonic() > deadline:
                raise ChildFailed(f"a child process did not end within {CHILD_PATIENCE:g} s")
        problem, answer = ours.recv()
    except EOFError as error:
        child.join()
        raise ChildFailed(f"a child process ended with the exit status {child.exitcode}") from error
    finally:
        ours.close()
        child.kill()
        child.join()
        child.close()
    if problem:
        raise ChildFailed(f"a child process raised {problem}")
    return answer


def start(child: BaseProcess) -> None:
    """Start a process that Ctrl-C does not reach: a terminal sends it to the whole group, and we end our children."""
    resource_tracker.ensure_running()  # it would be started with the first child, and would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        child.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(line: Connection, harness: Harness, work: Work, arguments: tuple[Any, ...]) -> None:
    try:
        answer = asyncio.run(_with_backend(harness, work, arguments))
    except Exception as error:
        line.send((f"{type(error).__name__}: {error}", None))
    else:
        line.send(("", answer))


async def _with_backend(harness: Harness, work: Work, arguments: tuple[Any, ...]) -> Any:
    backend: Backend = harness.backend()
    try:
        await backend.open()
        return await work(backend, *arguments)
    finally:
        await backend.close()
