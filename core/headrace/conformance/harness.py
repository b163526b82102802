"""What an author tells the kit about a backend: how to make one, and what can be done to its server."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from headrace.config import Config
from headrace.driver import Backend
from headrace.registry import Registry

if TYPE_CHECKING:
    from headrace.testing.clock import FakeClock

#: What a harness may offer beyond `Harness.backend`; a case that needs one of them is skipped without it.
Ability = Literal["restart", "disconnect", "commands", "controlled"]


class Harness:
    """Derive from it, say how a backend is made, and hand it to `DriverSuite`.

    ::

        class LedgerHarness(Harness):
            def backend(self) -> Backend:
                return LedgerBackend(self.folder / "ledger")

    The kit uses fresh prefixes in whatever place the backend has, and removes them again,
    so a harness may use a server that others use. An instance is pickled for cases that need other
    processes: leave what cannot be pickled, such as a server's process, to a fixture, and keep its address.
    """

    #: An empty folder for the present case, removed after it.
    folder: Path

    #: Seconds; the shortest time that the backend, on a busy machine, reliably tells apart. Leases
    #: and delays of the cases are small multiples of it, or of the backend's granularity if that is more.
    tick: float = 0.25

    def backend(self) -> Backend:
        """A new backend, not open; every one of the same case uses the same place."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its backend is made: define backend()")

    async def restart(self) -> None:
        """Optional: end the server, without grace, and start it again. Returns when it can be reached."""
        raise NotImplementedError

    async def disconnect(self) -> None:
        """Optional: break every connection to the server, as a network does; new ones work at once."""
        raise NotImplementedError

    async def commands(self) -> int:
        """Optional: how many commands the server has run so far, this question not counted."""
        raise NotImplementedError

    def controlled(self, clock: "FakeClock") -> Backend:
        """Optional: a new backend with a place of its own, not open, whose time is ``clock``."""
        raise NotImplementedError

    def offers(self, ability: Ability) -> bool:
        """Whether this harness defines one of the optional methods."""
        return getattr(type(self), ability) is not getattr(Harness, ability)


class PluginHarness(Harness):
    """An installed backend, made as its configuration entry would make it. Relative paths start from `folder`."""

    def __init__(self, name: str, options: dict[str, Any] | None = None, *, tick: float = Harness.tick) -> None:
        self.name: Final = name
        self.options: Final = options or {}
        self.tick = tick

    def backend(self) -> Backend:
        config = Config.from_mapping({"backends": {self.name: self.options}}, root=self.folder, environ={})
        return Registry().build(config.backend_options(self.name))
