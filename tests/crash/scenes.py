"""How a kill at each step is brought about, and what is then to happen. Each scene plays one cell to its end."""

import signal

from .cells import JOBS, Row
from .stage import CRASHING, PLAIN, Stage


async def play(stage: Stage) -> Row:
    """Play a cell: a kill at its step, and the recovery. What came of it."""
    if stage.cell.killed == "broker" and stage.place.forgets_the_young:
        await stage.use()
    scene = {
        "worker": _workers,
        "producer": _producer,
        "reload": _command,
        "flush": _command,
        "migrate": _migration,
        "shutdown": _shutdown,
    }[stage.step.scene]
    await scene(stage)
    await stage.until_none_is_missing()
    if not await stage.missing():
        await stage.until_empty()
    return await stage.row()


async def _workers(stage: Stage) -> None:
    """Two worker processes, of which one takes the step, or meets a broker that is gone."""
    await stage.push(range(JOBS))
    stage.start_workers(stage.faulty)
    await stage.struck()


async def _producer(stage: Stage) -> None:
    """An application that pushes. When it is killed it is started again, and repeats what was not confirmed."""
    stage.start_workers(PLAIN, 1)
    producer = stage.start_producer()
    await stage.struck()
    if stage.cell.killed == "process":
        assert await stage.ended(producer) == -signal.SIGKILL
        producer = stage.start_producer()
    assert await stage.ended(producer) == 0
    stage.confirmed = set(map(int, stage.ledger.keys("confirmed")))


async def _command(stage: Stage) -> None:
    """``headrace reload``, or ``flush`` beside jobs that are to be kept."""
    name = stage.step.scene
    doomed = range(JOBS)
    await stage.bring_to_rest(doomed, "failed")
    if name == "flush":
        stage.confirmed.clear()
        await stage.push(range(JOBS, 2 * JOBS))
    stage.start_workers(PLAIN, 1)
    arguments = ("reload", "default") if name == "reload" else ("flush", "default", "--channel", "failed", "--yes")
    await _give(stage, *arguments)
    if name == "flush":
        assert not await stage.app.queue().list("failed")


async def _migration(stage: Stage) -> None:
    """``headrace migrate``, to a queue whose worker waits."""
    await stage.push(range(JOBS))
    stage.start_workers(PLAIN, 1)
    await _give(stage, "migrate", "default", "moved", "--no-check")


async def _give(stage: Stage, *arguments: str) -> None:
    """Give a command at which the kill is, and once more if it was killed or failed."""
    command = stage.start(*arguments, config=CRASHING)
    await stage.struck()
    status = await stage.ended(command)
    if stage.cell.killed == "process":
        assert status == -signal.SIGKILL
    if status:
        assert await stage.ended(stage.start(*arguments, config=PLAIN)) == 0, stage.told()


async def _shutdown(stage: Stage) -> None:
    """A worker that is told to stop has handlers which do not end in time; another one takes its place."""
    await stage.push(range(JOBS))
    stopping = stage.start_workers(CRASHING, 1)
    await stage.until("handlers to run", lambda: len(stage.ledger.keys("began")) >= JOBS // 3)
    stopping.send_signal(signal.SIGTERM)
    await stage.struck()
    stage.start_workers(PLAIN, 1)
    await stage.ended(stopping)
