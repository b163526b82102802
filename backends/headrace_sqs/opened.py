"""What the drivers of a backend share while it is open."""

import asyncio

from headrace_sqs.inbox import Inbox
from headrace_sqs.service import Service
from headrace_sqs.settings import SqsSettings


class Opened:
    """SQS, and an inbox for each queue and length of lease."""

    def __init__(self, settings: SqsSettings, place: str) -> None:
        self.service = Service(settings, place)
        self._inboxes: dict[tuple[str, int], Inbox] = {}

    def inbox(self, queue: str, lease: int) -> Inbox:
        key = (queue, lease)
        if key not in self._inboxes:
            self._inboxes[key] = Inbox(self.service, queue, lease)
        return self._inboxes[key]

    async def close(self) -> None:
        """Give back what nobody has taken, and disconnect."""
        await asyncio.gather(*(each.close() for each in self._inboxes.values()))
        await self.service.close()
