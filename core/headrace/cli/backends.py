"""``headrace backends``: what is installed, and what each backend can do."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import typer

from headrace.app import Headrace
from headrace.cli.options import Json
from headrace.cli.output import Cell, Column, Row, duration, note, say_json, show_table
from headrace.cli.session import session_of
from headrace.config import Config
from headrace.driver import ALL_CHANNELS, Backend, Capabilities, Channel, in_order
from headrace.errors import HeadraceError
from headrace.registry import InstalledBackend, Unusable

EXAMPLES = ("headrace backends", "headrace backends --json")


@dataclass(frozen=True, slots=True)
class Offer:
    """An installed backend, or why it cannot be used."""

    installed: InstalledBackend
    backend: Backend | None
    error: HeadraceError | None


def backends(context: typer.Context, as_json: Json = False) -> None:
    """List the installed backends, their versions, and what they can do.

    What is emulated, headrace does where the backend cannot. Channels are named where something
    can be done with some of them only. With --json, an array of objects: name, distribution,
    version, module, versions, capabilities (null if it cannot be used) and error.
    """
    offers = look(session_of(context).app)
    if as_json:
        say_json([_as_object(each) for each in offers])
        return
    usable = [(each.installed, each.backend.capabilities) for each in offers if each.backend is not None]
    if usable:
        columns = [Column(""), *(Column(installed.name) for installed, _ in usable)]
        rows: list[Row] = [("distribution", *(str(installed) for installed, _ in usable))]
        rows += [(title, *(show(capabilities) for _, capabilities in usable)) for title, show in ROWS]
        show_table(columns, rows)
    for each in offers:
        if each.error is not None:
            # Where the configuration names it is no matter here: most often it does not.
            problem = each.error.problem if isinstance(each.error, Unusable) else each.error
            note(f"{each.installed.name} cannot be used: {problem}")


def look(app: Headrace) -> list[Offer]:
    """Load every installed backend; nothing is opened."""
    bare = Config.from_mapping({}, environ={})
    offers = []
    for installed in app.registry.names():
        options = app.config.backend_options(installed.name)
        try:
            # An entry of this name may be configured to use another plugin.
            if options.plugin != installed.name:
                options = bare.backend_options(installed.name)
            offers.append(Offer(installed, app.registry.build(options), None))
        except HeadraceError as error:
            offers.append(Offer(installed, None, error))
    return offers


def _yes(name: str) -> Callable[[Capabilities], Cell]:
    return lambda capabilities: Cell("yes", "green") if getattr(capabilities, name) else Cell("no", "dim")


def _of(declared: frozenset[Channel], possible: frozenset[Channel]) -> Cell:
    if declared >= possible:
        return Cell("all", "green")
    return Cell(", ".join(in_order(declared)) or "no", "" if declared else "dim")


def _delays(capabilities: Capabilities) -> str:
    if math.isinf(capabilities.max_delay):
        return "native"
    if not capabilities.max_delay:
        return "emulated"
    return f"native to {duration(capabilities.max_delay)}, then emulated"


def _run(capabilities: Capabilities) -> str:
    if not math.isinf(capabilities.max_run):
        return duration(capabilities.max_run)
    # A server that has not been asked may yet know a limit; what that depends on is known before.
    return f"no limit; {capabilities.max_run_hint}" if capabilities.max_run_hint else "no limit"


def _size(limit: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if limit >= size:
            return f"{limit / size:.3g} {unit}"
    return f"{limit} bytes"


#: What the table says of each backend, in the order of how much it matters.
ROWS: Final[Sequence[tuple[str, Callable[[Capabilities], Cell | str]]]] = (
    ("survives its processes", _yes("durable")),
    ("shared by processes", _yes("shared")),
    ("exactly in order", _yes("ordered")),
    ("delays", _delays),
    ("counts", lambda each: each.counts),
    ("unique", _yes("unique")),
    ("cancel", _yes("cancel")),
    ("list, show", lambda each: _of(each.peek, ALL_CHANNELS)),
    ("reload, flush by job or id", lambda each: _of(each.selective, ALL_CHANNELS - {"reserved"})),
    ("push again by id", _yes("idempotent")),
    ("leases", lambda each: each.leases),
    ("longest run", _run),
    ("largest job", lambda each: _size(each.max_body)),
    ("messages in one call", lambda each: f"{each.max_batch:,}"),
    ("driver contract", lambda each: str(each.contract)),
)


def _as_object(offer: Offer) -> dict[str, Any]:
    return {
        "name": offer.installed.name,
        "distribution": offer.installed.distribution,
        "version": offer.installed.version,
        "module": offer.installed.value,
        "versions": dict(offer.backend.versions) if offer.backend else {},
        "capabilities": offer.backend.capabilities.as_object() if offer.backend else None,
        "error": None if offer.error is None else str(offer.error),
    }
