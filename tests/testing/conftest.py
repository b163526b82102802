"""What the tests of the test helpers share: one configuration, and nothing left behind."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.standin import stand_in


@pytest.fixture
def headrace_config() -> dict[str, Any]:
    """Two queues on a backend whose file would be seen if anything were sent."""
    return {"listeners": [], "queues": {"default": {"retry_seconds": 60}, "images": {"max_retries": 1}}}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert stand_in() is None
    ours = [each for each in set(threading.enumerate()) - before if each.name.startswith("headrace")]
    for thread in ours:
        thread.join(5)  # it may be on its last line
    assert not [each.name for each in ours if each.is_alive()]
