"""When a failed job runs again: the retry schedules. Owns no state and no clock."""

import random

from headrace.settings import Backoff, RetrySeconds


def retry_delay(schedule: RetrySeconds, attempt: int) -> float:
    """Seconds before the run that follows the failure of run number ``attempt`` (0: the first).

    A number is that delay each time; a tuple is indexed by the attempt, its last value
    repeating; a `Backoff` grows by its factor up to its maximum, less what is drawn of the
    share that its jitter sets. So jobs that failed together do not all come back together,
    those that wait for the maximum neither.
    """
    if isinstance(schedule, Backoff):
        try:
            delay = schedule.base * schedule.factor**attempt
        except OverflowError:
            delay = schedule.max
        delay = min(delay, schedule.max)
        return delay * (1 - random.uniform(0, schedule.jitter))
    if isinstance(schedule, tuple):
        return schedule[min(attempt, len(schedule) - 1)]
    return schedule
