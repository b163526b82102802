"""A plugin whose client library is missing."""

import clientless_client  # type: ignore[import-not-found]  # noqa: F401
