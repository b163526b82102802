"""An application before a deployment."""

from fault_jobs import Noting


class Invoice(Noting, name="faults.Invoice"):
    async def handle(self) -> None:
        self.note("ran by the old")
