"""Running a message that has ended its worker too often: in a child process.

The worker keeps the lease and waits; if the child dies, the message's fate is decided by
one that lives (DESIGN promise 3). Owns both sides of that: `run_in_child` in the worker,
and what ``python -m headrace.suspects`` does in the child. They speak JSON lines: one
request on the child's standard input, reports on a pipe of their own.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import msgspec

from headrace.config import Config
from headrace.context import set_current
from headrace.detached import DetachedRun
from headrace.driver import Message, Note
from headrace.errors import Drop, JobError, Retry, WorkerDied
from headrace.job import Job
from headrace.logs import LogFormat, format_in_use, log_to_stderr, log_what_nobody_catches
from headrace.notes import note_of

if TYPE_CHECKING:
    from headrace.execution import Execution

logger = logging.getLogger("headrace")

#: The environment variable that tells the child which file descriptor its reports go to.
_REPORTS: Final = "HEADRACE_SUSPECT_REPORTS"
#: Seconds for a child to import, to enter the lifespan and to start its handler: as for a worker process
#: that is to take over from another. Its worker has done the same before, so that it can be done.
START_SECONDS: Final = 60.0
#: Seconds for what a child that has ended had written before.
_LAST_WORDS_SECONDS: Final = 1.0
#: Seconds for a child to end once nobody can hear it any more.
_END_SECONDS: Final = 5.0


class Request(msgspec.Struct, frozen=True):
    """What the child is to run."""

    config: str | None
    queue: str
    message: Message
    log_level: str
    log_format: LogFormat


class Report(msgspec.Struct, frozen=True):
    """What the child tells of it. All but ``started`` and ``extend`` end it."""

    kind: Literal["started", "extend", "done", "retry", "drop", "error", "unknown"]
    seconds: float | None = None  #: of ``extend`` and ``retry``
    reason: str = ""  #: of ``drop`` and ``unknown``
    note: Note | None = None  #: of ``error``


class NotInChild(Exception):
    """The child could not get as far as the job: it is declared only here, say. It can only run here."""


class SuspectError(JobError):
    """What a job raised in a child process; carries the note made there."""

    def __init__(self, note: Note) -> None:
        self.headrace_note = note
        super().__init__(f"{note.type}: {note.message}")

    def __repr__(self) -> str:
        return f"{self.headrace_note.type}({self.headrace_note.message!r})"


async def run_in_child(config: Config, execution: "Execution", started: "Callable[[Execution], None]") -> None:
    """Run a delivery's job in a process of its own; raises what it raised.

    ``started`` is called when the handler is about to. Raises `WorkerDied`, with the exit
    status, if the child ends without a report, and `NotInChild` if it could not get as far
    as the job, or not in time. Cancelled, it ends the child.
    """
    try:
        reading, writing = os.pipe()
    except OSError as error:
        raise NotInChild(f"no pipe could be had: {error}") from error
    try:
        child = await asyncio.create_subprocess_exec(
            # As for worker processes: the working directory is no place to import from.
            *(sys.executable, "-P", "-m", "headrace.suspects"),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(writing,),
            env={**os.environ, _REPORTS: str(writing)},
            # So that a job which kills its process group does not reach the worker.
            start_new_session=True,
        )
    except OSError as error:
        os.close(reading)
        raise NotInChild(f"no process could be started: {error}") from error
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    ended = asyncio.ensure_future(child.wait())
    try:
        limit = asyncio.timeout(START_SECONDS)
        try:
            async with limit:

                def begins(execution: "Execution") -> None:
                    limit.reschedule(None)
                    started(execution)

                final = await _talk(child, reading, _request(config, execution), execution, begins, ended)
        except TimeoutError as error:
            if not limit.expired():
                raise
            # No handler has run, so nothing speaks against this message more than before: no `WorkerDied`.
            # Where it runs next, that of a worker which has got as far, it ends or counts one more death.
            raise NotInChild(f"it had not got as far as the job within {START_SECONDS:g} s") from error
        if final is None:
            # It may have closed its line, and live on without a way to tell how it ends.
            await asyncio.wait((ended,), timeout=_END_SECONDS)
            if not ended.done():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
            _conclude_death(await ended)
        else:
            _conclude(final)
    finally:
        if not ended.done():
            with contextlib.suppress(ProcessLookupError):
                # Not by asyncio, which on 3.11 may so lose the exit status.
                os.kill(child.pid, signal.SIGKILL)
        await asyncio.shield(ended)


def _request(config: Config, execution: "Execution") -> bytes:
    level = logging.getLevelName(logger.getEffectiveLevel()).lower()
    source = None if config.source is None else str(config.source)
    # enc_hook: headers may be any mapping.
    request = Request(source, execution.queue, execution.message, level, format_in_use())
    return msgspec.json.encode(request, enc_hook=dict) + b"\n"


async def _talk(
    child: asyncio.subprocess.Process,
    reading: int,
    request: bytes,
    execution: "Execution",
    started: "Callable[[Execution], None]",
    ended: "asyncio.Future[int]",
) -> Report | None:
    """Send the request and hear the reports; the last one, ``None`` if the child ended without."""
    reports = await _reader(reading)
    try:
        assert child.stdin is not None
        with contextlib.suppress(ConnectionError):
            child.stdin.write(request)
            await child.stdin.drain()
        while True:
            line = asyncio.ensure_future(reports.readline())
            # A process that the handler forked may hold the pipe open: the child's own end counts too.
            await asyncio.wait((line, ended), return_when=asyncio.FIRST_COMPLETED)
            if not line.done():
                # What it said last has been written, and may only now be here.
                await asyncio.wait((line,), timeout=_LAST_WORDS_SECONDS)
            if not line.done() or not line.result():
                line.cancel()
                return None
            report = msgspec.json.decode(line.result(), type=Report)
            if report.kind == "started":
                started(execution)
            elif report.kind == "extend":
                execution.extend(report.seconds or 0.0)
            else:
                return report
    finally:
        reports.close()


class _InChild(Exception):
    """Shows, as a cause, the traceback of the process where an error happened; as `concurrent.futures` does."""

    def __init__(self, trace: str) -> None:
        super().__init__(f"\n\n{trace}")


def _conclude_death(status: int) -> NoReturn:
    if status < 0:
        with contextlib.suppress(ValueError):
            raise WorkerDied(f"the process that ran it was ended by {signal.Signals(-status).name} ({status})")
    raise WorkerDied(f"the process that ran it ended with exit status {status}")


def _conclude(final: Report) -> None:
    if final.kind == "retry":
        raise Retry(final.seconds)
    if final.kind == "drop":
        raise Drop(final.reason)
    if final.kind == "unknown":
        raise NotInChild(final.reason)
    if final.kind == "error":
        assert final.note is not None
        raise SuspectError(final.note) from _InChild(final.note.traceback)


class _Lines:
    """Lines from a pipe, on the event loop."""

    def __init__(self, stream: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self.readline = stream.readline
        self.close = transport.close


async def _reader(descriptor: int) -> _Lines:
    loop = asyncio.get_running_loop()
    #: A report holds a note of 16 KiB at most; JSON may escape each byte of it into six.
    stream = asyncio.StreamReader(limit=256 * 1024)
    pipe = os.fdopen(descriptor, "rb", 0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
    return _Lines(stream, transport)


# The child


class _ChildRun(DetachedRun):
    """What `current()` gives in the child: its worker, which keeps the lease, is told of more time."""

    def __init__(self, request: Request, job: Job, handle_timeout: float, state: Any, tell: Any) -> None:
        super().__init__(request.message, request.queue, job, handle_timeout, state)
        self._tell = tell

    def extend(self, seconds: float) -> None:
        super().extend(seconds)
        if self.deadline is not None:
            self._tell(Report("extend", seconds))


async def _run(request: Request, tell: Any) -> Report:
    from headrace.app import Headrace
    from headrace.lifespan import lifespan_of
    from headrace.plans import Plans, load_middleware
    from headrace.threads import Threads

    try:
        app = Headrace.load(request.config)
        app.load_jobs()
        settings = app.config.queue(request.queue)
        middleware = load_middleware(app.config.middleware)
        plan = Plans(app, settings, middleware, Threads(1, "headrace-job")).get(request.message.name)
        job = plan.decode(request.message.body)
        terms = plan.terms_of(request.message)
    except Exception as error:
        # Nothing of the job has run: its worker, which has decoded it, can do better.
        return Report("unknown", reason=repr(error))
    begun = False
    try:
        async with app, lifespan_of(app) as state:
            run = _ChildRun(request, job, terms.handle_timeout, state, tell)
            set_current(run)
            tell(Report("started"))
            begun = True
            if plan.invoke is None:
                await job.handle()  # type: ignore[misc]
            else:
                await plan.invoke(run, job)
    except Retry as asked:
        return Report("retry", asked.delay)
    except Drop as drop:
        return Report("drop", reason=drop.reason)
    except BaseException as error:
        if not begun:
            return Report("unknown", reason=repr(error))
        return Report("error", note=note_of(error))
    return Report("done")


def _end_with_parent() -> None:
    """End this process when its worker is gone: the message will be run elsewhere."""
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """Run one request from standard input and report on the descriptor that the environment names."""
    descriptor = int(os.environ.pop(_REPORTS))
    os.set_inheritable(descriptor, False)

    def tell(report: Report) -> None:
        os.write(descriptor, msgspec.json.encode(report) + b"\n")

    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=Request)
    # Its worker's lines, though another process writes them.
    log_to_stderr(request.log_level, request.log_format, worker=f"{socket.gethostname()}:{os.getppid()}")
    log_what_nobody_catches()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        report = asyncio.run(_run(request, tell))
    except BaseException as error:
        report = Report("error", note=note_of(error))
    tell(report)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of the handler must not keep a process that has said its last word.
    os._exit(0)


if __name__ == "__main__":
    main()
