"""Running a message that has ended its worker too often: in a child process.

The worker keeps the lease and waits; if the child dies, the message's fate is decided by
one that lives (DESIGN promise 3). Owns both sides of that: `run_in_child` in the worker,
and what ``python -m headrace.suspects`` does in the child. They speak JSON lines: one
request on the child's standard input, reports on a pipe of their own.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from headrace.config import Config
from headrace.context import Current, set_current
from headrace.driver import Message, Note
from headrace.errors import Drop, JobError, Retry, UnknownJob, WorkerDied
from headrace.job import Job
from headrace.notes import note_of

if TYPE_CHECKING:
    from headrace.execution import Execution

#: The environment variable that tells the child which file descriptor its reports go to.
_REPORTS: Final = "HEADRACE_SUSPECT_REPORTS"


class Request(msgspec.Struct, frozen=True):
    """What the child is to run."""

    config: str | None
    queue: str
    message: Message


class Report(msgspec.Struct, frozen=True):
    """What the child tells of it. All but ``extend`` end it."""

    kind: Literal["extend", "done", "retry", "drop", "error", "unknown"]
    seconds: float | None = None  #: of ``extend`` and ``retry``
    reason: str = ""  #: of ``drop``
    note: Note | None = None  #: of ``error``


class NotInChild(Exception):
    """The job is not declared in the modules that the config imports; it can only run here."""


class SuspectError(JobError):
    """What a job raised in a child process; carries the note made there."""

    def __init__(self, note: Note) -> None:
        self.headrace_note = note
        super().__init__(f"{note.type}: {note.message}")


async def run_in_child(config: Config, execution: "Execution") -> None:
    """Run a delivery's job in a process of its own; raises what it raised.

    Raises `WorkerDied`, with the exit status, if the child ends without a report, and
    `NotInChild` if it does not know the job. Cancelled, it ends the child.
    """
    reading, writing = os.pipe()
    try:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace.suspects"),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(writing,),
            env={**os.environ, _REPORTS: str(writing)},
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    reports = await _reader(reading)
    try:
        assert child.stdin is not None
        source = None if config.source is None else str(config.source)
        request = Request(source, execution.queue, execution.message)
        with contextlib.suppress(ConnectionError):
            # enc_hook: headers may be any mapping.
            child.stdin.write(msgspec.json.encode(request, enc_hook=dict) + b"\n")
            await child.stdin.drain()
        final: Report | None = None
        while final is None and (line := await reports.readline()):
            report = msgspec.json.decode(line, type=Report)
            if report.kind == "extend":
                execution.extend(report.seconds or 0.0)
            else:
                final = report
        status = await child.wait() if final is None else 0
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        await asyncio.shield(child.wait())
        reports.close()
    _conclude(final, status)


def _conclude(final: Report | None, status: int) -> None:
    if final is None:
        if status < 0:
            with contextlib.suppress(ValueError):
                raise WorkerDied(f"the process that ran it was ended by {signal.Signals(-status).name} ({status})")
        raise WorkerDied(f"the process that ran it ended with exit status {status}")
    if final.kind == "retry":
        raise Retry(final.seconds)
    if final.kind == "drop":
        raise Drop(final.reason)
    if final.kind == "unknown":
        raise NotInChild
    if final.kind == "error":
        assert final.note is not None
        raise SuspectError(final.note)


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


class _ChildRun(Current):
    """What `current()` gives in the child."""

    def __init__(self, request: Request, job: Job, timeout: float, state: Any, tell: Any) -> None:
        self._message = request.message
        self._queue = request.queue
        self._job = job
        self._deadline = time.monotonic() + timeout if timeout else None
        self._state = state
        self._tell = tell

    @property
    def job(self) -> Job:
        return self._job

    @property
    def id(self) -> str:
        return self._message.id

    @property
    def attempt(self) -> int:
        return self._message.attempt

    @property
    def queue(self) -> str:
        return self._queue

    @property
    def headers(self) -> Mapping[str, str]:
        return self._message.headers

    @property
    def deadline(self) -> float | None:
        return self._deadline

    @property
    def state(self) -> Any:
        return self._state

    def extend(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline = max(self._deadline, time.monotonic() + seconds)
            self._tell(Report("extend", seconds))


async def _run(request: Request, tell: Any) -> Report:
    from headrace.app import Headrace
    from headrace.plans import Plans, load_middleware
    from headrace.worker import lifespan_of

    app = Headrace.load(request.config)
    app.load_jobs()
    settings = app.config.queue(request.queue)
    threads = ThreadPoolExecutor(1)
    try:
        plan = Plans(app, settings, load_middleware(app.config.middleware), threads).get(request.message.name)
    except UnknownJob:
        return Report("unknown")
    try:
        async with app, lifespan_of(app) as state:
            job = plan.decode(request.message.body)
            run = _ChildRun(request, job, plan.terms_of(request.message).handle_timeout, state, tell)
            set_current(run)
            if plan.invoke is None:
                await job.handle()  # type: ignore[misc]
            else:
                await plan.invoke(run, job)
    except Retry as asked:
        return Report("retry", asked.delay)
    except Drop as drop:
        return Report("drop", reason=drop.reason)
    except BaseException as error:
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
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        report = asyncio.run(_run(request, tell))
    except BaseException as error:
        report = Report("error", note=note_of(error))
    tell(report)
    # Threads of the handler must not keep a process that has said its last word.
    os._exit(0)


if __name__ == "__main__":
    main()
