"""The conformance kit: proves that a backend keeps the contract of ``headrace.driver``.

An author derives `Harness`, which says how a backend is made, and `DriverSuite`, which makes
each case a pytest test. ``headrace conform NAME`` runs the same cases on an installed backend
and prints a scored report. Our own backends are proved in no other way. `FaultyBackend` lets
applications see what they do when a backend fails them.
"""

from headrace.conformance.faulty import Fault, FaultyBackend
from headrace.conformance.harness import Harness, PluginHarness
from headrace.conformance.suite import DriverSuite

#: The kit's own version: it grows when a case is added or changed. A report names it.
KIT = 1

__all__ = ["KIT", "DriverSuite", "Fault", "FaultyBackend", "Harness", "PluginHarness"]
