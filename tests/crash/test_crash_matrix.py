"""Whatever dies at whatever step: nothing is lost, and what a dead worker held is back within a lease.

The short form runs with the other tests, a few cells of each backend; ``tox -e crash`` runs them all and makes the
table.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from places import Place

from .cells import LEASE, POP_TIMEOUT, Cell, Row, cells
from .scenes import play
from .stage import Stage

LONG = "HEADRACE_TEST_LONG" in os.environ

#: Cells of the short form.
SHORT: Final = frozenset(
    {
        "sqlite-process-after-pop",
        "sqlite-process-before-reload",
        "redis-broker-after-retry",
        "rabbitmq-process-before-ack",
        "sqs-process-end-handler",
    }
)

#: Seconds that recovery may take beyond the lease and a ``pop_timeout``: a new process starts, a worker that lost its
#: broker tries again after 3 at the latest, and the jobs themselves take their time, all on a busy machine.
MARGIN: Final = 15.0


def chosen() -> list[Cell]:
    return [cell for cell in cells() if LONG or str(cell) in SHORT]


@pytest.mark.parametrize(
    # With `--dist loadgroup`, cells that share a server are played one after another, and others beside them.
    "cell",
    [
        pytest.param(each, marks=pytest.mark.xdist_group(f"{each.backend} {each.killed}"), id=str(each))
        for each in chosen()
    ],
)
async def test_a_kill_at_any_step_loses_nothing(
    tmp_path: Path, cell: Cell, place_of: Callable[[Cell], Place], tell: Callable[[Row], None]
) -> None:
    async with Stage(tmp_path, place_of(cell), cell) as stage:
        row = await play(stage)
        tell(row)
        assert row.pushed
        assert row.executed == row.pushed
        assert row.lost == 0, stage.told()
        assert row.seconds <= LEASE + POP_TIMEOUT + MARGIN, stage.told()
