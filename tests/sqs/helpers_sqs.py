"""Short words for the tests of the SQS backend."""

from collections.abc import Callable

from words import counts as counts
from words import ids as ids
from words import message as message
from words import messages as messages
from words import pairs as pairs
from words import receipts as receipts

from headrace.driver import Delivery, Driver
from headrace_sqs.backend import SqsBackend

#: Makes backends from settings.
Make = Callable[..., SqsBackend]


async def take(driver: Driver, count: int) -> list[Delivery]:
    """Pop so many: a pop may give fewer than there are."""
    taken: list[Delivery] = []
    while len(taken) < count:
        came = await driver.pop(count - len(taken), 5)
        assert came, f"{len(taken)} came of {count}"
        taken += came
    return taken
