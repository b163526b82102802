"""The command line: ``headrace``. A file per command; `headrace.cli.application` joins them.

Owns words, tables and exit codes. What a command does is done by the app, as in anybody's
own code: nothing can be done here that cannot be done there.
"""

import io
import sys


def main() -> None:
    """Run the command of this process' arguments, and exit with its status."""
    from headrace.cli.application import app

    for stream in (sys.stdout, sys.stderr):
        # What a terminal's encoding lacks is shown escaped, rather than ending the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="headrace")
