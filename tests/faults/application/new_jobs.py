"""The same application after it: one job has a field more, and another one is new."""

from fault_jobs import Noting


class Invoice(Noting, name="faults.Invoice"):
    currency: str = "EUR"

    async def handle(self) -> None:
        self.note("ran by the new")


class Reminder(Noting, name="faults.Reminder"):
    async def handle(self) -> None:
        self.note("ran by the new")
