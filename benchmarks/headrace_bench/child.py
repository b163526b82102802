"""The program of the suite's processes: reads one task, does it, leaves its answer.

Started by `headrace_bench.process`. It ends with whoever started it.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

import msgspec

from headrace.driver import Backend, Capabilities
from headrace.errors import HeadraceError
from headrace.events import WorkerStarted, listen
from headrace.redaction import mask
from headrace_bench import jobs
from headrace_bench.crew import signal_ready
from headrace_bench.results import Run
from headrace_bench.scenario import Traits, Unsuitable
from headrace_bench.scenarios import find
from headrace_bench.sizes import SIZES
from headrace_bench.stage import Lost, Stage
from headrace_bench.tally import Tally
from headrace_bench.tasks import Answer, Do, Done, Failed, Found, Look, Serve, Task, Unfit, write_answer

#: Seconds after which a backend that does not open counts as out of reach.
_OPENING: Final = 10.0


def main() -> int:
    """Do the task that comes on stdin."""
    # Ctrl-C reaches every process of a terminal; who started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = sys.stdin.buffer.readline()
    threading.Thread(target=_end_with_starter, daemon=True).start()
    _write_logs_nowhere()
    task: Task = msgspec.json.decode(line, type=Task)
    if isinstance(task, Serve):
        asyncio.run(_serve(task))
        return 0
    try:
        answer: Answer = asyncio.run(_look(task) if isinstance(task, Look) else _do(task))
    except Unsuitable as reason:
        answer = Unfit(str(reason))
    except Exception as error:
        answer = Failed(_told(error))
    write_answer(task.folder, answer)
    return 0


def _end_with_starter() -> None:
    # Not by sys.stdin, whose lock an interpreter that ends would want to have.
    while os.read(0, 1):
        pass
    os._exit(1)


def _write_logs_nowhere() -> None:
    """Let a line of log cost what it costs a worker, without anybody having to read it."""
    logger = logging.getLogger("headrace")
    handler = logging.FileHandler(os.devnull)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _told(error: BaseException) -> str:
    """An exception in a line, without secrets."""
    text = mask(" ".join(str(error).split()))
    if isinstance(error, HeadraceError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


async def _do(task: Do) -> Answer:
    scenario = find(task.scenario)
    stage = Stage(task.seat, Path(task.folder), SIZES[task.size])
    try:
        run = await (scenario.run_bare if task.seat.bare else scenario.run)(stage, task.parameters)
    except Lost as error:
        return Done(Run(round=0, jobs=error.total, lost=error.count, error=str(error)))
    return Done(run)


async def _serve(task: Serve) -> None:
    app = task.seat.app(task.prefix, task.settings)

    @listen(WorkerStarted)
    def tell(event: WorkerStarted) -> None:
        signal_ready(task.folder)

    app.events.add(tell)
    with Tally(Path(task.folder), task.total) as tally:
        jobs.count_in(tally)
        worker = app.worker(concurrency=task.concurrency)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


async def _look(task: Look) -> Answer:
    if task.seat.bare:
        baseline = task.seat.make_baseline("headrace-bench-look")
        return Found(
            traits=Traits(bare=True),
            versions=dict(baseline.versions),
            place="",
            durability="",
            guarantee=baseline.guarantee,
            lacks=[],
            about=baseline.about,
        )
    backend = task.seat.make_backend()
    try:
        async with asyncio.timeout(_OPENING):
            await backend.open()
    except (HeadraceError, TimeoutError) as error:
        with contextlib.suppress(Exception):
            await backend.close()
        return Unfit(_told(error) if str(error) else f"it did not open within {_OPENING:g} s")
    try:
        return await _found(backend)
    finally:
        await backend.close()


async def _found(backend: Backend) -> Found:
    can = backend.capabilities
    return Found(
        traits=Traits.of(can),
        versions=dict(backend.versions),
        place=backend.place,
        durability="outlives every process of ours" if can.durable else "ends with its process",
        checks=list(await backend.check()),
        guarantee="at least once" if can.durable else "at least once, while the process lives",
        lacks=_lacks(can),
    )


def _lacks(can: Capabilities) -> list[str]:
    """What somebody who chooses might miss, in words."""
    found = {
        "outlive its process": can.durable,
        "be shared by processes": can.shared,
        "keep order": can.ordered,
        "keep one of identical jobs (unique)": can.unique,
        "recognize a push that is repeated (idempotent)": can.idempotent,
        "cancel": can.cancel,
        "show what waits (peek)": "waiting" in can.peek,
        "show what failed (peek)": "failed" in can.peek,
        "reload or delete chosen messages (selective)": "failed" in can.selective,
        "count exactly": can.counts == "exact",
        "serve many queues in order by waiting (wait_ready)": can.wait_ready,
    }
    return [what for what, able in found.items() if not able]


if __name__ == "__main__":
    sys.exit(main())
