"""Going on while a backend is out of reach: tries again, and says so once.

Owns the backoff between tries and the knowledge that the backend is lost.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from headrace.errors import BackendError, BackendUnavailable

logger = logging.getLogger("headrace")

T = TypeVar("T")

#: Seconds before the second try: a broken connection usually heals at once.
_FIRST: Final = 0.05
#: Longest seconds between tries: a worker is back within this of its backend.
_LONGEST: Final = 3.0
#: Seconds without an answer, beyond what a call may rightly take, after which it counts as
#: lost: a driver that waits for a black hole must not leave its worker alive but idle.
_SILENCE: Final = 30.0


class Availability:
    """Whether one backend answers, as its worker sees it. Shared by all that call that backend."""

    def __init__(self, on_lost: Callable[[BaseException], None], on_back: Callable[[float], None]) -> None:
        self._on_lost = on_lost
        self._on_back = on_back
        self._lost_at: float | None = None
        self._tries = 0
        self.retry_at = 0.0  #: on `time.monotonic`; before it, nobody should call

    async def ask(self, call: Awaitable[T], seconds: float = 0.0) -> T:
        """One call, which may rightly take ``seconds``. What it raises is counted, and raised on."""
        try:
            async with asyncio.timeout(seconds + _SILENCE) as silence:
                answer = await call
        except Exception as error:
            if isinstance(error, TimeoutError) and silence.expired():
                error = BackendUnavailable(f"no answer within {seconds + _SILENCE:g} s")
            self._note_loss(error)
            raise error from None
        if self._tries:
            self._note_answer()
        return answer

    async def insist(self, call: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """Call until there is an answer: that, and whether an earlier try may have taken effect.

        Ends only with an answer or by cancellation.
        """
        repeated = False
        while True:
            try:
                return await self.ask(call()), repeated
            except Exception:
                repeated = True
                await asyncio.sleep(max(0.0, self.retry_at - time.monotonic()))

    def _note_loss(self, error: Exception) -> None:
        now = time.monotonic()
        if now >= self.retry_at:
            longest = min(_LONGEST, _FIRST * 2 ** min(self._tries, 10))
            # Jitter over the upper half: workers that lost one server do not come back as one.
            self.retry_at = now + random.uniform(longest / 2, longest)
            self._tries += 1
        if self._lost_at is None:
            self._lost_at = now
            if not isinstance(error, BackendError):
                logger.error("a driver raised what it should not", exc_info=error)
            self._on_lost(error)

    def _note_answer(self) -> None:
        self._tries, self.retry_at = 0, 0.0
        if self._lost_at is not None:
            seconds, self._lost_at = time.monotonic() - self._lost_at, None
            self._on_back(seconds)
