"""What the engine's tests share: apps on either embedded backend, and a record of events."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, listen
from headrace.events import Event

MakeApp = Callable[..., Headrace]


@pytest.fixture(params=["memory", "sqlite"])
def make_app(request: pytest.FixtureRequest, tmp_path: Path) -> MakeApp:
    """Make an app; keyword arguments are settings of its queue ``default``, or more of the config."""

    def make(*, queues: dict[str, Any] | None = None, top: dict[str, Any] | None = None, **settings: Any) -> Headrace:
        config: dict[str, Any] = {
            "backend": request.param,
            "listeners": [],
            "queues": queues if queues is not None else {"default": {"queue_length_seconds": 0, **settings}},
            **(top or {}),
        }
        if request.param == "sqlite":
            config["backends"] = {"sqlite": {"path": str(tmp_path / "jobs.db")}}
        return Headrace(config)

    return make


class Record:
    """Every event, in order."""

    def __init__(self, app: Headrace) -> None:
        self.events: list[Event] = []

        @listen(Event)
        def note(event: Event) -> None:
            self.events.append(event)

        app.events.add(note)

    def of(self, *types: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, types)]

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


@pytest.fixture
def record() -> Callable[[Headrace], Record]:
    """Record an app's events."""
    return Record


async def counts(app: Headrace, queue: str = "default") -> dict[str, int | None]:
    """The channels that hold something."""
    info = await app.queue(queue).info()
    named = {name: getattr(info, name) for name in ("waiting", "reserved", "delayed", "failed", "timeout")}
    return {name: count for name, count in named.items() if count}
