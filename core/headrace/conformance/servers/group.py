"""Several servers that are one place, as a cluster is: they start together and end together."""

from types import TracebackType
from typing import Generic, TypeVar

from headrace.conformance.servers.process import ServerProcess

Server = TypeVar("Server", bound=ServerProcess)
Self = TypeVar("Self", bound="ServerGroup[ServerProcess]")


class ServerGroup(Generic[Server]):
    """As a context manager it starts, and at the end every server of it is killed and its folder removed."""

    def __init__(self) -> None:
        self.servers: list[Server] = []

    def _set_up(self) -> None:
        """Start the servers and join them."""
        raise NotImplementedError

    def close(self) -> None:
        """End every server and remove its folder."""
        for server in self.servers:
            server.close()

    def __enter__(self: Self) -> Self:
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
