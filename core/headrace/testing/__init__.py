"""Helpers for the tests of code that pushes and runs jobs.

`fake` records pushes instead of sending them, and can run what was recorded; `inline` runs each job
where it is pushed; `app` gives any configuration queues in memory, on a `FakeClock` that a test moves.
As pytest fixtures they come by themselves: ``headrace_fake``, ``headrace_inline``, ``headrace_app``
and ``headrace_clock``.
"""

from headrace.testing.apps import MemoryApp, app
from headrace.testing.clock import FakeClock
from headrace.testing.fake import Fake, fake
from headrace.testing.inline import inline
from headrace.testing.outcomes import Ran, Run
from headrace.testing.records import Pushed

__all__ = ["Fake", "FakeClock", "MemoryApp", "Pushed", "Ran", "Run", "app", "fake", "inline"]
