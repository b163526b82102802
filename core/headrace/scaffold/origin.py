"""Where the installed headrace came from, so that a new project's environments can have the same."""

from importlib import metadata
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import msgspec


class _Repository(msgspec.Struct):
    vcs: str
    commit_id: str


class _DirectUrl(msgspec.Struct):
    """What installers note of a distribution that came from no index (PEP 610)."""

    url: Annotated[str, msgspec.Meta(min_length=1)]
    vcs_info: _Repository | None = None
    subdirectory: str | None = None


def requirement() -> str | None:
    """headrace as pip can install it once more; ``None`` where it is to be had from an index.

    Raises `FileNotFoundError` if it came from a folder or file that is gone.
    """
    noted = metadata.distribution("headrace").read_text("direct_url.json")
    if noted is None:
        return None
    origin = msgspec.json.decode(noted, type=_DirectUrl)
    url = origin.url
    if origin.vcs_info is not None:
        url = f"{origin.vcs_info.vcs}+{url}@{origin.vcs_info.commit_id}"
    elif url.startswith("file:") and not Path(path := unquote(urlsplit(url).path)).exists():
        raise FileNotFoundError(path)
    return f"headrace @ {url}#subdirectory={origin.subdirectory}" if origin.subdirectory else f"headrace @ {url}"
