"""Cases that run ahead of the tests that ask for their outcomes, side by side: most of them wait most of the time.

Owns the thread that runs them and the hand-over of each outcome; `headrace.conformance.runner` runs them.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from headrace.conformance.case import Case
from headrace.conformance.harness import Harness
from headrace.conformance.outcome import Outcome
from headrace.conformance.runner import Running


class Batch:
    """Runs cases on one harness from the moment that it is made."""

    def __init__(self, harness: Harness, cases: Sequence[Case], *, at_once: int, long: bool) -> None:
        self.harness = harness
        self._outcomes: dict[str, Future[Outcome]] = {case.name: Future() for case in cases}
        self._running = Running(harness, cases, long=long, at_once=at_once, began=lambda case: None)
        self._thread = threading.Thread(target=self._run, name="headrace-conform-batch", daemon=True)
        self._thread.start()

    def outcome(self, case: Case) -> Outcome:
        """A case's outcome, as soon as it is there."""
        return self._outcomes[case.name].result()

    def close(self) -> None:
        """Start no further case, cancel those that run, and wait until they have cleaned up."""
        self._running.stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            for outcome in self._running.outcomes():
                self._outcomes[outcome.case].set_result(outcome)
        except BaseException as error:
            for each in self._outcomes.values():
                if not each.done():
                    each.set_exception(error)
