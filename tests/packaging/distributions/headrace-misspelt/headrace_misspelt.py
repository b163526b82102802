"""A plugin with a hook that headrace does not have."""

from headrace.driver import Backend
from headrace.plugin import BackendOptions, hookimpl


@hookimpl
def headrace_bakend(options: BackendOptions) -> Backend:
    raise RuntimeError("called")
