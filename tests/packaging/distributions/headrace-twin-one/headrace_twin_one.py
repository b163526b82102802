"""One of two plugins that claim a name. Nobody must import either."""

raise RuntimeError("imported")
