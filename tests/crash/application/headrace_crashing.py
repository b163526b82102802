"""The backend ``crashing``: another one, in which one call of one process is struck by a fault.

Installed as any third party's, so that workers and commands have it by their configuration, and are otherwise as they
always are. Beside the options of the other one its table has ``around``, the other's name, and ``fault``.
"""

from pathlib import Path

from headrace.config import Config
from headrace.conformance.faulty import Fault, FaultyBackend
from headrace.driver import Backend
from headrace.plugin import BackendOptions, hookimpl
from headrace.registry import Registry


@hookimpl
def headrace_backend(options: BackendOptions) -> Backend:
    values = dict(options.values)
    name, fault = values.pop("around"), values.pop("fault")
    config = Config.from_mapping({"backends": {name: values}}, root=options.root, environ={})
    inner = Registry().build(config.backend_options(name))
    return FaultyBackend(inner, Fault(**{**fault, "once": Path(fault["once"])}))
