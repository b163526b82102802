"""Whether the event loop of a connection was held up, and what that means for the connection.

Without our heartbeats the broker ends it. Whoever is back on the loop and sends at once does not
know of that yet: the end has come in, and nobody has read it.
"""

import asyncio
from typing import Final

#: Looks in the time of a heartbeat. Two that were missed are a loop that was held up.
_LOOKS: Final = 4

#: Seconds that a loop which was held up gets to read what came meanwhile.
READ: Final = 0.05


class Pulse:
    """Belongs to the event loop that it looks at."""

    def __init__(self, heartbeat: float) -> None:
        self._interval = heartbeat / _LOOKS
        self._timer: asyncio.TimerHandle | None = None
        self._looked = 0.0
        self._read_by = 0.0

    def start(self) -> None:
        """Begin anew: there is a connection."""
        self.stop()
        self._looked = asyncio.get_running_loop().time()
        self._look()

    def stop(self) -> None:
        """There is none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self.unread()
        loop = asyncio.get_running_loop()
        self._looked = loop.time()
        self._timer = loop.call_later(self._interval, self._look)

    def unread(self) -> float:
        """Seconds until what came while the loop was held up has been read; not above 0 if it was not."""
        now = asyncio.get_running_loop().time()
        if now - self._looked > 2 * self._interval:
            self._looked, self._read_by = now, now + READ
        return self._read_by - now
