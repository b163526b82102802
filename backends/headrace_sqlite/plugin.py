"""The entry point of the ``sqlite`` backend: options in, unopened backend out."""

from headrace.driver import Backend
from headrace.plugin import BackendOptions, hookimpl
from headrace_sqlite.backend import SqliteBackend
from headrace_sqlite.settings import SqliteSettings


@hookimpl
def headrace_backend(options: BackendOptions) -> Backend:
    """Build a backend for the file that the options name, and touch nothing yet."""
    settings = options.read(SqliteSettings)
    if not settings.path or settings.path == ":memory:" or settings.path.startswith("file:"):
        raise options.error("path", f"{settings.path!r} is no file; the backend 'memory' keeps queues in memory")
    return SqliteBackend(options.root / settings.path, settings)
