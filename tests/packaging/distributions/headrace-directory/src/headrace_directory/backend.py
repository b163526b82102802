"""The ``directory`` backend: what it can do, and the directory that its drivers share."""

from pathlib import Path

from headrace.driver import ALL_CHANNELS, Backend, Capabilities

from headrace_directory.driver import DirectoryDriver
from headrace_directory.place import Place

CAPABILITIES = Capabilities(
    contract=1,
    durable=True,
    shared=True,
    ordered=True,
    leases="timed",
    counts="approximate",  # what moves while folders are listed may be counted twice, or not at all
    max_batch=100,  # each message is a file to be synchronized to the disk
    max_delay=10 * 365 * 24 * 3600.0,  # ten years
    max_body=64 * 2**20,  # bytes; held in memory several times over
    peek=ALL_CHANNELS,
    cancel=True,
    selective=ALL_CHANNELS - {"reserved"},
    wait_ready=True,
    store=True,
)


class DirectoryBackend(Backend):
    """Queues in the directory ``path``, on a disk of this machine; the one that it stands in must exist."""

    def __init__(self, path: Path, poll_seconds: float) -> None:
        self._place = Place(path, poll_seconds)

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def place(self) -> str:
        return str(self._place.root)

    async def open(self) -> None:
        await self._place.open()

    async def close(self) -> None:
        self._place.close()

    def clone(self) -> "DirectoryBackend":
        return DirectoryBackend(self._place.root, self._place.poll_seconds)

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> DirectoryDriver:
        return DirectoryDriver(self._place, prefix, lease_seconds)
