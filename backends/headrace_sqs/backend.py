"""The SQS backend: what it can do, what its drivers share while it is open, and what may go wrong later."""

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

from headrace.driver import ALL_CHANNELS, CONTRACT, Backend, Capabilities
from headrace.errors import BackendUnavailable
from headrace_sqs.codec import LARGEST, RESERVE
from headrace_sqs.driver import RESTING, SqsDriver
from headrace_sqs.names import Register
from headrace_sqs.opened import Opened
from headrace_sqs.receipts import LONGEST_LEASE
from headrace_sqs.settings import SqsSettings

CAPABILITIES: Final = Capabilities(
    contract=CONTRACT,
    durable=True,
    shared=True,
    ordered=False,
    leases="timed",
    counts="approximate",
    max_batch=40,  # as many tens as go out side by side: a larger batch would wait for its slowest request
    granularity=1.0,
    max_delay=float(10 * 365 * 24 * 3600),  # ten years, by hops of our own: SQS itself waits for 15 minutes
    max_run=float(LONGEST_LEASE),
    max_run_hint="a limit of SQS: split the job",
    pop_timeout=20.0,  # the longest that one request can wait, and each is billed
    max_body=LARGEST - RESERVE,
    peek=frozenset(RESTING),
    selective=frozenset(RESTING),
    flush=frozenset({"waiting", *RESTING}),
    store=True,
    lend=ALL_CHANNELS - {"reserved"},
)


class SqsBackend(Backend):
    """Queues of one account and region, or of another server that speaks SQS's protocol."""

    def __init__(self, settings: SqsSettings) -> None:
        self._settings = settings
        self._register = Register(settings.queue_name_prefix)
        self._open: Opened | None = None

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def place(self) -> str:
        return self._settings.endpoint_url or self._settings.region or "the region that boto3 finds"

    @property
    def versions(self) -> Mapping[str, str]:
        return {"boto3": version("boto3")}

    @property
    def requests(self) -> Counter[str]:
        """How many requests were sent since it was opened, by operation; each is billed."""
        return Counter(self._opened().service.calls.requests)

    def clone(self) -> "SqsBackend":
        return SqsBackend(self._settings)

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> SqsDriver:
        return SqsDriver(self._opened, self._register.enter(prefix), lease_seconds)

    def _opened(self) -> Opened:
        if self._open is None:
            raise BackendUnavailable(f"SQS at {self.place} is not open")
        return self._open

    async def open(self) -> None:
        opened = self._open = Opened(self._settings, f"SQS at {self.place}")
        try:
            await opened.service.calls.open()
        except BaseException:
            self._open = None
            await opened.close()
            raise

    async def close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            await opened.close()

    async def check(self) -> list[str]:
        """Look at the queues that drivers were made for."""
        queues = self._opened().service.queues
        return [
            warning
            for names in self._register.names.values()
            for name in names.all()
            for warning in await queues.warnings(name)
        ]
