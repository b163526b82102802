"""What became of a case, in a form for people and for programs."""

from typing import Literal

import msgspec

from headrace.conformance.case import Case

Status = Literal["passed", "failed", "skipped"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One case's result. The field names are those of the JSON report."""

    case: str
    promise: str  #: `Promise.key`
    sentence: str
    status: Status
    seconds: float = 0.0
    reason: str | None = None  #: why it was skipped, or in short why it failed
    expected: str | None = None
    found: str | None = None
    calls: list[str] = []  #: of a failed case: what was asked and answered, with seconds since its start
    details: str | None = None  #: of a failed case: where in the code, if that is not told by the rest

    def told(self) -> str:
        """A failure as a report shows it: promise, calls, expected, found."""
        lines = [f"{self.case}: {self.reason}", f"  it proves: {self.sentence}", f"  of the promise: {self.promise}"]
        if self.calls:
            lines += ["  calls, and seconds since the start:", *(f"    {call}" for call in self.calls)]
        if self.expected is not None:
            lines += [f"  expected: {self.expected}", f"  found:    {self.found}"]
        if self.details:
            lines += ["  where:", *(f"    {line}" for line in self.details.splitlines())]
        return "\n".join(lines)


def skipped(case: Case, reason: str) -> Outcome:
    return Outcome(case=case.name, promise=case.promise.value, sentence=case.sentence, status="skipped", reason=reason)
