"""What a job, a push or a queue needs of its backend, and the refusal where that cannot have it.

Owns the words of those refusals: a declaration hears them from ``headrace check`` and from a worker at start, a push
when it is made.
"""

from headrace.driver import Capabilities
from headrace.errors import ConfigError
from headrace.job import JobOptions


def require_declared(options: JobOptions, backend: str, capabilities: Capabilities) -> None:
    """Raise `CapabilityError` for what a job's declaration needs of the backend that it is pushed to."""
    if options.unique:
        capabilities.require(backend, "unique", f"declare {options.name} without unique")


def refuse_too_long(what: str, handle_timeout: float | None, backend: str, capabilities: Capabilities) -> None:
    """Raise `ConfigError` if a ``handle_timeout`` is above what the backend can hold a delivery."""
    if handle_timeout is not None and handle_timeout > capabilities.max_run:
        raise ConfigError(
            f"the handle_timeout of {what} is {handle_timeout:g} s, and the backend {backend!r} can hold a delivery "
            f"for {capabilities.max_run:g} s at most" + hint_of(capabilities)
        )


def hint_of(capabilities: Capabilities) -> str:
    """What the backend says of its ``max_run``, as the end of a sentence."""
    return f": {capabilities.max_run_hint}" if capabilities.max_run_hint else ""
