"""A plugin that was written for a version of the contract that is not there yet."""

from headrace.driver import Backend, Capabilities, Driver
from headrace.plugin import BackendOptions, hookimpl


class FutureBackend(Backend):
    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            contract=2,
            durable=True,
            shared=True,
            ordered=True,
            leases="timed",
            counts="exact",
            max_batch=100,
        )

    @property
    def place(self) -> str:
        return "the future"

    async def open(self) -> None:
        raise RuntimeError("opened")

    async def close(self) -> None:
        raise RuntimeError("closed")

    def clone(self) -> Backend:
        raise RuntimeError("cloned")

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> Driver:
        raise RuntimeError("used")


@hookimpl
def headrace_backend(options: BackendOptions) -> Backend:
    return FutureBackend()
