"""What a backend is held to: the promises that headrace makes to its users, and the duties of the driver contract.

Every case of the kit proves a sentence of one of them. The order here is that of reports.
"""

import enum


class Promise(enum.Enum):
    """A heading of the report. The value is its title; the name is how JSON calls it, in lower case."""

    AT_LEAST_ONCE = "at least once"
    DEAD_WORKERS = "a dead worker's jobs come back within a lease"
    POISON = "a poison job takes no innocent with it"
    FAILURES = "failures are kept, with the reason"
    TIMEOUTS = "a timeout is not a failure"
    IDENTICAL = "identical jobs are separate, unless unique"
    STOPPING = "stopping loses nothing and spends nothing"
    KEEPING = "what cannot be run is kept"
    ZOMBIES = "a zombie harms nobody"
    SAME = "nothing is silently different between backends"
    ORDER = "oldest first"
    LISTENERS = "a listener never changes an outcome"
    BATCHES = "batches: one result per item"
    WAITING = "waiting: woken at once, idle at no cost"
    DELAYS = "delays: never early, oldest due first"
    CONCURRENCY = "concurrency: no delivery is shared"
    CANCELLATION = "cancellation: a call has taken effect or has not"
    CONNECTIONS = "connections: lost and found again"
    ERRORS = "errors: one family, no foreign ones"
    LOOKING = "looking: counts and listings are true"
    MOVING = "moving: reload, flush, cancel, destroy"
    SIZES = "sizes: any bytes, any length within the limit"

    @property
    def key(self) -> str:
        return self.name.lower()
