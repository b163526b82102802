"""``headrace new``: projects to go on with. So far one kind, a plugin with a backend."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.output import note, say
from headrace.printing import printable
from headrace.registry import Registry

EXAMPLES = (
    "headrace new backend ledger",
    "headrace new backend ledger --folder ~/src/headrace-ledger",
    "headrace new backend ledger --headrace ~/src/headrace",
)


def backend(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What configurations will call the backend.")],
    folder: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The project's folder, to be made; else NAME, in the present one."),
    ] = None,
    headrace: Annotated[
        str | None,
        typer.Option(
            metavar="ORIGIN",
            help="Where the project's tests find headrace: a folder, a file or a requirement; "
            "else where this one was installed from.",
        ),
    ] = None,
) -> None:
    """Make a project for a backend of your own: package, conformance tests, tox.

    Its driver has every verb of the contract with what it owes, still to be written. Its tests run
    at once, and fail case by case until that is done.
    """
    from headrace.scaffold.project import BackendProject

    _check_name(name)
    project = BackendProject(name, _requirement(headrace))
    if importlib.util.find_spec(project.package) is not None:
        raise typer.BadParameter(f"a package {project.package} is installed already.", param_hint="NAME")
    where = folder or Path(name)
    try:
        project.write(where)
    except FileExistsError as error:
        raise typer.BadParameter(f"{error.filename} is there already.", param_hint="--folder") from None
    shown = printable(str(where))
    say(f"{shown} holds {project.distribution}, a plugin to be written in src/{project.package}")
    say(f"cd {shown} && tox runs its tests, which fail case by case until then")


def _check_name(name: str) -> None:
    """Refuse a name that cannot be a backend's, or is one's already."""
    from headrace.scaffold.project import NAME

    if not NAME.fullmatch(name):
        allowed = "lower-case letters and digits, parts joined by a hyphen, beginning with a letter"
        raise typer.BadParameter(f'found "{printable(name)}"; allowed: {allowed}.', param_hint="NAME")
    for installed in Registry().names():
        if installed.name == name:
            raise typer.BadParameter(f"{installed} offers a backend of that name already.", param_hint="NAME")


def _requirement(given: str | None) -> str | None:
    """What a project's tox.ini says of headrace."""
    from headrace.scaffold.origin import requirement

    if given is not None:
        path = Path(given).expanduser()
        return f"headrace @ {path.resolve().as_uri()}" if path.exists() else given
    try:
        return requirement()
    except FileNotFoundError as error:
        note(f"headrace was installed from {error}, which is gone; --headrace says where the tests find it now")
        return None
