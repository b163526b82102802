"""The entry point of the ``directory`` backend: options in, unopened backend out."""

from headrace.driver import Backend
from headrace.plugin import BackendOptions, hookimpl

from headrace_directory.backend import DirectoryBackend
from headrace_directory.settings import DirectorySettings


@hookimpl
def headrace_backend(options: BackendOptions) -> Backend:
    """Build the backend that the options describe, and touch nothing yet: no file, no socket."""
    settings = options.read(DirectorySettings)
    return DirectoryBackend(options.root / settings.path, settings.poll_seconds)
