"""The entry point of the ``memory`` backend: options in, unopened backend out."""

from headrace.driver import Backend
from headrace.plugin import BackendOptions, hookimpl
from headrace_memory.backend import MemoryBackend
from headrace_memory.settings import MemorySettings


@hookimpl
def headrace_backend(options: BackendOptions) -> Backend:
    """Build a backend with a store of its own; its clones share that store."""
    options.read(MemorySettings)
    return MemoryBackend()
