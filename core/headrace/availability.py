"""Going on while a backend is out of reach: tries again, and says so once.

Owns the backoff between tries, which each caller has for itself, and the knowledge that the
backend is lost, which they share: it is lost with the first caller that gets no answer,
and back when the last of those has one.
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
#: Seconds of rest after which a failure no longer belongs to the ones before it: nobody has
#: asked meanwhile. Above what `Caller.pause` takes, on a loop that handlers keep busy too.
_REST: Final = 10.0


class Availability:
    """Whether one backend answers, as its worker sees it."""

    def __init__(self, on_lost: Callable[[BaseException], None], on_back: Callable[[float], None]) -> None:
        self._on_lost = on_lost
        self._on_back = on_back
        self._callers: list[Caller] = []
        self._unanswered: set[Caller] = set()
        self._lost_at = 0.0

    def caller(self, what: str) -> "Caller":
        """One who calls the backend again and again; ``what`` is for the log."""
        caller = Caller(self, what)
        self._callers.append(caller)
        return caller

    def refuse_after(self, seconds: float, backend: str) -> None:
        """Raise `BackendError` if some caller has been calling in vain for so long; ``backend`` is for people."""
        longest = max(self._callers, key=lambda each: each.in_vain)
        if longest.in_vain >= seconds:
            told = f"for {longest.in_vain:.3g} s, so that its queues may not be empty: {longest.error}"
            if isinstance(longest.error, BackendUnavailable):
                raise BackendUnavailable(f"{backend} was out of reach {told}") from longest.error
            raise BackendError(f"{backend} refused {told}") from longest.error

    def went_unanswered(self, caller: "Caller", error: BaseException) -> None:
        """A caller found the backend out of reach."""
        if not self._unanswered:
            self._lost_at = time.monotonic()
            self._on_lost(error)
        self._unanswered.add(caller)

    def answered(self, caller: "Caller") -> None:
        """A caller got an answer after it had got none."""
        if caller in self._unanswered:
            self._unanswered.remove(caller)
            if not self._unanswered:
                self._on_back(time.monotonic() - self._lost_at)


class Caller:
    """Calls one verb of a backend, with a backoff of its own."""

    def __init__(self, availability: Availability, what: str) -> None:
        self._availability = availability
        self._what = what
        self._tries = 0
        self._asking = 0
        self._failing_since = 0.0
        self._failed_at = 0.0
        self.error: Exception | None = None  #: of the last call, while that failed
        self.retry_at = 0.0  #: on `time.monotonic`; nobody should call before it

    @property
    def ready(self) -> bool:
        """Whether it is time to call."""
        return not self._tries or time.monotonic() >= self.retry_at

    @property
    def in_vain(self) -> float:
        """Seconds for which each call failed, one soon after the other, and which goes on; else 0."""
        rests = not self._asking and time.monotonic() - self._failed_at > _REST
        return 0.0 if rests or not self._tries else self._failed_at - self._failing_since

    async def ask(self, call: Awaitable[T], seconds: float = 0.0, *, again: bool = True) -> T:
        """One call, which may rightly take ``seconds``. What it raises is noted, and raised on.

        ``again``: what is refused will be asked again, and is logged, once; else the caller tells of it.
        """
        silence = asyncio.timeout(seconds + _SILENCE)
        began = time.monotonic()
        if not self._tries or began - self._failed_at > _REST:
            self._failing_since = began
        self._asking += 1
        try:
            async with silence:
                answer = await call
        except TimeoutError as error:
            if not silence.expired():
                self.failed(error)
                raise
            unavailable = BackendUnavailable(f"{self._what}: no answer within {seconds + _SILENCE:g} s")
            self.failed(unavailable)
            raise unavailable from None
        except Exception as error:
            if again or isinstance(error, BackendUnavailable):
                self.failed(error)
            raise
        finally:
            self._asking -= 1
        if self._tries:
            self._tries = 0
            self.error = None
            self._availability.answered(self)
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
                await self.pause()

    async def pause(self) -> None:
        """Wait until it is time to call again."""
        await asyncio.sleep(max(0.0, self.retry_at - time.monotonic()))

    def failed(self, error: Exception) -> None:
        """Note that a call, or one item of it, was not done."""
        now = time.monotonic()
        longest = min(_LONGEST, _FIRST * 2 ** min(self._tries, 10))
        # Jitter over the upper half: workers that lost one server do not come back as one.
        self.retry_at = now + random.uniform(longest / 2, longest)
        self._tries += 1
        self._failed_at, self.error = now, error
        if isinstance(error, BackendUnavailable):
            self._availability.went_unanswered(self, error)
        elif self._tries == 1:
            # A backend's own error says all; of any other, where it came from is half of the story.
            origin = None if isinstance(error, BackendError) else error
            logger.error("%s is refused, and tried again: %s", self._what, error, exc_info=origin)
