"""What became of a case, in a form for people and for programs."""

from typing import Literal

import msgspec

from headrace.conformance.promises import Promise

Status = Literal["passed", "failed", "skipped"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One case's result. The field names are those of the JSON report."""

    case: str
    promise: str  #: `Promise.key`
    sentence: str
    status: Status
    seconds: float = 0.0
    needs: list[str] = []  #: the capabilities that it proves something of
    lacks: list[str] = []  #: those of which it proves that they are rightly not claimed
    reason: str | None = None  #: why it was skipped, or in short why it failed
    expected: str | None = None
    found: str | None = None
    calls: list[str] = []  #: of a failed case: what was asked and answered, with seconds since its start
    details: str | None = None  #: of a failed case: where in the code, if that is not told by the rest

    def told(self) -> str:
        """A failure as a report shows it: promise, calls, expected, found."""
        title = Promise[self.promise.upper()].value
        lines = [f"{self.case}: {self.reason}", f"  promise:  {title}", f"  sentence: {self.sentence}"]
        if self.calls:
            lines += ["  calls, after so many seconds:", *(f"    {call}" for call in self.calls)]
        if self.expected is not None:
            lines += [f"  expected: {self.expected}", f"  found:    {self.found}"]
        if self.details:
            lines += ["  where:", *(f"  {line}" for line in self.details.splitlines())]
        return "\n".join(lines)
