"""How often a worker asks that has nothing to do."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import headrace_memory.backend
from headrace import Headrace
from headrace.driver import Delivery
from headrace_memory.backend import CAPABILITIES
from headrace_memory.driver import MemoryDriver


@pytest.mark.parametrize(("settings", "expected"), [({}, 0.03), ({"pop_timeout": 0.01}, 0.01)])
async def test_a_pop_waits_as_long_as_suits_the_backend_unless_configured(
    settings: dict[str, Any], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    pop = MemoryDriver.pop

    async def noted(self: MemoryDriver, limit: int, wait: float) -> Sequence[Delivery]:
        waits.append(wait)
        return await pop(self, limit, wait)

    monkeypatch.setattr(MemoryDriver, "pop", noted)
    monkeypatch.setattr(headrace_memory.backend, "CAPABILITIES", replace(CAPABILITIES, pop_timeout=0.03))
    async with Headrace({"backend": "memory", "listeners": [], "queues": {"default": settings}}) as app:
        worker = app.worker()
        running = asyncio.create_task(worker.run())
        while len(waits) < 3:
            await asyncio.sleep(0.01)
        worker.stop()
        await running
    assert set(waits) == {expected}
