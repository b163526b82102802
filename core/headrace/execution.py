"""One delivery in a worker, from pop until it is settled. Data for the engine; decides nothing."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from headrace.clock import Timer
from headrace.context import Current
from headrace.driver import Delivery, Message
from headrace.job import Job
from headrace.queue import without_own_headers

if TYPE_CHECKING:
    import asyncio

    from headrace.consumer import QueueConsumer
    from headrace.plans import JobPlan, Terms


class Execution(Current):
    """One delivery, and what `current()` tells its handler of it."""

    # Most deliveries never need most of these, so their defaults stand on the class and an
    # execution costs four assignments.

    leased: float  #: when its lease was last begun or extended, on `time.monotonic`
    started = 0.0  #: when its handler started; 0 before
    ends: float | None = None  #: the deadline
    suspect = False  #: it has died too often to run beside others
    alone = False  #: a suspect that runs in this process, with nothing else in flight
    plan: "JobPlan | None" = None
    terms: "Terms | None" = None
    running_job: Job | None = None
    task: "asyncio.Task[None] | None" = None
    timer: Timer | None = None
    timed_out = False  #: moved to ``timeout`` while its handler goes on
    cancelled_for: Literal["timeout", "stop"] | None = None
    settling = False  #: a verb that ends the delivery is on its way
    lost = False  #: its lease is known to be over

    def __init__(self, consumer: "QueueConsumer", delivery: Delivery, popped: float, leased: float) -> None:
        self.consumer = consumer
        self.delivery = delivery
        self.popped = popped  #: when it came, on `time.monotonic`
        self.leased = leased

    @property
    def message(self) -> Message:
        return self.delivery.message

    @property
    def redeliveries(self) -> int:
        """Deliveries of this message that ended with their worker, as far as is known."""
        return self.delivery.message.deaths + self.delivery.count - 1

    @property
    def job(self) -> Job:
        assert self.running_job is not None
        return self.running_job

    @property
    def id(self) -> str:
        return self.delivery.message.id

    @property
    def attempt(self) -> int:
        return self.delivery.message.attempt

    @property
    def queue(self) -> str:
        return self.consumer.settings.name

    @property
    def headers(self) -> Mapping[str, str]:
        return without_own_headers(self.delivery.message.headers)

    @property
    def deadline(self) -> float | None:
        return self.ends

    @property
    def state(self) -> Any:
        return self.consumer.worker.state

    def extend(self, seconds: float) -> None:
        # The timer looks at the deadline when it fires, so this is one assignment, from any thread.
        if self.ends is not None:
            self.ends = max(self.ends, self.consumer.clock.now() + seconds)
