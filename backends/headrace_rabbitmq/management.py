"""What only the broker's management plugin tells, over HTTP: what is reserved, and how a queue was declared."""

import asyncio
import base64
import http.client
import json
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from headrace_rabbitmq.connections.place import Place

#: Seconds for one question: its figures are some seconds old anyway.
_SECONDS: Final = 3.0

#: What can go wrong on the way to it and back.
_FAILURES: Final = (OSError, ValueError, http.client.HTTPException)

#: Asks it directly: a proxy that the environment names has no business with the credentials.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))

#: What a node tells of itself, in words.
_ALARMS: Final = {"mem_alarm": "memory", "disk_free_alarm": "disk"}


@dataclass(frozen=True, slots=True)
class Management:
    """The plugin's address, and who we are there."""

    url: str
    vhost: str
    authorization: str = field(repr=False)

    @classmethod
    def parse(cls, url: str, place: Place) -> "Management":
        """Raises `ValueError` that shows no secret."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it is no URL of the form http://host:15672; in a password, write %2F for / and %40 for @")
        username = unquote(parts.username) if parts.username else place.username
        password = unquote(parts.password) if parts.password else place.password
        credentials = base64.b64encode(f"{username}:{password}".encode()).decode()
        _, _, host = parts.netloc.rpartition("@")
        return cls(f"{parts.scheme}://{host}{parts.path.rstrip('/')}", place.vhost, f"Basic {credentials}")

    async def reserved(self, queue: str) -> int | None:
        """How many messages are in somebody's hands; ``None`` if it does not tell."""
        count = (await self._queue(queue)).get("messages_unacknowledged")
        return count if isinstance(count, int) else None

    async def arguments(self, queue: str) -> dict[str, Any] | None:
        """The arguments that a queue was declared with; ``None`` if it does not tell."""
        arguments = (await self._queue(queue)).get("arguments")
        return arguments if isinstance(arguments, dict) else None

    async def check(self) -> list[str]:
        """What may go wrong with it, or is going wrong in the broker; one line each."""
        try:
            nodes = await asyncio.to_thread(self._get, "/api/nodes")
        except _FAILURES as error:
            return [f"management_url {self.url} does not answer, so reserved messages are not counted: {error}"]
        return [
            f"the broker's node {node.get('name')} is short of {what} and takes no messages"
            for node in nodes
            for alarm, what in _ALARMS.items()
            if node.get(alarm)
        ]

    async def _queue(self, queue: str) -> dict[str, Any]:
        path = f"/api/queues/{quote(self.vhost, safe='')}/{quote(queue, safe='')}"
        try:
            found = await asyncio.to_thread(self._get, path)
        except _FAILURES:  # refused and silent are among them; what is unknown stays unknown
            return {}
        return found if isinstance(found, dict) else {}

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(self.url + path, headers={"Authorization": self.authorization})
        with _OPENER.open(request, timeout=_SECONDS) as answer:
            return json.load(answer)
